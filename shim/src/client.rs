//! The clients of one reactor: sends, ends, and what epoll says about them.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollFlags};
use nix::sys::socket::{self, MsgFlags, Shutdown, sockopt};

use crate::border::{Status, count};
use crate::records::Records;
use crate::registry::lock;
use crate::token::Token;

const END: u32 = 1;
const WORDS_PER_ENTRY: usize = 4;
/// Slots are made by so many at least.
const SLOTS_AT_ONCE: u32 = 256;
/// How much unread data is discarded at most, in rounds of [`DISCARD_BYTES`]: who sends faster than it is
/// thrown away is not waited for.
const DISCARD_ROUNDS: usize = 64;
const DISCARD_BYTES: usize = 4096;

/// One entry of a batch.
struct Entry<'a> {
    client: u32,
    data: &'a [u8],
    ends: bool,
}

/// Whether a slot is in use, and how far its client is.
#[derive(Default)]
struct Slot {
    socket: Option<OwnedFd>,
    /// Raised by each end of a client, so that a late event about it is known as such.
    generation: u32,
    /// The batch in which a send came up short last: nothing may overtake the rest within it.
    short_in: u64,
    /// A send came up short, and the client is not writable again yet.
    full: bool,
    gone: bool,
}

/// See the module. The list of slots is locked for writing only to make it longer; each slot has a lock of
/// its own, so that a long batch does not hold up the thread that waits.
pub struct Clients {
    slots: RwLock<Vec<Mutex<Slot>>>,
    free: Mutex<Vec<u32>>,
    batches: AtomicU64,
}

impl Clients {
    pub fn new() -> Clients {
        Clients {
            slots: RwLock::default(),
            free: Mutex::default(),
            batches: AtomicU64::new(0),
        }
    }

    /// Takes a client in and watches it. Returns its number.
    ///
    /// # Errors
    /// epoll_ctl(2).
    pub fn insert(&self, socket: OwnedFd, epoll: &Epoll) -> Result<u32, Errno> {
        let client = self.free_slot();
        self.with(client, |slot| {
            let slot = slot.expect("a free slot exists");
            let token = Token::Client {
                client,
                generation: slot.generation,
            };
            epoll.add(&socket, token.event(WATCHED))?;
            (slot.gone, slot.full, slot.short_in) = (false, false, 0);
            slot.socket = Some(socket);
            Ok(client)
        })
        .inspect_err(|_| lock(&self.free).push(client))
    }

    /// Sends a batch; `results` gets one result for each entry. Returns how many clients have ended.
    ///
    /// # Errors
    /// `BAD_ARGUMENT`: an entry names what is not there; nothing has been sent.
    pub fn send_batch(
        &self,
        epoll: &Epoll,
        entries: &[u32],
        data: &[u8],
        results: &mut [i32],
    ) -> Result<u32, Status> {
        let entries = entries.chunks_exact(WORDS_PER_ENTRY);
        if !entries.clone().all(|words| is_in_range(words, data.len())) {
            return Err(Status::BAD_ARGUMENT);
        }
        // 0 is the batch of slots that have sent nothing.
        let batch = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut ended = 0;
        for (words, result) in entries.zip(results) {
            let data = &data[words[1] as usize..][..words[2] as usize];
            let entry = Entry {
                client: words[0],
                data,
                ends: words[3] == END,
            };
            *result = match slots.get(entry.client as usize) {
                None => Status::BAD_HANDLE.0,
                Some(slot) => {
                    let mut slot = lock(slot);
                    let (result, has_ended) = slot.send(epoll, &entry, batch);
                    drop(slot);
                    if has_ended {
                        ended += 1;
                        lock(&self.free).push(entry.client);
                    }
                    result
                }
            };
        }
        Ok(ended)
    }

    /// Closes a client at once.
    ///
    /// # Errors
    /// `BAD_HANDLE`: there is none of that number.
    pub fn close(&self, client: u32, epoll: &Epoll) -> Result<(), Status> {
        let was_open = self.with(client, |slot| slot.is_some_and(|slot| slot.close(epoll)));
        if !was_open {
            return Err(Status::BAD_HANDLE);
        }
        lock(&self.free).push(client);
        Ok(())
    }

    /// Closes every client. Returns how many there were.
    pub fn close_all(&self, epoll: &Epoll) -> u32 {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut free = lock(&self.free);
        let mut closed = 0;
        for (client, slot) in (0..).zip(slots.iter()) {
            if lock(slot).close(epoll) {
                free.push(client);
                closed += 1;
            }
        }
        closed
    }

