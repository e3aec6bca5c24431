//! One batch of replies through one socket, sent with `sendmmsg`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use pyzor_protocol::MAX_REPLY_BYTES;

use crate::datapath::ReplyPath;
use crate::datapath::control_data::PacketInfo;
use crate::datapath::reply_arena::ReplyArena;
use crate::datapath::socket_name::SocketName;

/// Replies sent with one system call.
pub(super) const SEND_BATCH: usize = 64;

/// One batch of replies.
pub(super) struct SendBatch {
    arena: ReplyArena,
    names: Box<[SocketName]>,
    controls: Box<[PacketInfo]>,
    parts: Box<[libc::iovec]>,
    /// The first `used` point to the same places of the other fields, whose heap blocks neither move nor go as long as
    /// this value lives.
    headers: Box<[libc::mmsghdr]>,
    used: usize,
    listener: usize,
}

impl SendBatch {
    pub(super) fn new() -> Self {
        // SAFETY: null pointers and zero lengths are a valid mmsghdr and iovec.
        let (header, part) = unsafe { std::mem::zeroed() };
        Self {
            arena: ReplyArena::new(),
            names: vec![SocketName::EMPTY; SEND_BATCH].into(),
            controls: vec![PacketInfo::EMPTY; SEND_BATCH].into(),
            parts: vec![part; SEND_BATCH].into(),
            headers: vec![header; SEND_BATCH].into(),
            used: 0,
            listener: 0,
        }
    }

    /// Room to write a reply into; `None` when the batch has to be sent first.
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

    /// Keeps the first `length` bytes of the room just written to, to be sent along `path`.
    pub(super) fn keep(&mut self, path: &ReplyPath, length: usize) {
        let reply = self.arena.keep(length);
        let index = self.used;
        self.names[index].set(path.peer());
        self.parts[index].iov_base = reply.as_ptr().cast_mut().cast();
        self.parts[index].iov_len = reply.len();
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = self.names[index].as_ptr().cast_mut().cast();
        header.msg_namelen = self.names[index].length();
        header.msg_iov = &raw mut self.parts[index];
        header.msg_iovlen = 1;
        if let Some(local) = path.local() {
            self.controls[index].set(local);
            header.msg_control = self.controls[index].as_ptr().cast_mut().cast();
            header.msg_controllen = self.controls[index].length();
        } else {
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
        }
        self.listener = path.listener();
        self.used += 1;
    }

    /// The socket the batch goes through, unless it is empty.
    pub(super) fn listener(&self) -> Option<usize> {
        (self.used > 0).then_some(self.listener)
    }

    /// Whether the batch has replies that do not go through socket number `listener`.
    pub(super) fn is_for_other_than(&self, listener: usize) -> bool {
        self.listener().is_some_and(|own| own != listener)
    }

    /// Sends the batch and forgets it; how many replies the kernel refused, and what it said to the last of them.
    ///
    /// A refused reply is lost, as if the network had lost it. When the socket's buffer is full, so is every reply
    /// behind it: waiting would keep all other clients waiting.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> (u64, Option<Errno>) {
        let (mut done, mut refused, mut last_error) = (0, 0, None);
        while done < self.used {
            match send_from(socket, &mut self.headers[done..self.used]) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let is_full = error.kind() == io::ErrorKind::WouldBlock;
                    let lost = if is_full { self.used - done } else { 1 };
                    refused += lost as u64;
                    done += lost;
                    last_error = error.raw_os_error().map(Errno::from_raw);
                }
            }
        }
        self.used = 0;
        self.arena.clear();
        (refused, last_error)
    }
}

/// Sends the first of `headers`, as many as the kernel takes before it refuses one; an error is the first one's.
pub(super) fn send_from(
    socket: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    #[expect(clippy::cast_possible_truncation, reason = "SEND_BATCH at most")]
    let count = headers.len() as libc::c_uint;
    // SAFETY: there are `count` headers, and each points to a name, a reply and control data that its batch keeps.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
