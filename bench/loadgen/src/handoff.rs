//! Apache's part: a client's connection, and the one message that hands it over.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrStorage, UnixAddr, accept4, bind, connect, getsockname, listen, send, sendmsg,
    setsockopt, socket, socketpair, sockopt,
};
use nix::unistd::unlink;

use crate::clock::now_ns;

/// Which kind of socket the clients sit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// TCP over loopback.
    Tcp,
    /// An AF_UNIX stream socketpair.
    Pair,
}

/// The daemon's socket, as the Apache module sees it.
#[derive(Debug, Clone)]
pub struct Door {
    /// SOCK_SEQPACKET or SOCK_STREAM.
    pub kind: SockType,
    /// Where it is bound.
    pub address: UnixAddr,
}

/// Connects to `door` as the Apache module does: non-blocking. EAGAIN says that the backlog is full.
pub fn knock(door: &Door) -> nix::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Unix,
        door.kind,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    connect(fd.as_raw_fd(), &door.address)?;
    Ok(fd)
}

/// Sends the one message: `payload` with `client` attached. Waits at most the module's 200 ms for room. Returns when
/// the send began.
pub fn hand_over(connection: &OwnedFd, payload: &[u8], client: BorrowedFd<'_>) -> nix::Result<u64> {
    let fds = [client.as_raw_fd()];
    let began = now_ns();
    let send = || {
        let (data, control) = ([IoSlice::new(payload)], [ControlMessage::ScmRights(&fds)]);
        sendmsg::<()>(
            connection.as_raw_fd(),
            &data,
            &control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
    };
    let sent = match send() {
        Err(Errno::EAGAIN) => {
            poll(
                &mut [PollFd::new(connection.as_fd(), PollFlags::POLLOUT)],
                PollTimeout::from(200u8),
            )?;
            send()?
        }
        other => other?,
    };
    if sent == payload.len() {
        Ok(began)
    } else {
        Err(Errno::EMSGSIZE)
    }
}

/// A web server that hands its clients over to the daemon.
#[derive(Debug, Clone)]
pub struct Front {
    address: SockaddrIn,
    request: Vec<u8>,
}

impl Front {
    /// `url` as `http://127.0.0.1:8080/path`; `None` if it is not like that.
    pub fn new(url: &str) -> Option<Self> {
        let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
        let address: SocketAddrV4 = authority.parse().ok()?;
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        visible(path).then(|| Front {
            address: SockaddrIn::from(address),
            request: format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes(),
        })
    }

    /// A client that has asked it.
    pub fn ask(&self) -> nix::Result<OwnedFd> {
        let client = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        connect(client.as_raw_fd(), &self.address)?;
        // A new connection's buffer takes so little at once.
        send(client.as_raw_fd(), &self.request, MsgFlags::MSG_NOSIGNAL)?;
        Ok(client)
    }
}

/// Makes connected pairs: the client's end and the end that goes to the daemon.
#[derive(Debug)]
pub struct Clients {
    /// For TCP: where Apache listens. The first byte of the sources 127.0.x.y is the player's number.
    listener: Option<(OwnedFd, SockaddrIn, u8)>,
}

/// How many connections share one source address; well below the 28,232 ephemeral ports that Linux has by default.
const PER_SOURCE: usize = 8192;

impl Clients {
    /// `player` keeps the source addresses of several processes apart.
    pub fn new(kind: ClientKind, player: u8) -> nix::Result<Self> {
        if kind == ClientKind::Pair {
            return Ok(Clients { listener: None });
        }
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
        listen(&fd, Backlog::new(1024)?)?;
        let address = getsockname(fd.as_raw_fd())?;
        Ok(Clients {
            listener: Some((fd, address, player)),
        })
    }

    /// The `index`th client: `(its own end, the end that Apache accepted)`. The latter is non-blocking, as Apache's
    /// are. `receive_buffer` is set before the connect, so that it bounds the window from the first byte on.
    pub fn make(
        &self,
        index: usize,
        receive_buffer: Option<usize>,
    ) -> nix::Result<(OwnedFd, OwnedFd)> {
        let Some((listener, address, player)) = &self.listener else {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let (mine, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
            if let Some(bytes) = receive_buffer {
                // A Unix socket is bounded by what its sender may have under way.
                setsockopt(&theirs, sockopt::SndBuf, &bytes)?;
            }
            return Ok((mine, theirs));
        };
        let mine = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        if let Some(bytes) = receive_buffer {
            setsockopt(&mine, sockopt::RcvBuf, &bytes)?;
        }
        setsockopt(&mine, sockopt::IpBindAddressNoPort, &true)?;
        let source = Ipv4Addr::new(
            127,
            1,
            *player,
            u8::try_from(1 + index / PER_SOURCE).unwrap_or(u8::MAX),
        );
        bind(
            mine.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )?;
        // On loopback the handshake is over when this returns, and the accept that follows finds it.
        connect(mine.as_raw_fd(), address)?;
        let theirs = accept4(
            listener.as_raw_fd(),
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        // SAFETY: accept4 has just made this fd and nobody else has it.
        let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
        Ok((mine, theirs))
    }
}

/// How many TCP segments with data this socket has received (tcp(7), tcpi_data_segs_in); `None` where it is not TCP.
/// With TCP_NODELAY at the sender that is one per send(2).
pub fn data_segments_in(fd: RawFd) -> Option<u32> {
    // struct tcp_info of linux/tcp.h; the libc crate's ends before this field.
    const OFFSET: usize = 152;
    let mut info = [0u8; 256];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the buffer and its length are valid for the call, which writes at most `len` bytes.
    let status = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if status != 0 || (len as usize) < OFFSET + 4 {
        return None;
    }
    let bytes = info[OFFSET..OFFSET + 4].try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// Binds and listens at `door`, with the longest backlog that the system gives. A socket file that nobody listens on
/// any more is replaced.
pub fn listen_at(door: &Door) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, door.kind, flags, None)?;
    match (bind(fd.as_raw_fd(), &door.address), door.address.path()) {
        (Err(Errno::EADDRINUSE), Some(path)) if knock(door).err() == Some(Errno::ECONNREFUSED) => {
            unlink(path)?;
            bind(fd.as_raw_fd(), &door.address)?;
        }
        (bound, _) => bound?,
    }
    listen(&fd, Backlog::MAXALLOWABLE)?;
    Ok(fd)
}

/// The address family of a socket, to tell TCP from the rest.
pub fn is_inet(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd)
        .is_ok_and(|a| a.as_sockaddr_in().is_some() || a.as_sockaddr_in6().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::recv;

    #[test]
    fn both_kinds_make_connected_pairs() {
        for kind in [ClientKind::Tcp, ClientKind::Pair] {
            let clients = Clients::new(kind, 3).unwrap();
            let (mine, theirs) = clients.make(PER_SOURCE * 2, None).unwrap();
            assert_eq!(send(theirs.as_raw_fd(), b"abc", MsgFlags::empty()), Ok(3));
            let mut buf = [0; 8];
            assert_eq!(recv(mine.as_raw_fd(), &mut buf, MsgFlags::empty()), Ok(3));
            assert_eq!(is_inet(theirs.as_raw_fd()), kind == ClientKind::Tcp);
        }
    }

    #[test]
    fn a_front_is_asked_for_the_path_of_its_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap();
        let front = Front::new(&format!("http://{authority}/a?b=c")).unwrap();
        let client = front.ask().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(client);
        let mut request = String::new();
        std::io::Read::read_to_string(&mut server, &mut request).unwrap();
        assert_eq!(
            request,
            format!("GET /a?b=c HTTP/1.1\r\nHost: {authority}\r\n\r\n")
        );
        for url in [
            "127.0.0.1:1/",
            "http://localhost:1/",
            "http://127.0.0.1:1",
            "http://127.0.0.1:1/a b",
        ] {
            assert!(Front::new(url).is_none(), "{url}");
        }
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("loadgen-{}-stale", std::process::id()));
        let door = Door {
            kind: SockType::SeqPacket,
            address: UnixAddr::new(&path).unwrap(),
        };
        drop(listen_at(&door).unwrap());
        let live = listen_at(&door).unwrap();
        assert_eq!(listen_at(&door).err(), Some(Errno::EADDRINUSE));
        assert!(knock(&door).is_ok());
        drop(live);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn data_segments_count_the_sends() {
        let (mine, theirs) = Clients::new(ClientKind::Tcp, 0)
            .unwrap()
            .make(0, None)
            .unwrap();
        setsockopt(&theirs, sockopt::TcpNoDelay, &true).unwrap();
        for _ in 0..3 {
            send(theirs.as_raw_fd(), b"abc", MsgFlags::empty()).unwrap();
        }
        let mut buf = [0; 16];
        recv(mine.as_raw_fd(), &mut buf, MsgFlags::empty()).unwrap();
        assert_eq!(data_segments_in(mine.as_raw_fd()), Some(3));
        let (pair, _other) = Clients::new(ClientKind::Pair, 0)
            .unwrap()
            .make(0, None)
            .unwrap();
        assert_eq!(data_segments_in(pair.as_raw_fd()), None);
    }
}