    /// Records what epoll has said about a client, if it is still the same one.
    pub fn on_event(
        &self,
        client: u32,
        generation: u32,
        events: EpollFlags,
        epoll: &Epoll,
        records: &mut Records,
    ) {
        self.with(client, |slot| match slot {
            Some(slot) if slot.generation == generation => {
                slot.on_event(client, events, epoll, records)
            }
            _ => {}
        });
    }

    fn with<T>(&self, client: u32, look: impl FnOnce(Option<&mut Slot>) -> T) -> T {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        match slots.get(client as usize) {
            None => look(None),
            Some(slot) => look(Some(&mut lock(slot))),
        }
    }

    /// The lowest numbers come first.
    fn free_slot(&self) -> u32 {
        if let Some(client) = lock(&self.free).pop() {
            return client;
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let first_new = slots.len() as u32;
        let end = first_new + SLOTS_AT_ONCE.max(first_new / 2);
        slots.resize_with(end as usize, Mutex::default);
        lock(&self.free).extend((first_new + 1..end).rev());
        first_new
    }
}

/// Edge-triggered: said once when it begins. EPOLLOUT comes on top while a client is full.
const WATCHED: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLET);

fn is_in_range(words: &[u32], data_bytes: usize) -> bool {
    let (offset, length, flags) = (words[1] as usize, words[2] as usize, words[3]);
    offset + length <= data_bytes && length <= i32::MAX as usize && flags & !END == 0
}

impl Slot {
    /// Returns the result of the entry and whether the client has ended with it.
    fn send(&mut self, epoll: &Epoll, entry: &Entry, batch: u64) -> (i32, bool) {
        let Some(socket) = &self.socket else {
            return (Status::BAD_HANDLE.0, false);
        };
        if self.full || self.short_in == batch {
            return (0, false);
        }
        let sent = if entry.data.is_empty() {
            0
        } else {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match socket::send(socket.as_raw_fd(), entry.data, flags) {
                Ok(sent) => sent,
                Err(Errno::EAGAIN) => 0,
                Err(errno) => return (Status::from(errno).0, false),
            }
        };
        if sent < entry.data.len() {
            let token = Token::Client {
                client: entry.client,
                generation: self.generation,
            };
            let mut event = token.event(WATCHED | EpollFlags::EPOLLOUT);
            if let Err(errno) = epoll.modify(socket, &mut event) {
                // Unwatched it would never be writable again, so what was sent does not count any more.
                return (Status::from(errno).0, false);
            }
            self.full = true;
            self.short_in = batch;
        } else if entry.ends {
            end_in_order(socket);
            self.close(epoll);
            return (count(sent), true);
        }
        (count(sent), false)
    }

    fn on_event(&mut self, client: u32, events: EpollFlags, epoll: &Epoll, records: &mut Records) {
        let Some(socket) = &self.socket else { return };
        if self.full && events.contains(EpollFlags::EPOLLOUT) {
            let token = Token::Client {
                client,
                generation: self.generation,
            };
            // A failure leaves it armed: more events than needed, which are told apart by `full`.
            let _still_armed = epoll.modify(socket, &mut token.event(WATCHED));
            self.full = false;
            records.client_writable(client);
        }
        let the_end = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if !self.gone && events.intersects(the_end) {
            self.gone = true;
            let errno = socket::getsockopt(socket, sockopt::SocketError).unwrap_or(0);
            records.client_gone(client, errno);
        }
    }

    /// Closes the socket, if there is one.
    fn close(&mut self, epoll: &Epoll) -> bool {
        let Some(socket) = self.socket.take() else {
            return false;
        };
        // The sender may still hold the same socket, and close(2) alone would then leave it in the epoll set.
        let _not_watched = epoll.delete(&socket);
        self.generation = (self.generation + 1) & Token::GENERATIONS;
        true
    }
}

/// Discards what the client sent, or close(2) would become a RST that can overtake the last bytes; then the
/// FIN is sent, also where the sender still holds the socket.
fn end_in_order(socket: &OwnedFd) {
    let mut discarded = [0; DISCARD_BYTES];
    for _ in 0..DISCARD_ROUNDS {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        match socket::recv(socket.as_raw_fd(), &mut discarded, flags) {
            Ok(1..) => {}
            // The end, nothing more, or an error: there is nothing left to discard.
            Ok(0) | Err(_) => break,
        }
    }
    // A client that is gone already (ENOTCONN) needs no FIN.
    let _gone = socket::shutdown(socket.as_fd().as_raw_fd(), Shutdown::Write);
}
