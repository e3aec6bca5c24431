//! Sending: one entry a reply, prepared in place and gone with the next submission.
//!
//! Invariant: what an entry points to (reply, address, control data) stays where it is and unchanged until the kernel
//! has taken the entry. That is long enough: sends carry `MSG_DONTWAIT`, so the kernel carries each out, or fails it
//! with an error completion, while it takes the entry, and copies the reply into a socket buffer of its own when it
//! does; it never keeps one for later. So the whole batch is forgotten after a submission that took every entry.

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};
use pyzor_protocol::MAX_REPLY_BYTES;

use super::completion_tag::CompletionTag;
use crate::datapath::ReplyPath;
use crate::datapath::control_data::PacketInfo;
use crate::datapath::reply_arena::ReplyArena;
use crate::datapath::socket_name::SocketName;

/// Replies between two submissions.
pub(super) const SEND_BATCH: usize = 128;

/// The replies of one batch.
pub(super) struct SendQueue {
    arena: ReplyArena,
    names: Box<[SocketName]>,
    messages: Box<[Message]>,
    used: usize,
}

/// What a reply needs that has to name the address it comes from.
struct Message {
    header: libc::msghdr,
    reply: libc::iovec,
    control: PacketInfo,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        Self {
            arena: ReplyArena::new(),
            names: vec![SocketName::EMPTY; SEND_BATCH].into(),
            messages: (0..SEND_BATCH).map(|_| Message::empty()).collect(),
            used: 0,
        }
    }

    /// Room to write a reply into; `None` when the batch has to be submitted first.
    pub(super) fn room(&mut self) -> Option<&mut [u8; MAX_REPLY_BYTES]> {
        if self.used == SEND_BATCH {
            return None;
        }
        self.arena.next()
    }

    /// Whether [`room`](Self::room) has some.
    pub(super) fn has_room(&self) -> bool {
        self.used < SEND_BATCH && self.arena.has_room()
    }

    /// The entry that sends the first `length` bytes of the room just written to along `path`.
    pub(super) fn entry(&mut self, path: &ReplyPath, length: usize) -> squeue::Entry {
        let reply = self.arena.keep(length);
        let name = &mut self.names[self.used];
        name.set(path.peer());
        let entry = match path.local() {
            None => plain(path, name, reply),
            Some(local) => {
                let message = &mut self.messages[self.used];
                message.control.set(local);
                message.point_at(name, reply);
                from_address(path, message)
            }
        };
        self.used += 1;
        entry
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(CompletionTag::Send.encode())
    }

    /// Forgets the batch. Only right when the kernel has taken every entry.
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.used = 0;
    }
}

impl Message {
    fn empty() -> Self {
        Self {
            // SAFETY: null pointers and zero lengths are a valid msghdr.
            header: unsafe { std::mem::zeroed() },
            reply: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            control: PacketInfo::EMPTY,
        }
    }

    /// Fills the header in. Its pointers are good until this message moves; it stays in its boxed slice.
    fn point_at(&mut self, name: &SocketName, reply: &[u8]) {
        self.reply.iov_base = reply.as_ptr().cast_mut().cast();
        self.reply.iov_len = reply.len();
        self.header.msg_name = name.as_ptr().cast_mut().cast();
        self.header.msg_namelen = name.length();
        self.header.msg_iov = &raw mut self.reply;
        self.header.msg_iovlen = 1;
        self.header.msg_control = self.control.as_ptr().cast_mut().cast();
        self.header.msg_controllen = self.control.length();
    }
}

/// The cheaper way, where the socket has one address only.
fn plain(path: &ReplyPath, name: &SocketName, reply: &[u8]) -> squeue::Entry {
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_REPLY_BYTES")]
    let length = reply.len() as u32;
    opcode::Send::new(socket(path), reply.as_ptr(), length)
        .flags(libc::MSG_DONTWAIT)
        .dest_addr(name.as_ptr().cast())
        .dest_addr_len(name.length())
        .build()
}

fn from_address(path: &ReplyPath, message: &Message) -> squeue::Entry {
    opcode::SendMsg::new(socket(path), &raw const message.header)
        .flags(libc::MSG_DONTWAIT.cast_unsigned())
        .build()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a worker has MAX_LISTEN_ADDRESSES sockets at most"
)]
fn socket(path: &ReplyPath) -> Fixed {
    Fixed(path.listener() as u32)
}
