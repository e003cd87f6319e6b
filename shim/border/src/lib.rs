//! The border between C and Rust: statuses, the panic boundary, and the caller's memory as slices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

/// A negative status of ABI.md: `-errno`, or one of the shim's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// A panic was caught.
    pub const PANIC: Status = Status(-5001);
    /// No such object.
    pub const BAD_HANDLE: Status = Status(-5002);
    /// A pointer, a length, an enum or a text is not as it must be.
    pub const BAD_ARGUMENT: Status = Status(-5003);
    /// Somebody listens on that path.
    pub const SOCKET_LIVE: Status = Status(-5004);
    /// Something that is not a socket is at that path.
    pub const NOT_A_SOCKET: Status = Status(-5005);
    /// The system has no group of that name.
    pub const NO_SUCH_GROUP: Status = Status(-5006);
    /// Not a listening Unix socket of a known type.
    pub const NOT_A_LISTENER: Status = Status(-5007);
    /// The buffer does not hold the next record.
    pub const TOO_SMALL: Status = Status(-5008);
}

impl From<Errno> for Status {
    fn from(errno: Errno) -> Status {
        Status(-(errno as i32))
    }
}

impl From<std::io::Error> for Status {
    fn from(error: std::io::Error) -> Status {
        Status(-error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What every call comes to: a count or 0, or a status.
pub type Outcome = Result<i32, Status>;

/// Runs the inside of one extern function: its status, or `PANIC` where it unwinds.
pub fn guard(call: impl FnOnce() -> Outcome) -> i32 {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => value,
        Ok(Err(status)) => status.0,
        Err(_) => Status::PANIC.0,
    }
}

/// A count as a status; one past `i32::MAX` cannot be told and is said as that.
pub fn count(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

mod sealed {
    pub trait Integer: Copy {}
    impl Integer for u8 {}
    impl Integer for i32 {}
    impl Integer for u32 {}
    impl Integer for u64 {}
}

/// The caller's `length` integers at `pointer`, to read.
///
/// # Errors
/// `BAD_ARGUMENT`: NULL with a length, or not aligned.
///
/// # Safety
/// If `pointer` is not NULL, it points to `length` integers that stay alive and unchanged for `'a`.
pub unsafe fn slice<'a, T: sealed::Integer>(pointer: *const T, length: u32) -> Result<&'a [T], Status> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Status::BAD_ARGUMENT);
    }
    // SAFETY: neither NULL nor misaligned (checked), alive and long enough (the caller's promise), and at
    // most 2^32 integers of 8 bytes, which is below isize::MAX.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length as usize) })
}

/// The caller's `length` integers at `pointer`, to write.
///
/// # Errors
/// `BAD_ARGUMENT`: NULL with a length, or not aligned.
///
/// # Safety
/// If `pointer` is not NULL, it points to `length` integers that nobody else uses for `'a`.
pub unsafe fn slice_mut<'a, T: sealed::Integer>(pointer: *mut T, length: u32) -> Result<&'a mut [T], Status> {
    if length == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Status::BAD_ARGUMENT);
    }
    // SAFETY: as in `slice`, and nobody else uses the memory (the caller's promise).
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length as usize) })
}

/// The caller's text of `length` bytes at `pointer`.
///
/// # Errors
/// `BAD_ARGUMENT`: NULL with a length, not UTF-8, or a NUL byte in it.
///
/// # Safety
/// As for [`slice`].
pub unsafe fn text<'a>(pointer: *const u8, length: u32) -> Result<&'a str, Status> {
    // SAFETY: the caller of this function gives the same promise.
    let bytes = unsafe { slice(pointer, length) }?;
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Status::BAD_ARGUMENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guard(|| panic!("on purpose")), -5001);
    }

    #[test]
    fn values_and_failures_pass_through() {
        assert_eq!(guard(|| Ok(7)), 7);
        assert_eq!(guard(|| Err(Errno::EBUSY.into())), -libc::EBUSY);
        assert_eq!(guard(|| Err(Status::TOO_SMALL)), -5008);
    }

    #[test]
    fn a_null_pointer_is_an_empty_slice_only_without_a_length() {
        // SAFETY: NULL is allowed.
        let nothing = unsafe { slice::<u8>(std::ptr::null(), 0) };
        assert_eq!(nothing, Ok(&[][..]));
        // SAFETY: NULL is allowed.
        let to_read = unsafe { slice::<u8>(std::ptr::null(), 1) };
        assert_eq!(to_read, Err(Status::BAD_ARGUMENT));
        // SAFETY: NULL is allowed.
        let to_write = unsafe { slice_mut::<i32>(std::ptr::null_mut(), 1) };
        assert_eq!(to_write, Err(Status::BAD_ARGUMENT));
    }

    #[test]
    fn a_misaligned_pointer_is_refused() {
        let words = [0u32; 2];
        let crooked = words.as_ptr().wrapping_byte_add(1);
        // SAFETY: the word that starts one byte in lies within the two words.
        assert_eq!(unsafe { slice(crooked, 1) }, Err(Status::BAD_ARGUMENT));
    }

    #[test]
    fn text_is_utf8_without_nul() {
        let of = |bytes: &[u8]| {
            // SAFETY: the slice is alive and as long as said.
            unsafe { text(bytes.as_ptr(), bytes.len() as u32) }.map(str::to_owned)
        };
        assert_eq!(of("grüße".as_bytes()), Ok("grüße".to_owned()));
        assert_eq!(of(b"a\xff"), Err(Status::BAD_ARGUMENT));
        assert_eq!(of(b"a\0b"), Err(Status::BAD_ARGUMENT));
    }
}
