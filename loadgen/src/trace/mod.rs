//! Requests that were recorded or made up, one by one, whatever they are kept in.
//!
//! A trace is a stream: what is in memory at a time is bounded by one block of the file, whatever its length. Times
//! never decrease, and the first request's is 0. Reading the same file, or the same synthetic mix with the same seed,
//! again gives the same requests.
//!
//! | file | job |
//! | --- | --- |
//! | `input` | a file's bytes, decompressed by `decompress` |
//! | `pcap`, `pcapng` | captures of either format |
//! | `packet` | from a packet to the request in it |
//! | `usage_log` | logs of a server |
//! | `digests` | lists of digests |
//! | `synthetic` | what is made up |
//! | `rebuild` | from the facts of a request to its datagram |
//! | `timeline` | from a clock that may jump to times that never decrease |
//! | `skipped` | what was no request, by reason |

mod decompress;
mod digests;
mod input;
mod packet;
mod pcap;
mod pcapng;
mod rebuild;
mod skipped;
mod synthetic;
mod timeline;
mod usage_log;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::has_room_for;
use crate::error::Error;
use crate::mix::RANK_BYTES;
use crate::patience::Patience;
use digests::Digests;
pub(crate) use digests::words;
pub(crate) use input::{Input, is_read_once, name};
use pcap::Pcap;
use pcapng::Pcapng;
use skipped::Reason;
pub(crate) use skipped::Skipped;
use synthetic::{Synthetic, SyntheticMix};
use timeline::Timeline;
use usage_log::UsageLog;

/// One request of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// When, since the first request.
    pub(crate) at: Duration,
    pub(crate) source: Source,
    /// The request as it was recorded or made; at most [`LONGEST_DATAGRAM_BYTES`].
    pub(crate) datagram: Box<[u8]>,
}

/// No datagram can be longer over IPv4, or is over IPv6 in practice.
pub(crate) const LONGEST_DATAGRAM_BYTES: usize = 65_507;

/// Who sent a request: an address of a recording, or a made-up one. The port is 0 where a recording does not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source(pub(crate) SocketAddr);

/// How a trace is to be read.
#[derive(Clone)]
pub(crate) struct TraceOptions {
    /// The UDP port of the server in a capture.
    pub(crate) port: u16,
    /// Decides what a synthetic mix makes up.
    pub(crate) seed: u64,
    /// How long a pipe is waited for; without it, for ever.
    pub(crate) patience: Option<Arc<Patience>>,
}

/// What a trace was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A capture of libpcap's first format.
    Pcap,
    /// A capture of the newer format.
    Pcapng,
    /// What a server wrote about the requests it carried out.
    UsageLog,
    /// Digests, and what to ask about them.
    Digests,
    /// Nothing: it is made up.
    Synthetic,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcap => "a capture (pcap)",
            Self::Pcapng => "a capture (pcapng)",
            Self::UsageLog => "a usage log",
            Self::Digests => "a list of digests",
            Self::Synthetic => "a synthetic mix",
        })
    }
}

/// The requests of a trace, in order. Ends after the first error.
pub(crate) struct Trace {
    format: Format,
    reader: Box<dyn Reader>,
    timeline: Timeline,
    skipped: Skipped,
    /// Read ahead when it was opened.
    first: Option<Event>,
    has_ended: bool,
}

/// Something that requests are read from.
trait Reader: Send {
    /// The next request, or `None` at the end; what is passed over is counted.
    fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Recorded>, Error>;

    /// Whether it goes on for ever.
    fn is_endless(&self) -> bool {
        false
    }
}

/// A request with the time its recording says.
#[derive(Debug)]
struct Recorded {
    /// Since the epoch, or since any other moment that is the same for all requests of a trace.
    at_ns: u64,
    source: Source,
    datagram: Box<[u8]>,
}

/// Names beginning so are no files.
const SYNTHETIC: &str = "synthetic:";

/// Opens a file by what is in it, compressed or not; or makes requests up as `synthetic:…` says.
///
/// # Errors
/// When it cannot be read, is of no known kind, holds no request, or is made up of what cannot be.
pub(crate) fn open(path: &Path, options: &TraceOptions) -> Result<Trace, Error> {
    let mix = path.to_str().and_then(|name| name.strip_prefix(SYNTHETIC));
    let (format, reader) = match mix {
        Some(mix) => made_up(mix, options.seed)?,
        None => recorded(path, options)?,
    };
    let mut trace = Trace {
        format,
        reader,
        timeline: Timeline::default(),
        skipped: Skipped::default(),
        first: None,
        has_ended: false,
    };
    trace.first = trace.next().transpose()?;
    if trace.first.is_none() {
        return Err(trace.no_requests(path, options.port));
    }
    Ok(trace)
}

