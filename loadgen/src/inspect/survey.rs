//! Goes through the requests of a trace and counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use pyzor_protocol::{
    ANONYMOUS_USER, Digest, MAX_DATAGRAM_BYTES, Operation, Request, Scratch, User,
};

use super::duplicates::Duplicates;
use super::frequencies::Frequencies;
use super::rate::RateOverTime;
use super::summary::{
    Count, DigestSummary, RateSummary, SourceSummary, Summary, TopShares, UserSummary,
};
use super::zipf_fit::ZipfFit;
use crate::error::Error;
use crate::trace::{Event, Format, Skipped};

/// Digests counted one by one, each in some 50 bytes; of more, a sample is.
const MAX_DIGESTS: usize = 2_000_000;
/// Addresses and ports counted one by one.
const MAX_SOURCES: usize = 1_000_000;
const MAX_USERS: usize = 100_000;
/// Of a longer name, the beginning counts.
const MAX_USER_BYTES: usize = 64;
/// Users and addresses that are named.
const NAMED: usize = 10;

/// What was counted so far.
pub(super) struct Survey {
    format: Format,
    scratch: Scratch,
    requests: u64,
    bytes: u64,
    last: Duration,
    rate: RateOverTime,
    operations: BTreeMap<&'static str, u64>,
    users: Frequencies<Vec<u8>>,
    digests: Frequencies<Digest>,
    digests_a_request: BTreeMap<usize, u64>,
    addresses: Frequencies<IpAddr>,
    flows: Frequencies<SocketAddr>,
    duplicates: Duplicates,
    malformed: u64,
}

impl Survey {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            scratch: Scratch::new(),
            requests: 0,
            bytes: 0,
            last: Duration::ZERO,
            rate: RateOverTime::new(),
            operations: BTreeMap::new(),
            users: Frequencies::new(MAX_USERS),
            digests: Frequencies::new(MAX_DIGESTS),
            digests_a_request: BTreeMap::new(),
            addresses: Frequencies::new(MAX_SOURCES),
            flows: Frequencies::new(MAX_SOURCES),
            duplicates: Duplicates::default(),
            malformed: 0,
        }
    }

    pub(super) fn count(&mut self, event: &Event) {
        self.requests += 1;
        self.bytes += event.datagram.len() as u64;
        self.last = event.at;
        self.rate.count(event.at);
        self.addresses.count(event.source.0.ip());
        self.flows.count(event.source.0);
        // A server reads no more of it either.
        let datagram = &event.datagram[..event.datagram.len().min(MAX_DATAGRAM_BYTES)];
        let request = Request::parse(datagram, &mut self.scratch);
        let operation = request.operation();
        *self
            .operations
            .entry(operation.map_or("other", Operation::name))
            .or_default() += 1;
        self.users.count(name(request.user()));
        self.malformed += u64::from(is_malformed(&request));
        self.duplicates.count(event.at, event.source, &request);
        let mut digests = 0;
        for digest in used_digests(&request) {
            self.digests.count(digest);
            digests += 1;
        }
        *self.digests_a_request.entry(digests).or_default() += 1;
    }

    /// `failure` is why the trace was not read to its end, if so.
    pub(super) fn summary(
        &self,
        path: &Path,
        skipped: &Skipped,
        failure: Option<&Error>,
    ) -> Summary {
        let tells_threads = matches!(self.format, Format::Pcap | Format::Pcapng);
        Summary {
            trace: path.display().to_string(),
            kind: self.format.to_string(),
            requests: self.requests,
            bytes: self.bytes,
            duration_s: self.last.as_secs_f64(),
            rate: RateSummary::new(self.requests, self.last, &self.rate),
            operations: self.operations.clone(),
            users: self.users(),
            digests: self.digests(),
            digests_a_request: self.digests_a_request.clone(),
            sources: self.sources(),
            duplicates: tells_threads.then(|| self.duplicates.total()),
            malformed: self.malformed,
            skipped: skipped.clone(),
            notes: self.notes(skipped, failure),
        }
    }

    fn users(&self) -> UserSummary {
        let name = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        let top = self.users.top(NAMED);
        UserSummary {
            distinct: self.users.distinct(),
            top: top
                .into_iter()
                .map(|(user, requests)| Count::new(name(user), requests))
                .collect(),
        }
    }

    fn digests(&self) -> DigestSummary {
        let ranked = self.digests.ranked();
        DigestSummary {
            asked: self.digests.total(),
            distinct: self.digests.distinct(),
            sampled_one_in: self.digests.sampled_one_in(),
            once_share: share(
                ranked.iter().filter(|count| **count == 1).count() as u64,
                ranked.len() as u64,
            ),
            top_shares: TopShares::of(&ranked),
            zipf: ZipfFit::of(&ranked),
        }
    }

    fn sources(&self) -> SourceSummary {
        let ranked = self.addresses.ranked();
        let top = self.addresses.top(NAMED);
        SourceSummary {
            addresses: self.addresses.distinct(),
            flows: self.flows.distinct(),
            sampled_one_in: self.addresses.sampled_one_in(),
            top_shares: TopShares::of(&ranked),
            median_requests: ranked.get(ranked.len() / 2).copied().unwrap_or(0),
            p99_requests: ranked.get(ranked.len() / 100).copied().unwrap_or(0),
            top: top
                .into_iter()
                .map(|(address, requests)| Count::new(address.to_string(), requests))
                .collect(),
        }
    }

    /// What must be known to read the numbers rightly.
    fn notes(&self, skipped: &Skipped, failure: Option<&Error>) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(failure) = failure {
            notes.push(format!("not read to its end: {failure}"));
        }
        if self.format == Format::UsageLog {
            notes.push(format!(
                "a usage log does not tell what refused requests asked: {} are missing; nor Thread, port, nor what \
                 else a request held",
                skipped.refusal_lines
            ));
        }
        if self.format == Format::Digests {
            notes.push("a list of digests tells neither times nor sources".to_owned());
        }
        let one_in = self.digests.sampled_one_in();
        if one_in > 1 {
            notes.push(format!(
                "more than {MAX_DIGESTS} digests: their number and skew are estimated from one in {one_in} of them"
            ));
        }
        notes
    }
}

fn name(user: User<'_>) -> Vec<u8> {
    let name = match user {
        User::Anonymous => ANONYMOUS_USER,
        User::Named(name) => name,
    };
    name[..name.len().min(MAX_USER_BYTES)].to_vec()
}

/// The digests that a server looks at for the operation.
fn used_digests(request: &Request<'_>) -> impl Iterator<Item = Digest> {
    let most = match request.operation() {
        Some(Operation::Report | Operation::Whitelist) => usize::MAX,
        Some(Operation::Check | Operation::Info | Operation::Pong) => 1,
        Some(Operation::Ping) | None => 0,
    };
    request.digests().take(most).filter_map(Result::ok)
}

/// Whether a server refuses the request whoever sends it.
fn is_malformed(request: &Request<'_>) -> bool {
    let used = match request.operation() {
        None => return true,
        Some(Operation::Ping) => 0,
        Some(Operation::Report | Operation::Whitelist) => usize::MAX,
        Some(_) => 1,
    };
    request.check_version().is_err() || request.digests().take(used).any(|digest| digest.is_err())
}

/// Part of a whole; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "no trace holds 2^52 requests")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
