//! What only the kernel's interface can do for the daemon. ABI.md is the contract, and [`ffi`] its C functions.

mod acceptor;
mod bell;
mod clients;
mod events;
mod ffi;
mod framing;
mod handoff;
mod listener;
mod passed;
mod policy;
mod process;
mod reactor;
mod records;
mod registry;
mod sys;

pub use ffi::*;
