//! The limits of the daemon, and who may hand off.
#![forbid(unsafe_code)]

use streaming_daemon_border::Status;

/// A payload longer than this is surely a mistake in a configuration.
const LARGEST_BUFFER_BYTES: u32 = 64 * 1024 * 1024;

/// The limits of ABI.md's `shim_policy`, and who may hand off.
#[derive(Debug)]
pub struct Policy {
    pub max_connections: u32,
    pub handoff_timeout_ms: u32,
    pub handoff_buffer_bytes: usize,
    pub client_timeout_ms: i32,
    pub max_pending: usize,
    uids: Vec<u32>,
}

impl Policy {
    /// `BAD_ARGUMENT`: not eight words, or one out of its range.
    pub fn new(words: &[u32], uids: &[u32]) -> Result<Policy, Status> {
        let &[max_connections, handoff_timeout_ms, buffer, client_timeout_ms, max_pending, 0, 0, 0] = words
        else {
            return Err(Status::BAD_ARGUMENT);
        };
        if handoff_timeout_ms == 0 || max_pending == 0 || !(1..=LARGEST_BUFFER_BYTES).contains(&buffer) {
            return Err(Status::BAD_ARGUMENT);
        }
        Ok(Policy {
            max_connections,
            handoff_timeout_ms,
            handoff_buffer_bytes: buffer as usize,
            client_timeout_ms: i32::try_from(client_timeout_ms).map_err(|_| Status::BAD_ARGUMENT)?,
            max_pending: max_pending as usize,
            uids: uids.to_vec(),
        })
    }

    /// Whether processes of that user may hand off.
    pub fn allows(&self, uid: u32) -> bool {
        self.uids.is_empty() || self.uids.contains(&uid)
    }
}