fn made_up(mix: &str, seed: u64) -> Result<(Format, Box<dyn Reader>), Error> {
    let mix: SyntheticMix = mix.parse()?;
    has_room_for(mix.ranks(), RANK_BYTES)?;
    Ok((Format::Synthetic, Box::new(Synthetic::new(mix, seed))))
}

fn recorded(path: &Path, options: &TraceOptions) -> Result<(Format, Box<dyn Reader>), Error> {
    let mut input = Input::open(path, options.patience.clone())?;
    input.look_ahead(BEGINNING_BYTES)?;
    let beginning = input.coming();
    if beginning.is_empty() {
        return Err(Error::EmptyTrace(path.to_owned()));
    }
    if pcap::is_beginning(beginning) {
        return Ok((Format::Pcap, Box::new(Pcap::new(input, options.port)?)));
    }
    if pcapng::is_beginning(beginning) {
        return Ok((Format::Pcapng, Box::new(Pcapng::new(input, options.port))));
    }
    match text_format(beginning) {
        Some(Format::UsageLog) => Ok((Format::UsageLog, Box::new(UsageLog::new(input)))),
        Some(_) => Ok((Format::Digests, Box::new(Digests::new(input, path)))),
        None => Err(Error::UnknownTrace(path.to_owned())),
    }
}

/// What the first lines say, but for comments and lines about something else.
fn text_format(beginning: &[u8]) -> Option<Format> {
    let mut lines = beginning
        .split(|byte| *byte == b'\n')
        .take(RECOGNISED_LINES);
    lines.find_map(|line| {
        if usage_log::is_line(line) {
            Some(Format::UsageLog)
        } else {
            digests::is_line(line).then_some(Format::Digests)
        }
    })
}

/// Bytes of a file's beginning that are looked at.
const BEGINNING_BYTES: usize = 64 * 1024;
/// Lines of a text that are looked at for one that tells what it is.
const RECOGNISED_LINES: usize = 100;

impl Trace {
    /// What was passed over so far, by reason.
    pub(crate) fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Whether it goes on for ever.
    pub(crate) fn is_endless(&self) -> bool {
        self.reader.is_endless()
    }

    /// What it is read from.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn no_requests(&self, path: &Path, port: u16) -> Error {
        let wanted = match self.format {
            Format::Pcap | Format::Pcapng => format!("request to UDP port {port}"),
            Format::UsageLog | Format::Digests | Format::Synthetic => "request".to_owned(),
        };
        self.skipped.no_requests(path, wanted)
    }

    fn read(&mut self) -> Result<Option<Event>, Error> {
        while let Some(recorded) = self.reader.next(&mut self.skipped)? {
            if recorded.datagram.len() > LONGEST_DATAGRAM_BYTES {
                self.skipped.count(Reason::Damaged);
                continue;
            }
            return Ok(Some(Event {
                at: self.timeline.at(recorded.at_ns),
                source: recorded.source,
                datagram: recorded.datagram,
            }));
        }
        Ok(None)
    }
}

impl Iterator for Trace {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.has_ended {
            return None;
        }
        let next = self.read().transpose();
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use etherparse::PacketBuilder;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use tempfile::TempDir;

    use super::*;
    use crate::mix::known_digest;

    const OPTIONS: TraceOptions = TraceOptions {
        port: 24441,
        seed: 1,
        patience: None,
    };
    const PING: &[u8] = b"Op: ping\n\n";

