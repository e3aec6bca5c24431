//! What went wrong with datagrams, and where those went that never came back.

use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};

/// In datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Losses {
    /// Requests without a reply in time.
    pub(crate) lost: u64,
    /// Replies to requests given up before.
    pub(crate) late: u64,
    /// Replies to requests answered before.
    pub(crate) duplicate: u64,
    /// Replies without a `Thread` of ours.
    pub(crate) stray: u64,
    /// Requests that met a closed port.
    pub(crate) refused: u64,
    /// Requests our own kernel had no room for.
    pub(crate) unsent: u64,
    /// Of those lost: replies that our own socket had no room for, by the kernel's account (`SO_RXQ_OVFL`).
    pub(crate) own_socket: u64,
    /// Of those lost: requests that the server's kernel had no room for; `None` where nobody counted them.
    pub(crate) server_kernel: Option<u64>,
    /// Of those lost: the rest.
    pub(crate) unknown: u64,
}

impl Losses {
    /// Counts an error that says something of the target; returns one that says something of this program.
    pub(crate) fn excuse(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
            ErrorKind::ConnectionRefused => {
                self.refused += 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: &Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            late: self.late + other.late,
            duplicate: self.duplicate + other.duplicate,
            stray: self.stray + other.stray,
            refused: self.refused + other.refused,
            unsent: self.unsent + other.unsent,
            own_socket: self.own_socket + other.own_socket,
            server_kernel: self.server_kernel.or(other.server_kernel),
            unknown: self.unknown + other.unknown,
        }
    }

    /// With what the server's kernel dropped, and what remains unknown then. A drop that was no request of ours, or was
    /// counted outside of the window, takes nothing away that is not there.
    pub(crate) fn attributed(self, server_kernel: Option<u64>) -> Self {
        let known = self.own_socket + server_kernel.unwrap_or(0);
        Self {
            server_kernel,
            unknown: self.lost.saturating_sub(known),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_accounts_for_is_unknown() {
        let losses = Losses {
            lost: 10,
            own_socket: 3,
            ..Losses::default()
        };
        assert_eq!(losses.attributed(None).unknown, 7);
        assert_eq!(losses.attributed(Some(5)).unknown, 2);
        let foreign = losses.attributed(Some(50));
        assert_eq!((foreign.unknown, foreign.server_kernel), (0, Some(50)));
    }

    #[test]
    fn only_errors_of_the_target_are_excused() {
        let mut losses = Losses::default();
        let mut excuse = |kind: ErrorKind| losses.excuse(kind.into()).is_ok();
        assert!(excuse(ErrorKind::WouldBlock));
        assert!(excuse(ErrorKind::ConnectionRefused));
        assert!(!excuse(ErrorKind::PermissionDenied));
        assert_eq!(losses.refused, 1);
    }
}
