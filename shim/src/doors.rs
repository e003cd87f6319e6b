//! The listeners as one reactor sees them: watched, resting, or done with.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollFlags};

use crate::intake::{Kind, Listener};
use crate::sys;
use crate::token::Token;

/// How long a listener rests that cannot be accepted from, or not be watched, or is left to others.
const REST: Duration = Duration::from_millis(100);

/// What an accept came to.
pub enum Accepted {
    Connection(OwnedFd, Kind),
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

/// In the order of the intake's listeners.
#[derive(Default)]
pub struct Doors(Vec<Door>);

impl Doors {
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
                Ok(connection) => return Accepted::Connection(connection, door.listener.kind),
                // About a connection that is gone, or about a signal.
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !is_final => return Accepted::Nothing,
                // EINVAL: it was shut down.
                Err(Errno::EAGAIN | Errno::EINVAL) if is_final => break (State::Shut, Accepted::Nothing),
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

    /// Whether one is shared.
    pub fn is_any_shared(&self) -> bool {
        self.0.iter().any(|door| !door.listener.is_ours)
    }

    /// Lets the other processes have their turn at that listener: the kernel wakes the first in the queue that
    /// sleeps, and this reactor goes to its end.
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

    /// Watches those that are new or have rested. Returns whether any is watched now that was not, and why one
    /// could not be: the errno of epoll_ctl(2). It rests then.
    pub fn open(&mut self, epoll: &Epoll) -> (bool, Option<Errno>) {
        let mut any = false;
        let mut failure = None;
        for (index, door) in self.0.iter_mut().enumerate() {
            if matches!(door.state, State::RestsUntil(end) if end <= Instant::now()) {
                door.state = match watch(&door.listener, index, epoll) {
                    Ok(()) => {
                        any = true;
                        State::Open
                    }
                    Err(errno) => {
                        failure = Some(errno);
                        State::RestsUntil(Instant::now() + REST)
                    }
                };
            }
        }
        (any, failure)
    }

    /// When the next one has rested.
    pub fn earliest(&self) -> Option<Instant> {
        let ends = self.0.iter().filter_map(|door| match door.state {
            State::RestsUntil(end) => Some(end),
            State::Open | State::Shut => None,
        });
        ends.min()
    }

    /// Watches none any more.
    pub fn clear(&mut self, epoll: &Epoll) {
        for door in self.0.drain(..) {
            if door.state == State::Open {
                unwatch(&door.listener, epoll);
            }
        }
    }
}

/// Of the reactors that watch a listener the kernel wakes only one (EPOLLEXCLUSIVE).
fn watch(listener: &Listener, index: usize, epoll: &Epoll) -> Result<(), Errno> {
    epoll
        .add(&listener.socket, Token::Listener(index).event(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE))
}

fn unwatch(listener: &Listener, epoll: &Epoll) {
    // It is watched, so there is no way for this to fail.
    let _cannot_fail = epoll.delete(&listener.socket);
}
