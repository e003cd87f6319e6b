//! See ABI.md.
