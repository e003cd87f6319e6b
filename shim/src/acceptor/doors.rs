//! The listeners as the acceptor's thread sees them: watched, resting, or done with.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::listener::{Kind, Listener};
use crate::passed::Passed;
use crate::sys;

/// How long a listener rests that cannot be accepted from, or not be watched, or is left to others.
pub const REST: Duration = Duration::from_millis(100);

/// What an accept came to.
pub enum Accepted {
    Connection(Passed, Kind),
    /// Nobody waits.
    Nothing,
    /// The listener rests.
    Failed(Errno),
}

struct Door {
    listener: Arc<Listener>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the epoll set; the others are not.
    Open,
    RestsUntil(Instant),
    /// Nobody can come through any more.
    Shut,
}

/// In the order of the acceptor's listeners. The tokens are their numbers, on top of a bit of their own.
#[derive(Default)]
pub struct Doors(Vec<Door>);

impl Doors {
    const TOKEN: u64 = 1 << 63;

    /// The door that a token stands for.
    pub fn of_token(token: u64) -> Option<usize> {
        (token & Doors::TOKEN != 0).then_some((token & !Doors::TOKEN) as usize)
    }

    /// How many there are, those that are shut included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody can come in any more.
    pub fn are_all_shut(&self) -> bool {
        self.0.iter().all(|door| door.state == State::Shut)
    }

    /// Takes up one more listener, which [`Doors::open`] will watch.
    pub fn add(&mut self, listener: Arc<Listener>) {
        self.0.push(Door { listener, state: State::RestsUntil(Instant::now()) });
    }

    /// Accepts one connection.
    ///
    /// # Arguments
    /// * `is_final` - nobody can connect any more, so that a listener with nobody waiting is done with
    pub fn accept(&mut self, index: usize, is_final: bool, epoll: &Epoll) -> Accepted {
        let Some(door) = self.open_door(index) else {
            return Accepted::Nothing;
        };
        let (state, accepted) = loop {
            match sys::accept(door.listener.socket.as_fd()) {
                Ok(connection) => {
                    if !door.listener.is_ours {
                        sys::pass_rights_only(connection.as_fd());
                    }
                    return Accepted::Connection(connection, door.listener.kind);
                }
                // About a connection that is gone, or about a signal.
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !is_final => return Accepted::Nothing,
                // EINVAL: it was shut down, and nobody waits.
                Err(Errno::EAGAIN | Errno::EINVAL) => break (State::Shut, Accepted::Nothing),
                Err(errno) => break (State::RestsUntil(Instant::now() + REST), Accepted::Failed(errno)),
            }
        };
        door.state = state;
        unwatch(&door.listener, epoll);
        accepted
    }

    /// Whether other processes may accept from that listener as well.
    pub fn is_shared(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|door| !door.listener.is_ours)
    }

    /// Lets the other processes have their turn at that listener: the kernel wakes the first in the queue that
    /// sleeps, and this process goes to its end.
    pub fn give_turn(&mut self, index: usize, epoll: &Epoll) {
        if let Some(door) = self.open_door(index) {
            unwatch(&door.listener, epoll);
            if watch(&door.listener, index, epoll).is_err() {
                // The next `open` tries again, and tells.
                door.state = State::RestsUntil(Instant::now());
            }
        }
    }

    /// Leaves those that are shared to the other processes for a rest.
    pub fn leave_shared(&mut self, epoll: &Epoll) {
        for door in self.0.iter_mut().filter(|door| !door.listener.is_ours && door.state == State::Open) {
            door.state = State::RestsUntil(Instant::now() + REST);
            unwatch(&door.listener, epoll);
        }
    }

    fn open_door(&mut self, index: usize) -> Option<&mut Door> {
        self.0.get_mut(index).filter(|door| door.state == State::Open)
    }

    /// Watches those that are new or have rested. Returns which, and why one could not be: the errno of epoll_ctl(2).
    /// It rests then.
    pub fn open(&mut self, epoll: &Epoll) -> (Vec<usize>, Option<Errno>) {
        let mut opened = Vec::new();
        let mut failure = None;
        for (index, door) in self.0.iter_mut().enumerate() {
            if matches!(door.state, State::RestsUntil(end) if end <= Instant::now()) {
                door.state = match watch(&door.listener, index, epoll) {
                    Ok(()) => {
                        opened.push(index);
                        State::Open
                    }
                    Err(errno) => {
                        failure = Some(errno);
                        State::RestsUntil(Instant::now() + REST)
                    }
                };
            }
        }
        (opened, failure)
    }

    /// When the next one has rested.
    pub fn earliest(&self) -> Option<Instant> {
        let ends = self.0.iter().filter_map(|door| match door.state {
            State::RestsUntil(end) => Some(end),
            State::Open | State::Shut => None,
        });
        ends.min()
    }
}

/// Of the processes that watch a listener the kernel wakes only one (EPOLLEXCLUSIVE).
fn watch(listener: &Listener, index: usize, epoll: &Epoll) -> Result<(), Errno> {
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
    epoll.add(&listener.socket, EpollEvent::new(flags, Doors::TOKEN | index as u64))
}

fn unwatch(listener: &Listener, epoll: &Epoll) {
    // It is watched, so there is no way for this to fail.
    let _cannot_fail = epoll.delete(&listener.socket);
}
