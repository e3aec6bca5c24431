//! What a completion is about: the meaning of the 64 bits that a ring carries from an entry to its completion.

/// What an entry, and so its completion, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompletionTag {
    /// The multishot receive of one socket.
    Receive {
        /// The socket's number in the worker.
        listener: u8,
    },
    /// A reply; completes only when it could not be sent.
    Send,
    /// The watch on the worker's waker.
    Wake,
}

/// The kind is in the low byte, the listener in the next.
const KIND_MASK: u64 = 0xff;
const LISTENER_SHIFT: u32 = 8;

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WAKE: u64 = 3;

impl CompletionTag {
    /// As carried by the ring.
    pub(super) fn encode(self) -> u64 {
        match self {
            Self::Receive { listener } => RECEIVE | u64::from(listener) << LISTENER_SHIFT,
            Self::Send => SEND,
            Self::Wake => WAKE,
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for what nobody here wrote, such as the kernel's answer to a
    /// cancellation.
    pub(super) fn decode(bits: u64) -> Option<Self> {
        match bits & KIND_MASK {
            RECEIVE => {
                let listener = u8::try_from(bits >> LISTENER_SHIFT).ok()?;
                Some(Self::Receive { listener })
            }
            SEND => Some(Self::Send),
            WAKE => Some(Self::Wake),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_the_ring() {
        let tags = [
            CompletionTag::Receive { listener: 0 },
            CompletionTag::Receive { listener: 255 },
            CompletionTag::Send,
            CompletionTag::Wake,
        ];
        for tag in tags {
            assert_eq!(CompletionTag::decode(tag.encode()), Some(tag));
        }
        assert_eq!(CompletionTag::decode(0), None);
        assert_eq!(CompletionTag::decode(u64::MAX), None);
    }
}
