//! The clients of one reactor: sends, ends, and what epoll says about them. Only the caller's calls touch them.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{self, MsgFlags, sockopt};
use slab::Slab;
use streaming_daemon_border::{Status, count};

use crate::events::Event;
use crate::passed::Passed;
use crate::records::{CLIENT_GONE, CLIENT_WRITABLE, HEAD_BYTES, Records};

const END: u32 = 1;
const WORDS_PER_ENTRY: usize = 4;
/// The most that one event comes to.
pub const EVENT_BYTES: usize = 2 * HEAD_BYTES;

/// Said once, and not again before the next epoll_ctl(2): so of one client at most two events wait, the one that it
/// was watched for and the one for which a short send watched it anew.
const GONE: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLONESHOT);
const WRITABLE: EpollFlags = EpollFlags::EPOLLOUT.union(EpollFlags::EPOLLONESHOT);
/// poll(2)'s word for EPOLLRDHUP, for which nix has no name.
const LEFT: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
const BROKEN: EpollFlags = EpollFlags::EPOLLHUP.union(EpollFlags::EPOLLERR);

const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// MSG_MORE: the FIN that follows at once goes in the same segment. Measured over loopback TCP, an end takes
/// a third less CPU so.
const SEND_LAST: MsgFlags = SEND.union(MsgFlags::from_bits_retain(libc::MSG_MORE));

struct Client {
    socket: Passed,
    /// Tells it from those that had its number before.
    serial: u32,
    /// A send came up short, and the client is not writable again yet.
    is_full: bool,
    is_gone: bool,
}

/// Whether a client that was taken in is watched.
pub enum Watched {
    Yes,
    /// It had left before: nothing is told of it any more.
    IsGone,
    Cannot(Errno),
}

/// See the module.
#[derive(Default)]
pub struct Clients {
    slots: Slab<Client>,
    serial: u32,
}

impl Clients {
    /// Takes a client in and watches it. Returns its number, and what came of that.
    pub fn insert(&mut self, socket: Passed, epoll: &Epoll) -> (u32, Watched) {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let slot = self.slots.vacant_entry();
        let client = slot.key() as u32;
        let watched = if is_gone(&socket) {
            Watched::IsGone
        } else {
            match epoll.add(&socket, EpollEvent::new(GONE, token(client, serial))) {
                Ok(()) => Watched::Yes,
                Err(errno) => Watched::Cannot(errno),
            }
        };
        let is_gone = matches!(watched, Watched::IsGone);
        slot.insert(Client { socket, serial, is_full: false, is_gone });
        (client, watched)
    }

