//! `SO_MEMINFO`: what a socket's buffers hold and what had to be dropped. No crate wraps it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The numbers the kernel tells (`SK_MEMINFO_VARS`), and which of them counts drops (`SK_MEMINFO_DROPS`).
const NUMBERS: usize = 9;
const DROPS: usize = 8;

/// Datagrams dropped at `socket` because its receive buffer was full; wraps around at 2^32.
pub(in crate::datapath) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut numbers = [0_u32; NUMBERS];
    #[expect(clippy::cast_possible_truncation, reason = "a few bytes")]
    let mut length = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `numbers`, whose every bit pattern is valid, and the length.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(numbers[DROPS])
    } else {
        Err(io::Error::last_os_error())
    }
}
