//! Room for one batch of datagrams, handed to `recvmmsg` again and again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use pyzor_protocol::MAX_DATAGRAM_BYTES;

use crate::datapath::control_data::{self, MAX_CONTROL_BYTES};
use crate::datapath::reply_path::Listener;
use crate::datapath::socket_name::{self, V6_NAME_BYTES};
use crate::datapath::{Received, ReplyPath};

/// Datagrams taken with one system call.
pub(super) const RECEIVE_BATCH: usize = 64;

const CACHE_LINE_BYTES: usize = 64;

/// From one payload to the next, in bytes: an odd number of cache lines, so that their beginnings spread over all sets
/// of the cache.
const STRIDE_BYTES: usize = (MAX_DATAGRAM_BYTES / CACHE_LINE_BYTES + 1) * CACHE_LINE_BYTES;

/// Room for one batch of datagrams.
pub(super) struct ReceiveBatch {
    /// Points into the other fields, whose heap blocks neither move nor go as long as this value lives.
    headers: Box<[libc::mmsghdr]>,
    names: Box<[[u8; V6_NAME_BYTES]]>,
    controls: Box<[[u8; MAX_CONTROL_BYTES]]>,
    payloads: Box<[u8]>,
    /// Pointed to by `headers` and never looked at here.
    _parts: Box<[libc::iovec]>,
    /// Headers the kernel has written to since they were reset.
    used: usize,
}

impl ReceiveBatch {
    pub(super) fn new() -> Self {
        let mut names: Box<[_]> = vec![[0; V6_NAME_BYTES]; RECEIVE_BATCH].into();
        let mut controls: Box<[_]> = vec![[0; MAX_CONTROL_BYTES]; RECEIVE_BATCH].into();
        let mut payloads: Box<[u8]> = vec![0; RECEIVE_BATCH * STRIDE_BYTES].into();
        let mut parts: Box<[_]> = payloads.chunks_exact_mut(STRIDE_BYTES).map(part).collect();
        let headers = parts
            .iter_mut()
            .zip(names.iter_mut().zip(controls.iter_mut()))
            .map(|(part, (name, control))| header(part, name, control))
            .collect();
        Self {
            headers,
            names,
            controls,
            payloads,
            _parts: parts,
            used: RECEIVE_BATCH,
        }
    }

    /// Takes what has arrived at `socket`, in place of what was taken before; how many datagrams that is.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.reset();
        #[expect(clippy::cast_possible_truncation, reason = "RECEIVE_BATCH")]
        let room = self.headers.len() as libc::c_uint;
        // SAFETY: there are `room` headers, each pointing to buffers of this value of the lengths it names; nobody else
        // reads or writes them during the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                room,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.used = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.used)
    }

    /// One datagram of the batch and whether it was longer than is read of it; `None` if it came from no usable
    /// address.
    pub(super) fn datagram(
        &self,
        listener: Listener,
        index: usize,
    ) -> Option<(Received<'_>, bool)> {
        let header = &self.headers[index];
        let name = self.names[index].get(..header.msg_hdr.msg_namelen as usize)?;
        let control = self.controls[index].get(..header.msg_hdr.msg_controllen)?;
        let payload = &self.payloads[index * STRIDE_BYTES..][..MAX_DATAGRAM_BYTES];
        let control = control_data::read(control);
        let path = ReplyPath::new(listener, socket_name::read(name)?, control.asked);
        let bytes = payload.get(..header.msg_len as usize)?;
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let arrived = control.arrived;
        Some((
            Received {
                bytes,
                path,
                arrived,
            },
            is_cut,
        ))
    }

    /// Tells the kernel again how much room there is where it has written how much it used.
    fn reset(&mut self) {
        for header in &mut self.headers[..self.used] {
            set_room(&mut header.msg_hdr);
        }
        self.used = 0;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the size of an address")]
fn set_room(header: &mut libc::msghdr) {
    header.msg_namelen = V6_NAME_BYTES as libc::socklen_t;
    header.msg_controllen = MAX_CONTROL_BYTES;
}

fn part(payload: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: MAX_DATAGRAM_BYTES,
    }
}

fn header(
    part: &mut libc::iovec,
    name: &mut [u8; V6_NAME_BYTES],
    control: &mut [u8; MAX_CONTROL_BYTES],
) -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid mmsghdr.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = name.as_mut_ptr().cast();
    header.msg_hdr.msg_control = control.as_mut_ptr().cast();
    header
}
