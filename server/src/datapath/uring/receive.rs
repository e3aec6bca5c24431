//! Receiving: one multishot `recvmsg` for each socket, which delivers datagrams until something ends it.
//!
//! What the kernel writes into a buffer, in full, and how much that is comes with the completion:
//!
//! ```text
//! io_uring_recvmsg_out   0 address length   4 control length   8 datagram length   12 flags (each u32)
//! then                   sender's address  |  control data  |  datagram; the first two padded to what was asked for
//! ```

use std::net::SocketAddr;
use std::ops::Range;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};
use pyzor_protocol::MAX_DATAGRAM_BYTES;

use super::completion_tag::CompletionTag;
use super::receive_buffers::{BUFFER_GROUP, OUT_HEADER_BYTES};
use crate::datapath::control_data::{self, TIME_CONTROL_BYTES, V4_CONTROL_BYTES, V6_CONTROL_BYTES};
use crate::datapath::reply_path::Listener;
use crate::datapath::socket_name::{self, V4_NAME_BYTES, V6_NAME_BYTES};
use crate::datapath::{Received, ReplyPath};
use crate::socket::ListenSocket;

const OUT_CONTROL_LENGTH: Range<usize> = 4..8;
const OUT_FLAGS: Range<usize> = 12..OUT_HEADER_BYTES;

/// The receive of one socket.
pub(super) struct Receive {
    listener: Listener,
    /// How much of each buffer is for the sender's address and the control data. Boxed, because the kernel is told
    /// where it is.
    layout: Box<libc::msghdr>,
    /// Whether it has to be armed (again): the kernel ends a multishot operation when buffers run out, completions
    /// pile up, or the socket reports an error.
    pub(super) is_ended: bool,
}

/// One datagram and whether it was longer than is read of it.
pub(super) struct Datagram<'a> {
    pub(super) received: Received<'a>,
    pub(super) is_cut: bool,
}

impl Receive {
    pub(super) fn new(index: u8, socket: &ListenSocket) -> Self {
        let (name_bytes, asked_bytes) = match socket.address() {
            SocketAddr::V4(_) => (V4_NAME_BYTES, V4_CONTROL_BYTES),
            SocketAddr::V6(_) => (V6_NAME_BYTES, V6_CONTROL_BYTES),
        };
        let mut control_bytes = 0;
        if socket.is_wildcard() {
            control_bytes += asked_bytes;
        }
        if socket.notes_arrivals() {
            control_bytes += TIME_CONTROL_BYTES;
        }
        Self {
            listener: Listener {
                index,
                port: socket.address().port(),
            },
            layout: Box::new(layout(name_bytes, control_bytes)),
            is_ended: true,
        }
    }

    /// The entry that starts it.
    pub(super) fn entry(&self) -> squeue::Entry {
        let tag = CompletionTag::Receive {
            listener: self.listener.index,
        };
        opcode::RecvMsgMulti::new(
            Fixed(self.listener.index.into()),
            &raw const *self.layout,
            BUFFER_GROUP,
        )
        .build()
        .user_data(tag.encode())
    }

    /// Reads what the kernel wrote into a buffer; `None` if it holds no datagram from a usable address.
    pub(super) fn parse<'a>(&self, buffer: &'a [u8]) -> Option<Datagram<'a>> {
        let (out, buffer) = buffer.split_at_checked(OUT_HEADER_BYTES)?;
        let (name, buffer) = buffer.split_at_checked(self.layout.msg_namelen as usize)?;
        let (control, payload) = buffer.split_at_checked(self.layout.msg_controllen)?;
        let flags = libc::c_int::from_ne_bytes(out[OUT_FLAGS].try_into().ok()?);
        let peer = socket_name::read(name)?;
        let control_bytes = u32::from_ne_bytes(out[OUT_CONTROL_LENGTH].try_into().ok()?);
        let control = control_data::read(control.get(..control_bytes as usize)?);
        // Where addresses are short, a buffer has room for a little more than is to be read.
        let bytes = &payload[..payload.len().min(MAX_DATAGRAM_BYTES)];
        Some(Datagram {
            received: Received {
                bytes,
                path: ReplyPath::new(self.listener, peer, control.asked),
                arrived: control.arrived,
            },
            is_cut: bytes.len() < payload.len() || flags & libc::MSG_TRUNC != 0,
        })
    }
}

fn layout(name_bytes: usize, control_bytes: usize) -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are a valid msghdr.
    let mut layout: libc::msghdr = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "the size of an address")]
    let name_bytes = name_bytes as libc::socklen_t;
    layout.msg_namelen = name_bytes;
    layout.msg_controllen = control_bytes;
    layout
}
