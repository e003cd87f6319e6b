//! The clients of one reactor: sends, ends, and what epoll says about them.
#![forbid(unsafe_code)]

#[cfg(feature = "io-uring")]
mod rounds;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollFlags};
use nix::sys::socket::{self, MsgFlags, Shutdown, sockopt};

use crate::border::{Status, count};
use crate::records::Records;
use crate::registry::lock;
#[cfg(feature = "io-uring")]
use crate::ring::Ring;
use crate::token::Token;
#[cfg(feature = "io-uring")]
use rounds::Rounds;

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

impl<'a> Entry<'a> {
    /// Of words that are in range.
    fn new(words: &[u32], data: &'a [u8]) -> Entry<'a> {
        let data = &data[words[1] as usize..][..words[2] as usize];
        Entry { client: words[0], data, ends: words[3] == END }
    }

    fn flags(&self) -> MsgFlags {
        if self.ends { SEND_LAST } else { SEND }
    }
}

/// Whether a slot is in use, and how far its client is.
#[derive(Default)]
struct Slot {
    socket: Option<OwnedFd>,
    /// Raised by each end of a client, so that a late event about it is known as such.
    generation: u32,
    /// The batch in which something had to wait for room last: nothing may overtake it within that batch.
    waits_in: u64,
    /// A send came up short, and the client is not writable again yet.
    full: bool,
    gone: bool,
}

/// See the module. The list of slots is locked for writing only to make it longer; each slot has a lock of
/// its own, so that a long batch does not hold up the reactor's thread.
pub struct Clients {
    slots: RwLock<Vec<Mutex<Slot>>>,
    free: Mutex<Vec<u32>>,
    batches: AtomicU64,
    #[cfg(feature = "io-uring")]
    ring: Mutex<Ring>,
}

impl Clients {
    /// None yet.
    pub fn new() -> Clients {
        Clients {
            slots: RwLock::default(),
            free: Mutex::default(),
            batches: AtomicU64::new(0),
            #[cfg(feature = "io-uring")]
            ring: Mutex::new(Ring::new()),
        }
    }

    /// None yet, and a ring that is there already.
    #[cfg(all(test, feature = "io-uring"))]
    pub fn with_ring(ring: Ring) -> Clients {
        Clients { ring: Mutex::new(ring), ..Clients::new() }
    }

    /// Takes a client in and watches it. Returns its number.
    ///
    /// # Errors
    /// epoll_ctl(2).
    pub fn insert(&self, socket: OwnedFd, epoll: &Epoll) -> Result<u32, Errno> {
        let client = self.free_slot();
        self.with(client, |slot| {
            let slot = slot.expect("a free slot exists");
            let token = Token::Client { client, generation: slot.generation };
            epoll.add(&socket, token.event(WATCHED))?;
            (slot.gone, slot.full, slot.waits_in) = (false, false, 0);
            slot.socket = Some(socket);
            Ok(client)
        })
        .inspect_err(|_| lock(&self.free).push(client))
    }