    /// Sends a batch; `results` gets one result for each entry. Returns how many clients have ended.
    pub fn send_batch(
        &mut self,
        epoll: &Epoll,
        entries: &[u32],
        data: &[u8],
        results: &mut [i32],
    ) -> Result<u32, Status> {
        let entries = entries.chunks_exact(WORDS_PER_ENTRY);
        if !entries.clone().all(|words| is_in_range(words, data.len())) {
            return Err(Status::BAD_ARGUMENT);
        }
        // A number that becomes free is not given again before the next `insert`, which is after the batch.
        let mut ended = 0;
        for (words, result) in entries.zip(results) {
            let data = &data[words[1] as usize..][..words[2] as usize];
            let (client, ends) = (words[0], words[3] == END);
            let Some(slot) = self.slots.get_mut(client as usize) else {
                *result = Status::BAD_HANDLE.0;
                continue;
            };
            *result = slot.send(client, data, ends, epoll).map_or_else(|errno| -(errno as i32), count);
            if ends && !slot.is_full && *result == count(data.len()) {
                self.close_in_order(client, epoll);
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn close_in_order(&mut self, client: u32, epoll: &Epoll) {
        let client = self.slots.remove(client as usize);
        client.unwatch(epoll);
        client.socket.end();
    }

    /// Closes a client at once.
    pub fn close(&mut self, client: u32, epoll: &Epoll) -> Result<(), Status> {
        let client = self.slots.try_remove(client as usize).ok_or(Status::BAD_HANDLE)?;
        client.unwatch(epoll);
        Ok(())
    }

    /// Moves a client to where `add` puts it, which says whether it has taken it.
    pub fn give_away(
        &mut self,
        client: u32,
        epoll: &Epoll,
        add: impl FnOnce(&mut dyn FnMut() -> Passed) -> bool,
    ) -> Result<bool, Status> {
        let slot = self.slots.get(client as usize).ok_or(Status::BAD_HANDLE)?;
        // Before it is the other one's, who may close it at once.
        slot.unwatch(epoll);
        let serial = slot.serial;
        let given = add(&mut || self.slots.remove(client as usize).socket);
        if !given && let Some(slot) = self.slots.get(client as usize) {
            let watched = if slot.is_full { GONE | WRITABLE } else { GONE };
            // ENOMEM: it can be sent to, but not be waited for.
            let _unwatched = epoll.add(&slot.socket, EpollEvent::new(watched, token(client, serial)));
        }
        Ok(given)
    }

    /// Closes every client. Returns how many there were.
    pub fn close_all(&mut self, epoll: &Epoll) -> u32 {
        let mut closed = 0;
        for client in self.slots.drain() {
            client.unwatch(epoll);
            closed += 1;
        }
        closed
    }

    /// Writes what epoll has said about a client, if it is still the same one.
    pub fn on_event(&mut self, event: Event, epoll: &Epoll, records: &mut Records) {
        let (client, serial) = (event.token as u32, (event.token >> 32) as u32);
        match self.slots.get_mut(client as usize) {
            Some(slot) if slot.serial == serial => {
                slot.on_event(client, EpollFlags::from_bits_retain(event.flags), epoll, records);
            }
            _ => {}
        }
    }
}

/// Whether a client has left, as [`GONE`] and [`BROKEN`] would say of it.
fn is_gone(socket: &Passed) -> bool {
    let mut watched = [PollFd::new(socket.as_fd(), LEFT)];
    // An error, which is one of memory, says nothing about the client.
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn token(client: u32, serial: u32) -> u64 {
    u64::from(serial) << 32 | u64::from(client)
}

fn is_in_range(words: &[u32], data_bytes: usize) -> bool {
    let (offset, length, flags) = (u64::from(words[1]), u64::from(words[2]), words[3]);
    offset + length <= data_bytes as u64 && length <= i32::MAX as u64 && flags & !END == 0
}

impl Client {
    /// Returns how many bytes the kernel took.
    fn send(&mut self, client: u32, data: &[u8], ends: bool, epoll: &Epoll) -> Result<usize, Errno> {
        if self.is_full || data.is_empty() {
            return Ok(0);
        }
        let sent = match socket::send(self.socket.as_raw_fd(), data, if ends { SEND_LAST } else { SEND }) {
            Err(Errno::EAGAIN) => 0,
            sent => sent?,
        };
        if sent < data.len() {
            // Unwatched it would never be writable again: then what was sent does not count any more.
            self.watch(client, epoll, WRITABLE | self.still_to_tell())?;
            self.is_full = true;
        }
        Ok(sent)
    }

    fn on_event(&mut self, client: u32, flags: EpollFlags, epoll: &Epoll, records: &mut Records) {
        if self.is_full && flags.intersects(WRITABLE | BROKEN) {
            self.is_full = false;
            records.push([CLIENT_WRITABLE, client, 0, 0, 0, 0], &[]);
        }
        if !self.is_gone && flags.intersects(GONE | BROKEN) {
            self.is_gone = true;
            let failed = flags.contains(EpollFlags::EPOLLERR);
            let errno = failed.then(|| socket::getsockopt(&self.socket, sockopt::SocketError).unwrap_or(0));
            records.push([CLIENT_GONE, client, errno.unwrap_or(0).unsigned_abs(), 0, 0, 0], &[]);
        }
        let mut watched = self.still_to_tell();
        if self.is_full {
            watched |= WRITABLE;
        }
        if !watched.is_empty() {
            // ENOENT: it could not be watched from the beginning.
            let _unwatched = self.watch(client, epoll, watched);
        }
    }

    fn still_to_tell(&self) -> EpollFlags {
        if self.is_gone { EpollFlags::empty() } else { GONE }
    }

    fn watch(&self, client: u32, epoll: &Epoll, flags: EpollFlags) -> Result<(), Errno> {
        epoll.modify(&self.socket, &mut EpollEvent::new(flags, token(client, self.serial)))
    }

    fn unwatch(&self, epoll: &Epoll) {
        // The sender may still hold the same socket, and close(2) alone would then leave it in the epoll set.
        let _not_watched = epoll.delete(&self.socket);
    }
}
