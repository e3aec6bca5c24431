//! Classic captures: micro- or nanoseconds, either byte order.

use pcap_parser::nom;
use pcap_parser::pcap::{
    LegacyPcapBlock, PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use pcap_parser::{Linktype, PcapError};

use super::input::{Input, Parsed};
use super::packet::{self, Link};
use super::skipped::Skipped;
use super::{Reader, Recorded};
use crate::error::Error;

/// As a little-endian machine reads them: microseconds, nanoseconds, Kuznetzov's variant with longer records.
const MAGICS: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
const NS_PER_S: u64 = 1_000_000_000;
/// The low half is the link type, the high one says how long each packet's checksum is.
const LINK_MASK: i32 = 0xffff;

/// Whether a file that begins so is a classic capture.
pub(super) fn is_beginning(bytes: &[u8]) -> bool {
    let Some(magic) = bytes.first_chunk() else {
        return false;
    };
    MAGICS.contains(&u32::from_le_bytes(*magic))
        || MAGICS[..2].contains(&u32::from_be_bytes(*magic))
}

/// A classic capture behind its header.
pub(super) struct Pcap {
    input: Input,
    port: u16,
    link: Link,
    ns_per_fraction: u64,
    record: RecordParser,
}

type RecordParser =
    for<'b> fn(&'b [u8]) -> nom::IResult<&'b [u8], LegacyPcapBlock<'b>, PcapError<&'b [u8]>>;

impl Pcap {
    /// Reads the header of a capture of the server's `port`.
    pub(super) fn new(mut input: Input, port: u16) -> Result<Self, Error> {
        let header = input.parse(|bytes| parsed(bytes, parse_pcap_header(bytes)))?;
        let Some(header) = header else {
            return Err(input.damaged("a pcap's header"));
        };
        Ok(Self {
            input,
            port,
            link: Link::of(Linktype(header.network.0 & LINK_MASK)),
            ns_per_fraction: if header.is_nanosecond_precision() {
                1
            } else {
                1000
            },
            record: record_parser(&header),
        })
    }
}

fn record_parser(header: &PcapHeader) -> RecordParser {
    if header.is_modified_format() {
        parse_pcap_frame_modified
    } else if header.is_bigendian() {
        parse_pcap_frame_be
    } else {
        parse_pcap_frame
    }
}

impl Reader for Pcap {
    fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Recorded>, Error> {
        loop {
            let record = |bytes: &[u8]| {
                parsed(bytes, (self.record)(bytes)).map(|record| {
                    let is_cut = record.caplen < record.origlen;
                    let at_ns = u64::from(record.ts_sec) * NS_PER_S
                        + u64::from(record.ts_usec) * self.ns_per_fraction;
                    (
                        at_ns,
                        packet::read(self.link, record.data, is_cut, self.port),
                    )
                })
            };
            match self.input.parse(record)? {
                None => return Ok(None),
                Some((_, Err(reason))) => skipped.count(reason),
                Some((at_ns, Ok((source, datagram)))) => {
                    return Ok(Some(Recorded {
                        at_ns,
                        source,
                        datagram,
                    }));
                }
            }
        }
    }
}

/// What a parser of the library makes of `bytes`.
pub(super) fn parsed<'b, T>(
    bytes: &'b [u8],
    result: nom::IResult<&'b [u8], T, PcapError<&'b [u8]>>,
) -> Parsed<T> {
    match result {
        Ok((rest, value)) => Parsed::Whole(value, bytes.len() - rest.len()),
        Err(nom::Err::Incomplete(_)) => Parsed::Partial,
        Err(_) => Parsed::Wrong("a block of a capture"),
    }
}

impl<T> Parsed<T> {
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Self::Whole(value, bytes) => Parsed::Whole(make(value), bytes),
            Self::Partial => Parsed::Partial,
            Self::Wrong(expected) => Parsed::Wrong(expected),
        }
    }
}
