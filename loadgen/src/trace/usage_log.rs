//! Usage logs: ours and the Python daemon's, which look alike.
//!
//! A line tells who asked what about which digests, and when: a request is made up again from that. It tells nothing
//! of a refused request but the refusal, so those are missing. Requests of one moment, as finely as the log
//! tells moments apart, are spread over it evenly.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pyzor_protocol::{Digest, MAX_DATAGRAM_BYTES, Operation};

use super::input::Input;
use super::rebuild::Rebuilder;
use super::skipped::{Reason, Skipped};
use super::{Reader, Recorded, Source};
use crate::error::Error;

/// Requests of one moment that are spread over it; further ones come at its end.
const MAX_SPREAD: usize = 65_536;
/// The same in bytes of requests, but for the last of them: ordinary ones have a quarter as many.
const MAX_SPREAD_BYTES: usize = 64 << 20;
const SECOND_BYTES: usize = b"2026-11-21 10:00:00".len();
const NS_PER_S: u64 = 1_000_000_000;

/// Whether a line is one of a usage log.
pub(super) fn is_line(line: &[u8]) -> bool {
    matches!(read(line), Line::Request(_) | Line::Refusal)
}

/// A usage log.
pub(super) struct UsageLog {
    input: Input,
    rebuilder: Rebuilder,
    /// Requests of one moment.
    moment: VecDeque<Recorded>,
    /// The first request of the next moment.
    ahead: Option<LoggedRequest>,
    /// Why there is no next moment, to be told after this one.
    failure: Option<Error>,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Request(LoggedRequest),
    /// Of a request that is not told.
    Refusal,
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LoggedRequest {
    moment: Moment,
    user: Vec<u8>,
    ip: IpAddr,
    operation: Operation,
    /// The Python daemon carries out requests with digests that are none, and logs them.
    digests: Vec<String>,
}

/// A time as the log tells it: local time, taken for UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    starts_ns: u64,
    length_ns: u64,
}

impl UsageLog {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            rebuilder: Rebuilder::default(),
            moment: VecDeque::new(),
            ahead: None,
            failure: None,
        }
    }

    /// The next line that tells a request.
    fn next_logged(&mut self, skipped: &mut Skipped) -> Result<Option<LoggedRequest>, Error> {
        while let Some(line) = self.input.line()? {
            match read(&line) {
                Line::Request(request) => return Ok(Some(request)),
                Line::Refusal => skipped.count(Reason::RefusalLine),
                Line::Foreign => match self.input.cut_in(&line) {
                    Some(cut) => return Err(cut),
                    None => skipped.count(Reason::ForeignLine),
                },
            }
        }
        Ok(None)
    }

    /// Reads all requests of the next moment.
    fn read_moment(&mut self, skipped: &mut Skipped) -> Result<(), Error> {
        let first = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.next_logged(skipped)?,
        };
        let Some(first) = first else {
            return Ok(());
        };
        let moment = first.moment;
        let request = self.rebuild(&first);
        let mut bytes = request.datagram.len();
        self.moment.push_back(request);
        loop {
            let next = match self.next_logged(skipped) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            };
            if next.moment != moment || self.moment.len() >= MAX_SPREAD || bytes >= MAX_SPREAD_BYTES
            {
                self.ahead = Some(next);
                break;
            }
            let request = self.rebuild(&next);
            bytes += request.datagram.len();
            self.moment.push_back(request);
        }
        moment.spread(&mut self.moment);
        Ok(())
    }

    fn rebuild(&mut self, logged: &LoggedRequest) -> Recorded {
        let at_ns = logged.moment.starts_ns;
        let (operation, user) = (logged.operation, &logged.user);
        let digests = logged.digests.iter();
        let valid = digests
            .map(|digest| Digest::from_hex(digest.as_bytes()))
            .collect::<Result<Vec<_>, _>>();
        let time = at_ns / NS_PER_S;
        Recorded {
            at_ns,
            source: Source(SocketAddr::new(logged.ip, 0)),
            datagram: match valid {
                Ok(digests) => self.rebuilder.datagram(operation, &digests, user, time),
                Err(_) => self
                    .rebuilder
                    .verbatim(operation, &logged.digests, user, time),
            },
        }
    }
}

impl Reader for UsageLog {
    fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Recorded>, Error> {
        if self.moment.is_empty() {
            self.failure.take().map_or(Ok(()), Err)?;
            self.read_moment(skipped)?;
        }
        Ok(self.moment.pop_front())
    }
}

impl Moment {
    /// Gives `requests` times at equal distances.
    fn spread(self, requests: &mut VecDeque<Recorded>) {
        let distance_ns = self.length_ns / (requests.len() as u64).max(1);
        for (number, request) in (0..).zip(requests) {
            request.at_ns = self.starts_ns + number * distance_ns;
        }
    }
}

/// `2026-11-21 10:00:00,123 (PID) LEVEL message`.
fn read(line: &[u8]) -> Line {
    let Some((moment, level, message)) = str::from_utf8(line).ok().and_then(split) else {
        return Line::Foreign;
    };
    match level {
        "INFO" => request(moment, message).map_or(Line::Foreign, Line::Request),
        "ERROR" => Line::Refusal,
        _ => Line::Foreign,
    }
}

fn split(line: &str) -> Option<(Moment, &str, &str)> {
    let (time, rest) = line.split_once(" (")?;
    let (_, rest) = rest.split_once(") ")?;
    let (level, message) = rest.split_once(' ')?;
    Some((moment(time)?, level, message))
}

