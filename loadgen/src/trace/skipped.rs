//! What was passed over because it is no request, by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;

/// Different ports remembered; packets to others are counted together.
const MAX_PORTS: usize = 4096;
/// Ports named where a capture holds none of the right one.
const NAMED_PORTS: usize = 5;

/// Why a packet or a line gives no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// To another UDP port than the server's.
    OtherPort(u16),
    /// From the server's port.
    Reply,
    /// Part of a fragmented datagram.
    Fragment,
    /// Not UDP, or not even IP.
    NotUdp,
    /// Captured only in part.
    Truncated,
    /// Lengths or headers that contradict each other.
    Damaged,
    /// Captured on a link whose packets this program cannot read.
    ForeignLink,
    /// A log's line about a request that was refused: it does not tell what was asked.
    RefusalLine,
    /// A log's line that tells no request.
    ForeignLine,
}

/// How much was passed over. Packets, but for what a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// To another UDP port than the server's.
    pub(crate) other_port: u64,
    /// From the server's port.
    pub(crate) replies: u64,
    /// Parts of fragmented datagrams.
    pub(crate) fragments: u64,
    /// Not UDP, or not even IP.
    pub(crate) not_udp: u64,
    /// Captured only in part: `tcpdump -s 0` captures all.
    pub(crate) truncated: u64,
    /// Lengths or headers contradict each other.
    pub(crate) damaged: u64,
    /// Captured on a link whose packets this program cannot read.
    pub(crate) foreign_link: u64,
    /// Lines about requests that were refused: a usage log does not tell what they asked.
    pub(crate) refusal_lines: u64,
    /// Other lines that tell no request.
    pub(crate) foreign_lines: u64,
    /// By destination port, the first [`MAX_PORTS`] of them.
    #[serde(skip)]
    ports: BTreeMap<u16, u64>,
}

impl Skipped {
    pub(super) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::OtherPort(port) => {
                self.remember(port);
                &mut self.other_port
            }
            Reason::Reply => &mut self.replies,
            Reason::Fragment => &mut self.fragments,
            Reason::NotUdp => &mut self.not_udp,
            Reason::Truncated => &mut self.truncated,
            Reason::Damaged => &mut self.damaged,
            Reason::ForeignLink => &mut self.foreign_link,
            Reason::RefusalLine => &mut self.refusal_lines,
            Reason::ForeignLine => &mut self.foreign_lines,
        } += 1;
    }

    fn remember(&mut self, port: u16) {
        if self.ports.len() < MAX_PORTS || self.ports.contains_key(&port) {
            *self.ports.entry(port).or_default() += 1;
        }
    }

    /// Each reason that occurred, and how often.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = [
            ("to other ports", self.other_port),
            ("replies", self.replies),
            ("fragments", self.fragments),
            ("not UDP", self.not_udp),
            ("captured only in part", self.truncated),
            ("damaged", self.damaged),
            ("of unknown links", self.foreign_link),
            ("refused requests", self.refusal_lines),
            ("other lines", self.foreign_lines),
        ];
        reasons.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Why a file without what is `wanted` cannot be used.
    pub(super) fn no_requests(&self, path: &Path, wanted: String) -> Error {
        let hint = if self.ports.is_empty() {
            String::new()
        } else {
            format!("; UDP ports asked: {}: try --port", self.busiest_ports())
        };
        Error::NoRequests {
            path: path.to_owned(),
            wanted,
            skipped: self.to_string(),
            hint,
        }
    }

    fn busiest_ports(&self) -> String {
        let mut ports: Vec<_> = self.ports.iter().collect();
        ports.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = ports
            .iter()
            .take(NAMED_PORTS)
            .map(|(port, count)| format!("{port} ({count})"));
        let rest = ports.len().saturating_sub(NAMED_PORTS);
        let rest = (rest > 0).then(|| format!("{rest} others"));
        named.chain(rest).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .reasons()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        f.write_str(&if parts.is_empty() {
            "nothing".to_owned()
        } else {
            parts.join(", ")
        })
    }
}
