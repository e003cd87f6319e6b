/**
 * The library that speaks to Valkey and Redis. Loaded at run time alone, where a store is configured: it costs an isolate
 * 20 MB. It is a module of its own since a bundle gives a package of CommonJS another shape to who loads it itself.
 * @module
 */
export { createClient } from "@redis/client";