/// Reads a time, with digits of a second's fraction or without.
fn moment(text: &str) -> Option<Moment> {
    const MAX_FRACTION_DIGITS: usize = 9;
    let (second, fraction) = text.split_at_checked(SECOND_BYTES)?;
    let second: DateTime = second.parse().ok()?;
    let second = second.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let digits = fraction.strip_prefix([',', '.']).unwrap_or(fraction);
    let is_fraction = digits.len() <= MAX_FRACTION_DIGITS
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && digits.is_empty() == fraction.is_empty();
    if !is_fraction {
        return None;
    }
    let length_ns = NS_PER_S / 10u64.pow(u32::try_from(digits.len()).ok()?);
    let parts: u64 = format!("0{digits}").parse().ok()?;
    let seconds_ns = u64::try_from(second).ok()?.checked_mul(NS_PER_S)?;
    Some(Moment {
        starts_ns: seconds_ns.checked_add(parts * length_ns)?,
        length_ns,
    })
}

/// `user,ip,operation,['digest', …],200`, from its end, because a user's name may hold commas.
fn request(moment: Moment, message: &str) -> Option<LoggedRequest> {
    let message = message.strip_suffix(",200")?;
    let (message, digests) = if let Some(message) = message.strip_suffix(",None") {
        (message, Vec::new())
    } else {
        let (message, list) = message.strip_suffix(']')?.rsplit_once(",[")?;
        (message, digests(list)?)
    };
    let (message, operation) = message.rsplit_once(',')?;
    let (user, ip) = message.rsplit_once(',')?;
    if user.len() > MAX_DATAGRAM_BYTES {
        return None;
    }
    Some(LoggedRequest {
        moment,
        user: user.into(),
        ip: ip.parse().ok()?,
        operation: Operation::from_name(operation.as_bytes())?,
        digests,
    })
}

/// `'digest', 'digest'`; `None` for what Python would have written otherwise, and for more than a datagram holds.
fn digests(list: &str) -> Option<Vec<String>> {
    let is_plain = |c: char| c.is_ascii() && !c.is_ascii_control() && !matches!(c, '\'' | '\\');
    let digest = |quoted: &str| {
        let digest = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
        digest.chars().all(is_plain).then(|| digest.to_owned())
    };
    if list.len() > MAX_DATAGRAM_BYTES {
        return None;
    }
    list.split(", ").map(digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn line(message: &str) -> Vec<u8> {
        format!("2026-11-21 10:00:00,123 (42) {message}").into_bytes()
    }

    fn logged(message: &str) -> LoggedRequest {
        match read(&line(message)) {
            Line::Request(request) => request,
            other => panic!("{message}: {other:?}"),
        }
    }

    #[test]
    fn lines_tell_requests() {
        let ping = logged("INFO anonymous,192.0.2.7,ping,None,200");
        assert_eq!(ping.operation, Operation::Ping);
        assert_eq!(ping.ip, IpAddr::from([192, 0, 2, 7]));
        assert_eq!(ping.moment.starts_ns % NS_PER_S, 123_000_000);
        assert_eq!(ping.moment.length_ns, 1_000_000);
        let report = format!("INFO a,b,::1,report,['{DIGEST}', '{DIGEST}'],200");
        let report = logged(&report);
        assert_eq!(report.user, b"a,b");
        assert_eq!(report.ip, "::1".parse::<IpAddr>().unwrap());
        assert_eq!(report.digests.len(), 2);
        let strange = logged("INFO anonymous,::1,check,['xyz', ''],200");
        assert_eq!(strange.digests, ["xyz", ""]);
    }

    #[test]
    fn refusals_and_foreign_lines_are_told_apart() {
        assert_eq!(read(&line("ERROR 403: Forbidden")), Line::Refusal);
        for foreign in [
            line("INFO Server started"),
            line("INFO anonymous,x,ping,None,200"),
            line("INFO anonymous,::1,ping,None,20"),
            line("INFO anonymous,::1,dance,None,200"),
            line("INFO anonymous,::1,check,[],200"),
            line("INFO anonymous,::1,check,['x\\n'],200"),
            line("INFO anonymous,::1,check,[\"x'y\"],200"),
            line(&format!(
                "INFO anonymous,::1,check,[{}'{DIGEST}'],200",
                format!("'{DIGEST}', ").repeat(200)
            )),
            b"2026-11-21 10:00:00,12x (42) ERROR 403: Forbidden".to_vec(),
            b"2026-11-31 10:00:00,123 (42) ERROR 403: Forbidden".to_vec(),
            "2026-11-21 10:00:0\u{e4},123 (42) ERROR 403".into(),
            b"\xff".to_vec(),
            b"".to_vec(),
        ] {
            let shown = String::from_utf8_lossy(&foreign).into_owned();
            assert_eq!(read(&foreign), Line::Foreign, "{shown}");
        }
    }

    #[test]
    fn times_are_as_fine_as_they_are_written() {
        let length_ns = |text| moment(text).unwrap().length_ns;
        assert_eq!(length_ns("2026-11-21 10:00:00"), NS_PER_S);
        assert_eq!(length_ns("2026-11-21 10:00:00.5"), NS_PER_S / 10);
        assert_eq!(length_ns("2026-11-21 10:00:00,123456789"), 1);
        assert_eq!(moment("2026-11-21 10:00:00,"), None);
        assert_eq!(moment("1969-11-21 10:00:00"), None);
    }
}
