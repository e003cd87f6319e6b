//! An io_uring(7) that sends: many sends for one system call, all of them through before it returns.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{EnterFlags, IoUring, Probe, opcode, types};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::border::Status;

/// What send(2) is told.
pub struct Send<'a> {
    pub socket: BorrowedFd<'a>,
    pub data: &'a [u8],
    /// On top of MSG_DONTWAIT, without which a full socket would be waited for, and MSG_NOSIGNAL.
    pub flags: MsgFlags,
}

/// See the module. There is no ring where the system has or allows none, and none any more after a failure.
pub struct Ring(Option<IoUring>);

impl Ring {
    /// The most sends at once.
    pub const SENDS: usize = 128;

    /// One of its own, or none.
    pub fn new() -> Ring {
        // Whatever the reason is (ENOSYS, EPERM, a limit): all of it can be done without.
        Ring(set_up().ok())
    }

    /// Whether there is a ring.
    pub fn is_up(&self) -> bool {
        self.0.is_some()
    }

    /// Sends up to [`Ring::SENDS`] and no more than `results` has room for. Writes for each what send(2) would
    /// have returned, or `-errno`. Returns how many of them, the first ones, have been tried: all, unless the
    /// ring has failed; it is given up then.
    pub fn send_all<'a>(&mut self, sends: impl Iterator<Item = Send<'a>>, results: &mut [i32]) -> usize {
        let Some(mut uring) = self.0.take() else {
            return 0;
        };
        let mut flight = Flight { uring: &mut uring, results, queued: 0, done: 0 };
        flight.queue(sends);
        let flown = flight.fly();
        let tried = flight.taken();
        drop(flight);
        if flown.is_ok() {
            self.0 = Some(uring);
        }
        tried
    }
}

/// # Errors
/// io_uring_setup(2), mmap(2), io_uring_register(2). `EOPNOTSUPP`: it cannot send.
fn set_up() -> Result<IoUring, Status> {
    let uring = IoUring::new(Ring::SENDS as u32)?;
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe)?;
    if !probe.is_supported(opcode::Send::CODE) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    Ok(uring)
}

/// Sends that the kernel may be at: dropping them waits until it is at none any more, so that on no way out of
/// the function that has it do its sockets and buffers go before.
///
/// What the kernel has not taken from the queue stays there, so the ring is to be dropped then.
struct Flight<'f> {
    uring: &'f mut IoUring,
    results: &'f mut [i32],
    /// How many were put into the queue, from which the kernel takes them in their order.
    queued: usize,
    /// How many of them it is through with.
    done: usize,
}

impl<'f> Flight<'f> {
    /// Puts the sends into the queue, where the kernel does not look before [`Flight::fly`].
    fn queue<'a: 'f>(&mut self, sends: impl Iterator<Item = Send<'a>>) {
        let mut queue = self.uring.submission();
        let room = queue.capacity().min(self.results.len());
        for (n, send) in sends.take(room).enumerate() {
            let flags = send.flags | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let bytes = u32::try_from(send.data.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(types::Fd(send.socket.as_raw_fd()), send.data.as_ptr(), bytes)
                .flags(flags.bits())
                .build()
                .user_data(n as u64);
            // SAFETY: the socket and the data live for 'a, so longer than this `Flight`, which cannot go before the
            // kernel is through with all that it has taken.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            self.queued += 1;
        }
    }

    /// Has the kernel do all that is queued.
    ///
    /// # Errors
    /// io_uring_enter(2): some have perhaps not been taken.
    fn fly(&mut self) -> Result<(), Errno> {
        while self.done < self.queued {
            let entered = self.uring.submit_and_wait(self.queued - self.done);
            self.note_done();
            check(entered)?;
        }
        Ok(())
    }

    /// How many sends the kernel has taken from the queue.
    fn taken(&mut self) -> usize {
        self.queued - self.uring.submission().len()
    }

    fn note_done(&mut self) {
        for completion in self.uring.completion() {
            self.done += 1;
            self.results[completion.user_data() as usize] = completion.result();
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.note_done();
        while self.done < self.taken() {
            let left = (self.taken() - self.done) as u32;
            let ring = self.uring.submitter();
            // SAFETY: nothing is submitted, and there is no argument whose memory would have to be valid.
            let waited = unsafe { ring.enter::<libc::sigset_t>(0, left, EnterFlags::GETEVENTS.bits(), None) };
            self.note_done();
            if check(waited).is_err() {
                // The kernel may be reading memory that is about to go: there is no sound way on.
                std::process::abort();
            }
        }
    }
}

/// # Errors
/// Those of io_uring_enter(2) after which it is not simply called again.
fn check(entered: io::Result<usize>) -> Result<(), Errno> {
    match entered.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