    /// An Ethernet frame with a datagram.
    fn frame(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(ports.0, ports.1);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    /// A capture: its magic number, and its records' seconds, fractions and packets.
    fn capture(magic: u32, put: fn(u32) -> [u8; 4], records: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
        let mut file = Vec::new();
        let versions = put(2 << 16 | 4);
        let versions = if put(1)[0] == 1 {
            [2, 0, 4, 0]
        } else {
            versions
        };
        for part in [put(magic), versions, put(0), put(0), put(65_535), put(1)] {
            file.extend(part);
        }
        for (seconds, fraction, packet) in records {
            let length = u32::try_from(packet.len()).unwrap();
            for part in [*seconds, *fraction, length, length] {
                file.extend(put(part));
            }
            file.extend(packet);
        }
        file
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Event>, Skipped), Error> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("trace");
        fs::write(&path, bytes).unwrap();
        let mut trace = open(&path, &OPTIONS)?;
        let events = (&mut trace).collect::<Result<_, _>>()?;
        Ok((events, trace.skipped().clone()))
    }

    #[test]
    fn classic_captures_of_either_byte_order_and_precision_read_the_same() {
        const MICROSECONDS: u32 = 0xa1b2_c3d4;
        const NANOSECONDS: u32 = 0xa1b2_3c4d;
        for (magic, unit_ns) in [(MICROSECONDS, 1000), (NANOSECONDS, 1)] {
            for put in [u32::to_le_bytes, u32::to_be_bytes] {
                let records = [
                    (10, 999_999, frame((4000, 53), b"?")),
                    (11, 5, frame((4000, 24441), PING)),
                    (11, 6, frame((24441, 4000), b"Code: 200\n\n")),
                    (12, 7, frame((4001, 24441), b"")),
                ];
                let (events, skipped) = read(&capture(magic, put, &records)).unwrap();
                let source = |port| Source(SocketAddr::from(([192, 0, 2, 1], port)));
                let second_ns = 1_000_000_000 + 2 * unit_ns;
                let expected = [(0, 4000, PING), (second_ns, 4001, b"")];
                let expected = expected.map(|(at_ns, port, datagram)| Event {
                    at: Duration::from_nanos(at_ns),
                    source: source(port),
                    datagram: datagram.into(),
                });
                assert_eq!(events, expected);
                assert_eq!((skipped.other_port, skipped.replies), (1, 1));
                assert_eq!(skipped.to_string(), "1 to other ports, 1 replies");
            }
        }
    }

    /// A file of each kind, as others write them.
    const SAMPLES: [&[u8]; 5] = [
        include_bytes!("../../../tests/golden/traces/client_cooked.pcap"),
        include_bytes!("../../../tests/golden/traces/client_cooked2_ns.pcap"),
        include_bytes!("../../../tests/golden/traces/client_two_interfaces.pcapng"),
        include_bytes!("../../../tests/golden/traces/usage_python.log"),
        b"da39a3ee5e6b4b0d3255bfef95601890afd80709\nda39a3ee5e6b4b0d3255bfef95601890afd80709 report\n",
    ];