    /// Sends a batch; `results` gets one result for each entry, and `on_end` is called for each client that
    /// has ended.
    ///
    /// # Errors
    /// `BAD_ARGUMENT`: an entry names what is not there; nothing has been sent.
    pub fn send_batch(
        &self,
        epoll: &Epoll,
        entries: &[u32],
        data: &[u8],
        results: &mut [i32],
        on_end: impl Fn(),
    ) -> Result<(), Status> {
        let entries = entries.chunks_exact(WORDS_PER_ENTRY);
        if !entries.clone().all(|words| is_in_range(words, data.len())) {
            return Err(Status::BAD_ARGUMENT);
        }
        // 0 is the batch of slots that have sent nothing.
        let batch = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let on_end = |client| {
            lock(&self.free).push(client);
            on_end();
        };
        #[cfg(feature = "io-uring")]
        {
            let mut ring = lock(&self.ring);
            if ring.is_up() {
                let entries = entries.map(|words| Entry::new(words, data));
                Rounds::new(epoll, batch, &mut ring, results).send(&slots, entries, on_end);
                return Ok(());
            }
        }
        for (words, result) in entries.zip(results) {
            let entry = Entry::new(words, data);
            *result = match slots.get(entry.client as usize) {
                None => Status::BAD_HANDLE.0,
                Some(slot) => {
                    let mut slot = lock(slot);
                    let (result, has_ended) = slot.send(epoll, &entry, batch);
                    drop(slot);
                    if has_ended {
                        on_end(entry.client);
                    }
                    result
                }
            };
        }
        Ok(())
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
            Some(slot) if slot.generation == generation => slot.on_event(client, events, epoll, records),
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

const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// MSG_MORE: the FIN that follows at once goes in the same segment. Measured over loopback TCP, an end takes
/// a third less CPU so.
const SEND_LAST: MsgFlags = SEND.union(MsgFlags::from_bits_retain(libc::MSG_MORE));

fn is_in_range(words: &[u32], data_bytes: usize) -> bool {
    let (offset, length, flags) = (u64::from(words[1]), u64::from(words[2]), words[3]);
    offset + length <= data_bytes as u64 && length <= i32::MAX as u64 && flags & !END == 0
}

impl Slot {
    /// Returns the result of the entry and whether the client has ended with it.
    fn send(&mut self, epoll: &Epoll, entry: &Entry, batch: u64) -> (i32, bool) {
        match self.socket_for(batch) {
            Err(result) => (result, false),
            Ok(socket) => {
                let sent = send_now(socket, entry);
                self.conclude(epoll, entry, batch, sent)
            }
        }
    }

    /// Where an entry goes.
    ///
    /// # Errors
    /// The result of an entry that sends nothing: there is no client, or it is full.
    fn socket_for(&mut self, batch: u64) -> Result<&OwnedFd, i32> {
        let socket = self.socket.as_ref().ok_or(Status::BAD_HANDLE.0)?;
        if self.full {
            self.waits_in = batch;
        }
        if self.waits_in == batch { Err(0) } else { Ok(socket) }
    }

    /// What follows from what send(2) gave. Returns the same as [`Slot::send`].
    fn conclude(
        &mut self,
        epoll: &Epoll,
        entry: &Entry,
        batch: u64,
        sent: Result<usize, Errno>,
    ) -> (i32, bool) {
        let Some(socket) = &self.socket else {
            return (Status::BAD_HANDLE.0, false);
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(Errno::EAGAIN) => 0,
            Err(errno) => return (Status::from(errno).0, false),
        };
        if sent < entry.data.len() {
            let token = Token::Client { client: entry.client, generation: self.generation };
            let mut event = token.event(WATCHED | EpollFlags::EPOLLOUT);
            if let Err(errno) = epoll.modify(socket, &mut event) {
                // Unwatched it would never be writable again, so what was sent does not count any more.
                return (Status::from(errno).0, false);
            }
            self.full = true;
            self.waits_in = batch;
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
            let token = Token::Client { client, generation: self.generation };
            // A failure leaves it armed: more events than needed, which are told apart by `full`.
            let _still_armed = epoll.modify(socket, &mut token.event(WATCHED));
            self.full = false;
            records.client_writable(client);
        }
        let the_end = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if !self.gone && events.intersects(the_end) {
            self.gone = true;
            let failed = events.contains(EpollFlags::EPOLLERR);
            let errno = failed.then(|| socket::getsockopt(socket, sockopt::SocketError).unwrap_or(0));
            records.client_gone(client, errno.unwrap_or(0));
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

fn send_now(socket: &OwnedFd, entry: &Entry) -> Result<usize, Errno> {
    if entry.data.is_empty() {
        return Ok(0);
    }
    socket::send(socket.as_raw_fd(), entry.data, entry.flags())
}

/// Discards what the client sent, or close(2) would become a RST that can overtake the last bytes; then the
/// FIN is sent, also where the sender still holds the socket.
fn end_in_order(socket: &OwnedFd) {
    let mut discarded = [0; DISCARD_BYTES];
    for _ in 0..DISCARD_ROUNDS {
        match socket::recv(socket.as_raw_fd(), &mut discarded, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
            Ok(1..) => {}
            // The end, nothing more, or an error: there is nothing left to discard.
            Ok(0) | Err(_) => break,
        }
    }
    // A client that is gone already (ENOTCONN) needs no FIN.
    let _gone = socket::shutdown(socket.as_raw_fd(), Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollTimeout};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn an_event_about_the_client_before_is_not_recorded_for_the_next_of_that_number() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (clients, mut records) = (Clients::new(), Records::default());
        let (browser, first) = pair();
        let number = clients.insert(first, &epoll).unwrap();
        drop(browser);
        let mut events = [EpollEvent::empty(); 2];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO), Ok(1));
        let Token::Client { client, generation } = Token::decode(events[0].data()) else { panic!() };
        assert_eq!(client, number);
        clients.close(number, &epoll).unwrap();
        let (_browser, second) = pair();
        assert_eq!(clients.insert(second, &epoll), Ok(number));
        clients.on_event(client, generation, events[0].events(), &epoll, &mut records);
        assert!(records.is_empty());
        clients.on_event(client, generation + 1, events[0].events(), &epoll, &mut records);
        assert_eq!(records.len(), 24);
    }

    #[test]
    fn room_is_told_only_to_a_client_that_was_full() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (clients, mut records) = (Clients::new(), Records::default());
        let (_browser, socket) = pair();
        let client = clients.insert(socket, &epoll).unwrap();
        clients.on_event(client, 0, EpollFlags::EPOLLOUT, &epoll, &mut records);
        assert!(records.is_empty());
        let (block, mut results) = (vec![0; 1 << 20], [0]);
        clients.send_batch(&epoll, &[client, 0, 1 << 20, 0], &block, &mut results, || {}).unwrap();
        assert!((1..1 << 20).contains(&results[0]));
        for _ in 0..2 {
            clients.on_event(client, 0, EpollFlags::EPOLLOUT, &epoll, &mut records);
            assert_eq!(records.len(), 24);
        }
    }

    /// Room is told in the middle of the batch, between an entry that had to wait and one that must not go first.
    #[test]
    fn nothing_overtakes_an_entry_that_waits_for_room_within_its_batch() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (clients, records) = (Clients::new(), RefCell::new(Records::default()));
        let [(browser, socket), (_other_browser, other)] = [pair(), pair()];
        let client = clients.insert(socket, &epoll).unwrap();
        let other = clients.insert(other, &epoll).unwrap();
        let mut block = vec![0; 1 << 20];
        let mut results = [0; 4];
        clients.send_batch(&epoll, &[client, 0, 1 << 20, 0], &block, &mut results, || {}).unwrap();
        while socket::recv(browser.as_raw_fd(), &mut block, MsgFlags::MSG_DONTWAIT).is_ok() {}
        let tell = || clients.on_event(client, 0, EpollFlags::EPOLLOUT, &epoll, &mut records.borrow_mut());
        let batch = [[client, 0, 1, 0], [other, 0, 1, END], [other, 0, 1, 0], [client, 0, 1, 0]].concat();
        clients.send_batch(&epoll, &batch, &block, &mut results, tell).unwrap();
        assert_eq!(results, [0, 1, Status::BAD_HANDLE.0, 0]);
        assert_eq!(records.borrow().len(), 24);
        clients.send_batch(&epoll, &[client, 0, 1, 0], &block, &mut results, || {}).unwrap();
        assert_eq!(results[0], 1);
    }

    #[test]
    fn numbers_are_small_and_each_is_given_once() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let clients = Clients::new();
        let (_browser, socket) = pair();
        for expected in 0..600 {
            assert_eq!(clients.insert(socket.try_clone().unwrap(), &epoll), Ok(expected));
        }
        for number in [7, 300] {
            clients.close(number, &epoll).unwrap();
            assert_eq!(clients.close(number, &epoll), Err(Status::BAD_HANDLE));
            assert_eq!(clients.insert(socket.try_clone().unwrap(), &epoll), Ok(number));
        }
        assert_eq!(clients.close_all(&epoll), 600);
    }

    #[test]
    fn what_lies_outside_of_the_data_is_out_of_range() {
        assert!(is_in_range(&[0, 3, 2, END], 5));
        assert!(is_in_range(&[0, 5, 0, 0], 5));
        assert!(!is_in_range(&[0, 4, 2, 0], 5));
        assert!(!is_in_range(&[0, 6, 0, 0], 5));
        assert!(!is_in_range(&[0, u32::MAX, u32::MAX, 0], 5));
        assert!(!is_in_range(&[0, 0, 1 << 31, 0], usize::MAX));
        assert!(!is_in_range(&[0, 0, 0, 2], 5));
    }
}
