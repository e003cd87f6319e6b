//! The floor: the kernel's part of a streaming daemon's work and nothing else, on one thread as a C program would do
//! it. epoll, accept, recvmsg with SCM_RIGHTS, TCP_NODELAY, a watch for the client's end, one send(2) of ready-made
//! bytes per event at its time, shutdown, close. It reads no JSON, keeps no metrics and holds nothing back: a client
//! that is full is dropped.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, Shutdown, SockFlag, accept4, recvmsg, send, setsockopt,
    shutdown, sockopt,
};

use crate::clock::now_ns;
use crate::handoff::is_inet;
use crate::plan::Plan;

const LISTENER: u64 = u64::MAX;
/// Added to an fd in the event's data: a handoff connection whose message has not come yet.
const PENDING: u64 = 1 << 32;

struct Client {
    /// `None`: it went away, and its place is free once its turn in the queue has come.
    fd: Option<OwnedFd>,
    next_send: usize,
    slot: u32,
}

struct Floor {
    epoll: Epoll,
    listener: OwnedFd,
    plan: Vec<(u32, Box<[u8]>)>,
    interval_ns: u64,
    max_clients: usize,
    clients: Vec<Client>,
    free: Vec<usize>,
    /// Who is due when. All wait one interval, so that the first in is the first due.
    queue: VecDeque<(u64, usize)>,
    listening: bool,
    payload: Box<[u8]>,
}

/// Serves until a signal ends the process. At `max_clients` it leaves further handoffs to others on the same socket.
/// Events wait for the next multiple of `wake_ns`, so that those of a moment share a wake-up.
pub fn serve(
    listener: OwnedFd,
    plan: &Plan,
    interval_ns: u64,
    wake_ns: u64,
    max_clients: usize,
) -> io::Result<()> {
    let mut floor = Floor {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        listener,
        plan: plan
            .sends
            .iter()
            .map(|s| (s.slot, s.text.clone().into_bytes().into_boxed_slice()))
            .collect(),
        interval_ns,
        max_clients,
        clients: Vec::new(),
        free: Vec::new(),
        queue: VecDeque::new(),
        listening: false,
        payload: vec![0; 131_072].into_boxed_slice(),
    };
    floor.listen()?;
    notify_ready()?;
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let timeout = match floor.queue.front() {
            None => EpollTimeout::NONE,
            Some(&(due, _)) => {
                let wake = due.next_multiple_of(wake_ns);
                let ms = wake.saturating_sub(now_ns()).div_ceil(1_000_000);
                EpollTimeout::try_from(i64::try_from(ms).unwrap_or(i64::MAX))
                    .unwrap_or(EpollTimeout::MAX)
            }
        };
        let ready = match floor.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..ready] {
            match event.data() {
                LISTENER => floor.accept()?,
                data if data >= PENDING => floor.receive_late((data - PENDING) as RawFd),
                client => floor.clients[client as usize].fd = None,
            }
        }
        floor.tick(now_ns() / wake_ns * wake_ns);
        if !floor.listening && floor.live() < max_clients {
            floor.listen()?;
        }
    }
}

impl Floor {
    fn live(&self) -> usize {
        self.clients.len() - self.free.len()
    }

    fn listen(&mut self) -> io::Result<()> {
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        self.epoll
            .add(&self.listener, EpollEvent::new(interest, LISTENER))?;
        self.listening = true;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.live() < self.max_clients {
            let fd = match accept4(
                self.listener.as_raw_fd(),
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            ) {
                Ok(fd) => fd,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::ECONNABORTED | Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // SAFETY: accept4 has just made this fd and nobody else has it.
            let connection = unsafe { OwnedFd::from_raw_fd(fd) };
            if !self.receive(&connection) {
                self.epoll.add(
                    &connection,
                    EpollEvent::new(EpollFlags::EPOLLIN, PENDING + fd as u64),
                )?;
                // The epoll set keeps it by number until its message comes.
                let _ = connection.into_raw_fd();
            }
        }
        self.epoll.delete(&self.listener)?;
        self.listening = false;
        Ok(())
    }

    fn receive_late(&mut self, fd: RawFd) {
        // SAFETY: `accept` gave this fd up to the epoll set, and a level-triggered event about it comes once.
        let connection = unsafe { OwnedFd::from_raw_fd(fd) };
        self.receive(&connection);
    }

    /// Takes the handoff's one message. `false`: it has not come yet.
    fn receive(&mut self, connection: &OwnedFd) -> bool {
        let mut control = cmsg_space!(RawFd);
        let mut data = [IoSliceMut::new(&mut self.payload)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message =
            match recvmsg::<()>(connection.as_raw_fd(), &mut data, Some(&mut control), flags) {
                Ok(message) => message,
                Err(error) => return error != Errno::EAGAIN,
            };
        let fd = message.cmsgs().ok().and_then(|mut c| {
            c.find_map(|c| {
                if let ControlMessageOwned::ScmRights(fds) = c {
                    fds.first().copied()
                } else {
                    None
                }
            })
        });
        if let Some(fd) = fd {
            // SAFETY: the kernel has just installed this fd for this process and nobody else has it.
            let client = unsafe { OwnedFd::from_raw_fd(fd) };
            self.admit(client);
        }
        true
    }

    fn admit(&mut self, fd: OwnedFd) {
        if is_inet(fd.as_raw_fd()) && setsockopt(&fd, sockopt::TcpNoDelay, &true).is_err() {
            return;
        }
        let index = self.free.last().copied().unwrap_or(self.clients.len());
        let gone = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if self
            .epoll
            .add(&fd, EpollEvent::new(gone, index as u64))
            .is_err()
        {
            return;
        }
        let client = Client {
            fd: Some(fd),
            next_send: 0,
            slot: 0,
        };
        if self.free.pop().is_some() {
            self.clients[index] = client;
        } else {
            self.clients.push(client);
        }
        self.step(index, now_ns());
    }

    /// Serves everyone who was due by `now`.
    fn tick(&mut self, now: u64) {
        while let Some(&(due, index)) = self.queue.front()
            && due <= now
        {
            self.queue.pop_front();
            self.clients[index].slot += 1;
            self.step(index, due);
        }
    }

    /// Sends what this client's slot has, one send(2) each, then ends it or puts it back in the queue.
    fn step(&mut self, index: usize, due: u64) {
        let client = &mut self.clients[index];
        let Some(fd) = &client.fd else {
            self.free.push(index);
            return;
        };
        let mut failed = false;
        while let Some((slot, bytes)) = self.plan.get(client.next_send)
            && *slot <= client.slot
            && !failed
        {
            let sent = send(
                fd.as_raw_fd(),
                bytes,
                MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            );
            failed = sent != Ok(bytes.len());
            client.next_send += 1;
        }
        if failed || client.next_send == self.plan.len() {
            // ENOTCONN: the client has reset it already; the close below is what counts.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
            client.fd = None;
            self.free.push(index);
        } else {
            self.queue.push_back((due + self.interval_ns, index));
        }
    }
}

/// READY=1 to whoever started it with NOTIFY_SOCKET (sd_notify(3)).
fn notify_ready() -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) => UnixDatagram::unbound()?
            .send_to(b"READY=1", path)
            .map(|_| ()),
        None => Ok(()),
    }
}

/// The listener that was passed as fd 3 (sd_listen_fds(3)), if one was.
pub fn passed_listener() -> Option<OwnedFd> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").unwrap_or(0) == 0 {
        return None;
    }
    // SAFETY: the environment says that fd 3 was passed to this process, which has not used it yet.
    Some(unsafe { OwnedFd::from_raw_fd(3) })
}