    #[test]
    fn what_is_too_long_to_be_sent_is_passed_over() {
        let mut long = Vec::new();
        let longest_over_ipv6 = vec![b'a'; usize::from(u16::MAX) - 8];
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv6([1; 16], [2; 16], 64)
            .udp(5, OPTIONS.port)
            .write(&mut long, &longest_over_ipv6)
            .unwrap();
        let records = [(1, 0, long), (2, 0, frame((5, OPTIONS.port), PING))];
        let file = capture(0xa1b2_c3d4, u32::to_le_bytes, &records);
        let (events, skipped) = read(&file).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(skipped.damaged, 1);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn compressed_files_read_as_what_they_hold() {
        for sample in SAMPLES {
            let (expected, _) = read(sample).unwrap();
            let (first, second) = sample.split_at(sample.len() / 2);
            let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
            for packed in [
                gzip(sample),
                [gzip(first), gzip(second)].concat(),
                zstd(sample),
                [skippable, zstd(first), zstd(second)].concat(),
            ] {
                assert_eq!(read(&packed).unwrap().0, expected);
            }
        }
    }

    #[test]
    fn damage_to_a_compressed_file_is_found() {
        for pack in [gzip, zstd] {
            let packed = pack(SAMPLES[0]);
            for length in [packed.len() - 1, packed.len() / 2, 30] {
                let error = read(&packed[..length]).unwrap_err().to_string();
                assert!(error.contains("cannot read"), "{error}");
                let plain = [
                    "the compressed file is cut short",
                    "incomplete deflate stream",
                    "unexpected end of file",
                ];
                let is_plain = plain.iter().any(|words| error.ends_with(words));
                assert!(is_plain, "{length} bytes: {error}");
            }
            let mut flipped = packed;
            let last = flipped.len() - 1;
            flipped[last] ^= 1;
            assert!(read(&flipped).is_err(), "the checksum is looked at");
        }
    }

    #[test]
    fn of_what_is_cut_short_all_that_is_whole_is_read() {
        const REQUESTS: u32 = 10_000;
        let capture_of = |count: u32| {
            let datagram =
                |number| format!("Op: check\nOp-Digest: {}\n\n", known_digest(1, number));
            let record = |number| {
                let packet = frame((4000, OPTIONS.port), datagram(number).as_bytes());
                (number, 0, packet)
            };
            let records: Vec<_> = (1..=count).map(record).collect();
            capture(0xa1b2_c3d4, u32::to_le_bytes, &records)
        };
        let line = |number: u32| {
            format!(
                "2026-11-21 10:00:{:02} (1) INFO {},192.0.2.1,ping,None,200\n",
                number % 2,
                known_digest(1, number)
            )
        };
        let list = |number: u32| format!("{}\n", known_digest(1, number));
        let text = |line: &dyn Fn(u32) -> String| (1..=REQUESTS).map(line).collect::<String>();
        let samples = [
            capture_of(REQUESTS),
            text(&line).into_bytes(),
            text(&list).into_bytes(),
        ];
        let read_before_the_end = |bytes: &[u8]| {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("trace");
            fs::write(&path, bytes).unwrap();
            let trace = open(&path, &OPTIONS).unwrap();
            let (whole, mut failed): (Vec<_>, Vec<_>) = trace.partition(Result::is_ok);
            (whole.len(), failed.pop().unwrap().unwrap_err().to_string())
        };
        for sample in samples {
            let (read, why) = read_before_the_end(&sample[..sample.len() - 5]);
            assert_eq!(read, REQUESTS as usize - 1, "{why}");
            let says =
                why.contains("is cut short") || why.contains("line 10000: expected a digest");
            assert!(says, "{why}");
            for packed in [gzip(&sample), zstd(&sample)] {
                let (read, why) = read_before_the_end(&packed[..packed.len() - 1]);
                assert_eq!(read, REQUESTS as usize, "{why}");
                let (read, why) = read_before_the_end(&packed[..packed.len() * 3 / 4]);
                assert!(
                    read < REQUESTS as usize && read > REQUESTS as usize / 3,
                    "{read}: {why}"
                );
            }
        }
        let two_interfaces = SAMPLES[2];
        let (read, _) = read_before_the_end(&two_interfaces[..two_interfaces.len() - 1]);
        assert!(read > 40, "{read}");
    }

    #[test]
    fn lists_are_evenly_spaced_and_logs_as_finely_as_they_tell() {
        let (list, _) = read(SAMPLES[4]).unwrap();
        let times: Vec<u128> = list.iter().map(|event| event.at.as_micros()).collect();
        assert_eq!(times, [0, 1000]);
        let line = "2026-11-21 10:00:00 (1) INFO anonymous,192.0.2.1,ping,None,200\n";
        let next = line.replace(":00 (", ":02 (");
        let log = [line, line, &next, line, line].concat();
        let (log, _) = read(log.as_bytes()).unwrap();
        let times: Vec<u128> = log.iter().map(|event| event.at.as_millis()).collect();
        // The clock was set back at the end.
        assert_eq!(times, [0, 500, 2000, 2000, 2500]);
        assert_eq!(log[0].source.0.to_string(), "192.0.2.1:0");
        assert_ne!(
            log[0].datagram, log[1].datagram,
            "each has a Thread of its own"
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_trouble(
            beginning in proptest::sample::select(&SAMPLES[..]),
            kept in 0..64_usize,
            rest in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let file = [&beginning[..kept], &rest].concat();
            for file in [gzip(&file), zstd(&file), file] {
                let _ = read(&file);
            }
        }

        #[test]
        fn no_damage_makes_trouble(
            sample in proptest::sample::select(&SAMPLES[..]),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..10),
            pack in 0..3,
        ) {
            let mut file = match pack {
                0 => gzip(sample),
                1 => zstd(sample),
                _ => sample.to_vec(),
            };
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            match read(&file) {
                Ok((events, _)) => {
                    prop_assert!(events.is_sorted_by_key(|event| event.at));
                    prop_assert_eq!(events[0].at, Duration::ZERO);
                }
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}
