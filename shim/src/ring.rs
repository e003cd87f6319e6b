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

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::thread;

    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, recv, send, socketpair};

    use super::*;
    use crate::client::Clients;
    use crate::sys;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    /// A ring; none where the system refuses one, which is asked here in another way.
    fn ring() -> Option<Ring> {
        let ring = Ring::new();
        assert_eq!(ring.is_up(), is_allowed());
        ring.is_up().then_some(ring)
    }

    /// One that is not enabled, so that it refuses io_uring_enter(2): EBADFD. None where there can be no ring.
    fn broken_ring() -> Option<Ring> {
        is_allowed().then(|| Ring(Some(IoUring::builder().setup_r_disabled().build(8).unwrap())))
    }

    fn is_allowed() -> bool {
        // A `struct io_uring_params` has 120 bytes.
        let mut params = [0_u64; 15];
        // SAFETY: the pointer is to as many bytes as the kernel reads and writes, and zeros ask for nothing special.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
        sys::take_over(fd as i32).is_ok()
    }

    fn to<'a>(socket: &'a OwnedFd, data: &'a [u8]) -> Send<'a> {
        Send { socket: socket.as_fd(), data, flags: MsgFlags::empty() }
    }

    fn fill(socket: &OwnedFd) {
        while send(socket.as_raw_fd(), &[0; 1 << 16], MsgFlags::MSG_DONTWAIT).is_ok() {}
    }

    /// What can be read at once.
    fn read(socket: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; 1 << 16];
        let bytes = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
        buffer.truncate(bytes);
        Ok(buffer)
    }

    #[test]
    fn each_send_has_its_own_result_and_a_full_socket_is_not_waited_for() {
        let Some(mut ring) = ring() else { return };
        let [(one, first), (_slow, full), (gone, broken), (two, last)] = [pair(), pair(), pair(), pair()];
        fill(&full);
        drop(gone);
        let block = vec![0; 1 << 22];
        let sends = [to(&first, b"one"), to(&full, b"x"), to(&broken, b"y"), to(&last, &block)];
        let mut results = [i32::MIN; 5];
        assert_eq!(ring.send_all(sends.into_iter(), &mut results), 4);
        assert_eq!(results[..3], [3, -libc::EAGAIN, -libc::EPIPE]);
        assert!((1..1 << 22).contains(&results[3]));
        assert_eq!(results[4], i32::MIN);
        assert_eq!(read(&one), Ok(b"one".to_vec()));
        assert!(!read(&two).unwrap().is_empty());
        assert!(ring.is_up());
    }

    #[test]
    fn no_more_are_tried_than_there_is_room_for() {
        let Some(mut ring) = ring() else { return };
        let (browser, socket) = pair();
        let sends = || (0..Ring::SENDS + 9).map(|_| to(&socket, b"x"));
        for room in [Ring::SENDS + 9, Ring::SENDS, 5, 0] {
            let tried = room.min(Ring::SENDS);
            let mut results = vec![0; room];
            assert_eq!(ring.send_all(sends(), &mut results), tried);
            assert_eq!(results.iter().sum::<i32>(), tried as i32);
            assert_eq!(read(&browser).map_or(0, |bytes| bytes.len()), tried);
        }
    }

    #[test]
    fn a_ring_that_fails_has_tried_nothing_and_is_given_up() {
        let Some(mut ring) = broken_ring() else { return };
        let (browser, socket) = pair();
        for _ in 0..2 {
            assert_eq!(ring.send_all([to(&socket, b"x")].into_iter(), &mut [0]), 0);
            assert!(!ring.is_up());
        }
        assert_eq!(read(&browser), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_batch_goes_out_over_a_ring_that_fails() {
        let Some(ring) = broken_ring() else { return };
        assert_goes_out(&Clients::with_ring(ring));
    }

    #[test]
    fn after_a_panic_nothing_is_sent_and_the_ring_is_given_up() {
        let Some(mut ring) = ring() else { return };
        let (browser, socket) = pair();
        let sends = (0..3).map(|n| if n < 2 { to(&socket, b"x") } else { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(|| ring.send_all(sends, &mut [0; 3]))).is_err());
        assert!(!ring.is_up());
        assert_eq!(read(&browser), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_flight_does_not_go_before_what_the_kernel_has_taken_is_done() {
        if !is_allowed() {
            return;
        }
        let mut uring = IoUring::new(8).unwrap();
        let (slow, socket) = pair();
        fill(&socket);
        let (mut results, (start, started)) = ([i32::MIN], mpsc::channel());
        let mut flight = Flight { uring: &mut uring, results: &mut results, queued: 1, done: 0 };
        // Without MSG_DONTWAIT the kernel stays at it until there is room.
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), b"x".as_ptr(), 1).build();
        // SAFETY: the byte is static, and the socket is there until the end of the test.
        unsafe { flight.uring.submission().push(&entry) }.unwrap();
        flight.uring.submit().unwrap();
        assert_eq!((flight.taken(), flight.done), (1, 0));
        let reader = thread::spawn(move || {
            started.recv().unwrap();
            let mut buffer = vec![0; 1 << 16];
            while recv(slow.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap() > 0 {}
        });
        start.send(()).unwrap();
        drop(flight);
        assert_eq!(results, [1]);
        drop(socket);
        reader.join().unwrap();
    }

    fn assert_goes_out(clients: &Clients) {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let [(one, first), (two, second)] = [pair(), pair()];
        let first = clients.insert(first, &epoll).unwrap();
        let second = clients.insert(second, &epoll).unwrap();
        let entries = [[first, 0, 1, 0], [second, 1, 1, 0], [first, 2, 1, 0], [9, 0, 1, 0]].concat();
        let mut results = [i32::MIN; 4];
        clients.send_batch(&epoll, &entries, b"abc", &mut results, || {}).unwrap();
        assert_eq!(results, [1, 1, 1, Status::BAD_HANDLE.0]);
        assert_eq!([read(&one), read(&two)], [Ok(b"ac".to_vec()), Ok(b"b".to_vec())]);
    }

    /// A seccomp filter holds for the thread that sets it.
    fn refuse_rings(errno: i32) {
        let code = |parts: u32| parts as u16;
        let returned = code(libc::BPF_RET | libc::BPF_K);
        let number = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
        let is = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut steps = [
            step(number, 0, 0, 0),
            step(is, 0, 1, libc::SYS_io_uring_setup as u32),
            step(returned, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            step(returned, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        // SAFETY: takes no pointer.
        let no_more = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `filter` and the steps that it points to live during the call, and the kernel copies them.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
        assert_eq!((no_more, set), (0, 0));
    }

    #[test]
    fn where_rings_are_refused_a_batch_goes_out_without() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let refused = move || {
                refuse_rings(errno);
                assert!(!Ring::new().is_up());
                assert_goes_out(&Clients::new());
            };
            thread::spawn(refused).join().unwrap();
        }
    }
}
