//! The buffers that the kernel receives into: a ring of descriptors (`buf_ring`) that it takes from at the head and
//! that we give back to at the tail.
//!
//! ```text
//! one mapping:  descriptors (16 bytes each; the tail is in the first one's last two bytes)  |  buffers, a stride apart
//! one buffer:   recvmsg_out, 16 bytes  |  sender's address  |  control data  |  up to 8192 bytes of datagram
//! ```
//!
//! Invariant: at any time a buffer belongs either to the kernel, which may write to it, or to the one [`Taken`] that
//! names it. Completions hand buffers over; [`ReceiveBuffers::give_back`] returns them.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};
use pyzor_protocol::MAX_DATAGRAM_BYTES;

use crate::datapath::control_data::MAX_CONTROL_BYTES;
use crate::datapath::socket_name::V6_NAME_BYTES;

/// Buffers of one worker. The kernel fills 32 a socket and entry, so this is enough for several busy sockets; where it
/// is not, datagrams wait in their socket.
pub(super) const RECEIVE_BUFFERS: u16 = 256;

/// The only group of buffers on the ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// `io_uring_recvmsg_out`, which the kernel writes in front of each datagram.
pub(super) const OUT_HEADER_BYTES: usize = 16;

/// What a buffer holds, in bytes. A datagram that does not fit is cut, and marked so.
const BUFFER_BYTES: usize =
    OUT_HEADER_BYTES + V6_NAME_BYTES + MAX_CONTROL_BYTES + MAX_DATAGRAM_BYTES;

const CACHE_LINE_BYTES: usize = 64;

/// From one buffer to the next, in bytes: an odd number of cache lines, so that the beginnings of all buffers, the only
/// part a usual datagram fills, spread over all sets of the cache. At a power of two they would share a few.
const STRIDE_BYTES: usize = (BUFFER_BYTES.div_ceil(CACHE_LINE_BYTES) | 1) * CACHE_LINE_BYTES;

/// The descriptors, in bytes; buffers start behind them.
const DESCRIPTORS_BYTES: usize = RECEIVE_BUFFERS as usize * size_of::<BufRingEntry>();

const MAPPING_BYTES: usize = DESCRIPTORS_BYTES + RECEIVE_BUFFERS as usize * STRIDE_BYTES;

const _: () = assert!(
    RECEIVE_BUFFERS.is_power_of_two(),
    "the kernel wraps indices with a mask"
);

/// All receive buffers of one ring.
///
/// Owns memory the kernel writes to: it has to be dropped after the ring has let go of it.
pub(super) struct ReceiveBuffers {
    mapping: NonNull<u8>,
    /// Our copy of the tail, ahead of the kernel's by what [`publish`](Self::publish) has not shown yet.
    tail: u16,
}

/// A buffer that a completion has handed to us.
#[derive(Debug)]
pub(super) struct Taken {
    id: u16,
    bytes: usize,
}

impl Taken {
    /// Whether a buffer came with `completion`.
    pub(super) fn is_in(completion: &cqueue::Entry) -> bool {
        cqueue::buffer_select(completion.flags()).is_some()
    }

    /// The buffer that came with `completion`, if one did.
    pub(super) fn from_completion(completion: &cqueue::Entry) -> Option<Self> {
        let id = cqueue::buffer_select(completion.flags())?;
        let bytes = usize::try_from(completion.result()).unwrap_or(0);
        Some(Self { id, bytes })
    }
}

impl ReceiveBuffers {
    /// Maps the buffers, registers their ring and gives all of them to the kernel.
    pub(super) fn register(uring: &IoUring) -> io::Result<Self> {
        let mut buffers = Self {
            mapping: map(MAPPING_BYTES)?,
            tail: 0,
        };
        for id in 0..RECEIVE_BUFFERS {
            buffers.give_back(Taken { id, bytes: 0 });
        }
        buffers.publish();
        let address = buffers.mapping.as_ptr() as u64;
        // SAFETY: the descriptors are RECEIVE_BUFFERS entries at the start of a page-aligned mapping, which lives until
        // this value is dropped, and that is after the ring is gone.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                address,
                RECEIVE_BUFFERS,
                BUFFER_GROUP,
                0,
            )?;
        }
        Ok(buffers)
    }

    /// What the kernel wrote into a buffer.
    pub(super) fn filled(&self, taken: &Taken) -> &[u8] {
        let length = taken.bytes.min(BUFFER_BYTES);
        let start = self.buffer(taken.id);
        // SAFETY: the range lies within one buffer of the mapping, which is initialised because it is anonymous memory,
        // and the buffer is ours until `taken` is given back, which needs `&mut self`: nobody writes to it.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Returns a buffer to the kernel, which sees it after [`publish`](Self::publish).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer that was given back must not be read any more"
    )]
    pub(super) fn give_back(&mut self, taken: Taken) {
        let address = self.buffer(taken.id) as u64;
        let descriptor = self.descriptor(self.tail);
        // SAFETY: the descriptor is within the mapping and aligned. The kernel reads descriptors between head and tail
        // only, and there is one for each buffer: this one, at the tail, is not among them. No other reference exists.
        let descriptor = unsafe { &mut *descriptor };
        descriptor.set_addr(address);
        #[expect(clippy::cast_possible_truncation, reason = "a buffer has a few KiB")]
        descriptor.set_len(BUFFER_BYTES as u32);
        descriptor.set_bid(taken.id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub(super) fn publish(&self) {
        let first = self.descriptor(0);
        // SAFETY: the first descriptor of the ring, which the mapping holds, initialised.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: aligned for a u16, within the mapping, and written through this atomic only; the kernel reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: whoever sees the tail sees the descriptors in front of it.
        tail.store(self.tail, Ordering::Release);
    }

    fn descriptor(&self, index: u16) -> *mut BufRingEntry {
        let index = usize::from(index % RECEIVE_BUFFERS);
        self.mapping
            .cast::<BufRingEntry>()
            .as_ptr()
            .wrapping_add(index)
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        let id = usize::from(id % RECEIVE_BUFFERS);
        self.mapping
            .as_ptr()
            .wrapping_add(DESCRIPTORS_BYTES + id * STRIDE_BYTES)
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; no slice of it outlives `self`, and the ring that wrote to it is gone.
        let unmapped = unsafe { libc::munmap(self.mapping.as_ptr().cast(), MAPPING_BYTES) };
        debug_assert_eq!(unmapped, 0);
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // Populated at once: a page fault in the kernel's receive path would cost the first datagrams microseconds.
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new anonymous mapping at a place the kernel chooses touches no memory that exists.
    let mapping = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(mapping.cast()).ok_or_else(|| io::Error::other("memory was mapped at address 0"))
}
