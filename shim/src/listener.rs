//! Listening sockets: bound at a path that is never taken from somebody who listens and never left behind, or
//! adopted.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Gid, Group};
use streaming_daemon_border::Status;

use crate::registry::lock;
use crate::sys;

/// The type of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Seqpacket = 0,
    Stream = 1,
}

impl Kind {
    pub fn from_number(number: u32) -> Result<Kind, Status> {
        match number {
            0 => Ok(Kind::Seqpacket),
            1 => Ok(Kind::Stream),
            _ => Err(Status::BAD_ARGUMENT),
        }
    }

    fn socket_type(self) -> SockType {
        match self {
            Kind::Seqpacket => SockType::SeqPacket,
            Kind::Stream => SockType::Stream,
        }
    }
}

/// A listening socket, ours or adopted.
pub struct Listener {
    pub socket: OwnedFd,
    pub kind: Kind,
    /// Else somebody else made it, and may have given it to other processes too.
    pub is_ours: bool,
    /// Where we bound it, until it is removed.
    bound: Mutex<Option<BoundPath>>,
}

impl Listener {
    /// Listens at `path` with `mode` and, unless it is empty, with `group`. On failure nothing is left at the path that
    /// was not there before.
    pub fn bind(kind: Kind, path: &str, mode: u32, group: &str) -> Result<Listener, Status> {
        if path.is_empty() || mode > 0o777 {
            return Err(Status::BAD_ARGUMENT);
        }
        let address = UnixAddr::new(path)?;
        let group = match group {
            "" => None,
            name => Some(Group::from_name(name)?.ok_or(Status::NO_SUCH_GROUP)?.gid),
        };
        let path = Path::new(path);
        make_room(path, &address)?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, kind.socket_type(), flags, None)?;
        bind_with_mode(&socket, &address, mode)?;
        let bound = BoundPath::of(path)?;
        match open_for_business(&socket, path, mode, group) {
            Ok(()) => Ok(Listener { socket, kind, is_ours: true, bound: Mutex::new(Some(bound)) }),
            Err(status) => {
                bound.remove()?;
                Err(status)
            }
        }
    }

    /// Takes over a listening socket. On failure the fd stays the caller's.
    pub fn adopt(fd: RawFd) -> Result<Listener, Status> {
        let socket = sys::take_over(fd)?;
        match listener_kind(&socket) {
            Ok(kind) => Ok(Listener { socket, kind, is_ours: false, bound: Mutex::new(None) }),
            Err(status) => {
                let _caller_s = socket.into_raw_fd();
                Err(status)
            }
        }
    }

    /// Undoes the bind, or the adoption.
    pub fn undo(self) -> Result<(), Status> {
        if !self.is_ours {
            let _caller_s = self.socket.into_raw_fd();
            return Ok(());
        }
        self.remove_path()
    }

    /// Removes the path that is ours.
    pub fn remove_path(&self) -> Result<(), Status> {
        let bound = lock(&self.bound).take();
        bound.map_or(Ok(()), |path| path.remove())
    }

    /// Lets nobody connect any more, if it is ours to decide.
    pub fn shut(&self) -> Result<(), Status> {
        if self.is_ours {
            socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both)?;
        }
        Ok(())
    }
}

/// bind(2) makes the file with the socket's own mode, less the umask: never with more than `mode`, since Linux 2.6. A
/// kernel that did not would make a file that is too open for a moment, to which nobody can connect before the listen(2).
fn bind_with_mode(socket: &OwnedFd, address: &UnixAddr, mode: u32) -> Result<(), Errno> {
    fchmod(socket, Mode::from_bits_truncate(mode))?;
    socket::bind(socket.as_raw_fd(), address)
}

/// Group and mode first: from the listen(2) on, whoever they let in can connect.
fn open_for_business(socket: &OwnedFd, path: &Path, mode: u32, group: Option<Gid>) -> Result<(), Status> {
    if let Some(group) = group {
        lchown(path, None, Some(group.as_raw()))?;
    }
    if fs::symlink_metadata(path)?.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket::listen(socket, Backlog::MAXALLOWABLE)?;
    Ok(())
}

/// Removes a stale socket; refuses anything else that is there.
fn make_room(path: &Path, address: &UnixAddr) -> Result<(), Status> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(Status::NOT_A_SOCKET),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let found = BoundPath::of(path)?;
    // A datagram socket asks without troubling a listener with a connection: a bound socket of a connecting
    // type answers EPROTOTYPE, one that nobody holds any more ECONNREFUSED (unix(7)).
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    match socket::connect(probe.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EPROTOTYPE) => Err(Status::SOCKET_LIVE),
        Err(Errno::ECONNREFUSED) => found.remove(),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A path that we bound, recognised again by device and inode.
struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundPath {
    fn of(path: &Path) -> Result<BoundPath, Status> {
        let found = fs::symlink_metadata(path)?;
        Ok(BoundPath { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Removes the path, unless somebody else's is there by now.
    fn remove(&self) -> Result<(), Status> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.dev() == self.device && found.ino() == self.inode => {
                Ok(fs::remove_file(&self.path)?)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The kind of a listener that somebody else made, which is set up as ours are.
fn listener_kind(fd: &OwnedFd) -> Result<Kind, Status> {
    let option = |name| match sys::socket_option(fd.as_fd(), name) {
        Err(Errno::ENOTSOCK) => Err(Status::NOT_A_LISTENER),
        other => Ok(other?),
    };
    let kind = match option(libc::SO_TYPE)? {
        libc::SOCK_SEQPACKET => Kind::Seqpacket,
        libc::SOCK_STREAM => Kind::Stream,
        _ => return Err(Status::NOT_A_LISTENER),
    };
    if option(libc::SO_DOMAIN)? != libc::AF_UNIX || option(libc::SO_ACCEPTCONN)? == 0 {
        return Err(Status::NOT_A_LISTENER);
    }
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    // Whoever shares it shares that flag, and systemd takes it off as it starts another process (`NonBlocking=` of
    // systemd.service(5)). accept(2) waits no longer than this even so.
    socket::setsockopt(fd, ReceiveTimeout, &TimeVal::milliseconds(1))?;
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_no_more_than_its_mode_from_the_bind_on() {
        let path = std::env::temp_dir().join(format!("shim-bind-{}", std::process::id()));
        let flags = SockFlag::SOCK_CLOEXEC;
        for mode in [0o600, 0o660, 0o666] {
            let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            bind_with_mode(&socket, &UnixAddr::new(&path).unwrap(), mode).unwrap();
            let found = fs::symlink_metadata(&path).unwrap().mode() & 0o7777;
            fs::remove_file(&path).unwrap();
            assert_eq!(found & !mode, 0, "{found:o}");
        }
    }
}
