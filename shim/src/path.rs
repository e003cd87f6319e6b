//! A socket's path in the file system: never taken from somebody who listens, never left behind.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group};

use crate::border::Status;
use crate::registry::lock;

/// The umask belongs to the process; two binds at once must not restore each other's.
static UMASK: Mutex<()> = Mutex::new(());

/// A path that we bound, recognised again by device and inode.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundPath {
    fn of(path: &Path) -> Result<BoundPath, Status> {
        let found = fs::symlink_metadata(path)?;
        Ok(BoundPath { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn is_still_there(&self) -> Result<bool, Status> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok(found.dev() == self.device && found.ino() == self.inode),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the path, unless somebody else's is there by now.
    ///
    /// # Errors
    /// lstat(2), unlink(2).
    pub fn remove(&self) -> Result<(), Status> {
        if self.is_still_there()? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// A listening socket at `path`, with `mode` and, unless it is empty, with `group`.
///
/// # Errors
/// `SOCKET_LIVE`, `NOT_A_SOCKET`, `NO_SUCH_GROUP`, or what the system said; then nothing is left at the path
/// that was not there before.
pub fn listen_at(path: &str, kind: SockType, mode: u32, group: &str) -> Result<(OwnedFd, BoundPath), Status> {
    let address = UnixAddr::new(path)?;
    let group = match group {
        "" => None,
        name => Some(Group::from_name(name)?.ok_or(Status::NO_SUCH_GROUP)?.gid),
    };
    let path = Path::new(path);
    make_room(path, &address)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, kind, flags, None)?;
    bind_under_umask(&socket, &address, mode)?;
    let bound = BoundPath::of(path)?;
    match open_for_business(&socket, path, mode, group) {
        Ok(()) => Ok((socket, bound)),
        Err(status) => {
            bound.remove()?;
            Err(status)
        }
    }
}

/// The file never has more than `mode`, not even for a moment.
fn bind_under_umask(socket: &OwnedFd, address: &UnixAddr, mode: u32) -> Result<(), Errno> {
    let _one_at_a_time = lock(&UMASK);
    let before = umask(Mode::from_bits_truncate(!mode & 0o777));
    let bound = socket::bind(socket.as_raw_fd(), address);
    umask(before);
    bound
}

/// Group and mode first: from the listen(2) on, whoever they let in can connect.
fn open_for_business(socket: &OwnedFd, path: &Path, mode: u32, group: Option<Gid>) -> Result<(), Status> {
    if let Some(group) = group {
        lchown(path, None, Some(group.as_raw()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_no_more_than_its_mode_from_the_bind_on() {
        let path = std::env::temp_dir().join(format!("shim-bind-{}", std::process::id()));
        let flags = SockFlag::SOCK_CLOEXEC;
        for mode in [0o600, 0o660, 0o666] {
            let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            bind_under_umask(&socket, &UnixAddr::new(&path).unwrap(), mode).unwrap();
            let found = fs::symlink_metadata(&path).unwrap().mode() & 0o7777;
            fs::remove_file(&path).unwrap();
            assert_eq!(found, mode, "{found:o}");
        }
    }

    #[test]
    fn the_umask_is_afterwards_what_it_was() {
        let path = std::env::temp_dir().join(format!("shim-umask-{}", std::process::id()));
        let socket =
            socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let mask = || {
            let _one_at_a_time = lock(&UMASK);
            let mask = umask(Mode::from_bits_truncate(0o077));
            umask(mask);
            mask
        };
        let before = mask();
        bind_under_umask(&socket, &UnixAddr::new(&path).unwrap(), 0o606).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(mask(), before);
    }
}
