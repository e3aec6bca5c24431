//! Requests that are made up: seeded, so that they can be made up again.
//!
//! Known digests are the ones that `blast --preload` reports with the same seed. A burst is a campaign: reports one after
//! another, by whatever sources, are about the same digest.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use pyzor_protocol::{Digest, MAX_DIGESTS, Operation};

use super::rebuild::Rebuilder;
use super::skipped::Skipped;
use super::{Reader, Recorded, Source};
use crate::error::Error;
use crate::flags::{MAX_KNOWN, MIN_RATE_PER_S, number_within};
use crate::mix::{SplitMix64, Zipf, fresh_digest, known_digest};

/// Made-up sources count from here.
const FIRST_SOURCE: u32 = u32::from_be_bytes([10, 0, 0, 0]);
/// Sources that fit into 10.0.0.0/8.
const MAX_SOURCES: u32 = 1 << 24;
const MAX_EXPONENT: f64 = 10.0;
const MAX_RATE_PER_S: f64 = 1e9;
const MAX_BURST: f64 = 1e6;
const NS_PER_S: f64 = 1e9;
/// The longest of the requests that are nothing but noise.
const MAX_NOISE_BYTES: u32 = 200;

/// What a made-up trace is made of, for the command line: `KEY=VALUE,…`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyntheticMix {
    /// How often each of [`Operation::ALL`] is asked for, in relation to the others.
    weights: [f64; Operation::ALL.len()],
    /// How many digests are known.
    known: u32,
    /// Share of digests that are known; the others are new each time.
    known_share: f64,
    /// How much more popular low known digests are than high ones; 0 makes all equal.
    zipf: f64,
    /// Digests in a batch.
    batch: u32,
    /// Share of reports and whitelistings that are batches.
    batch_share: f64,
    /// Mean number of reports in a burst.
    burst: f64,
    /// Share of requests that are malformed.
    malformed: f64,
    sources: u32,
    /// How much busier low sources are than high ones.
    source_zipf: f64,
    /// Mean rate; requests come independently of each other.
    rate_per_s: f64,
    /// How many; without it there is no end.
    requests: Option<u64>,
}

impl Default for SyntheticMix {
    fn default() -> Self {
        let weight = |operation: &Operation| match operation {
            Operation::Check => 0.9,
            Operation::Report => 0.1,
            _ => 0.0,
        };
        let mut weights = [0.0; Operation::ALL.len()];
        for (slot, operation) in weights.iter_mut().zip(&Operation::ALL) {
            *slot = weight(operation);
        }
        Self {
            weights,
            known: 10_000,
            known_share: 1.0,
            zipf: 1.0,
            batch: 10,
            batch_share: 0.0,
            burst: 1.0,
            malformed: 0.0,
            sources: 100,
            source_zipf: 0.0,
            rate_per_s: 1000.0,
            requests: None,
        }
    }
}

impl FromStr for SyntheticMix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let failed = |part: &str, problem: String| Error::Mix {
            part: part.to_owned(),
            problem,
        };
        let mut mix = Self::default();
        if text.split(',').any(names_operation) {
            mix.weights = [0.0; Operation::ALL.len()];
        }
        let mut keys = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| failed(part, "expected KEY=VALUE".to_owned()))?;
            if !keys.insert(key) {
                return Err(failed(part, "expected each key once".to_owned()));
            }
            mix.set(key, value)
                .map_err(|problem| failed(part, problem))?;
        }
        if mix.weights.iter().sum::<f64>() <= 0.0 {
            return Err(failed(text, "expected an operation to ask for".to_owned()));
        }
        Ok(mix)
    }
}

fn names_operation(part: &str) -> bool {
    let key = part.split('=').next().unwrap_or_default();
    Operation::from_name(key.as_bytes()).is_some()
}

impl SyntheticMix {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = |low, high| number_within(value, low, high);
        match key {
            "known" => self.known = whole(value, MAX_KNOWN)?,
            "known-share" => self.known_share = number(0.0, 1.0)?,
            "zipf" => self.zipf = number(0.0, MAX_EXPONENT)?,
            "batch" => self.batch = whole(value, MAX_DIGESTS as u64)?,
            "batch-share" => self.batch_share = number(0.0, 1.0)?,
            "burst" => self.burst = number(1.0, MAX_BURST)?,
            "malformed" => self.malformed = number(0.0, 1.0)?,
            "sources" => self.sources = whole(value, MAX_SOURCES)?,
            "source-zipf" => self.source_zipf = number(0.0, MAX_EXPONENT)?,
            "rate" => self.rate_per_s = number(MIN_RATE_PER_S, MAX_RATE_PER_S)?,
            "requests" => self.requests = Some(whole(value, u64::MAX)?),
            _ => return self.set_weight(key, value),
        }
        Ok(())
    }

    /// Of digests and of sources, whichever are more.
    pub(super) fn ranks(&self) -> u32 {
        self.known.max(self.sources)
    }

    fn set_weight(&mut self, name: &str, value: &str) -> Result<(), String> {
        const MAX_WEIGHT: f64 = 1e9;
        let operation = Operation::from_name(name.as_bytes()).ok_or_else(|| {
            "expected one of the operations, known, known-share, zipf, batch, batch-share, burst, malformed, sources, \
             source-zipf, rate or requests"
                .to_owned()
        })?;
        self.weights[operation as usize] = number_within(value, 0.0, MAX_WEIGHT)?;
        Ok(())
    }
}

fn whole<N: TryFrom<u64>>(text: &str, most: impl TryInto<u64>) -> Result<N, String> {
    let most = most.try_into().unwrap_or(u64::MAX);
    let number = text.parse().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

/// Makes up requests.
pub(super) struct Synthetic {
    mix: SyntheticMix,
    seed: u64,
    random: SplitMix64,
    known: Zipf,
    sources: Zipf,
    /// How many new digests were used so far.
    fresh: u64,
    burst: Option<Burst>,
    /// Requests made so far.
    made: u64,
    at_s: f64,
    rebuilder: Rebuilder,
}

/// The rest of a burst.
struct Burst {
    digest: Digest,
    left: u64,
}

impl Synthetic {
    pub(super) fn new(mix: SyntheticMix, seed: u64) -> Self {
        Self {
            seed,
            random: SplitMix64::new(seed),
            known: Zipf::new(mix.known, mix.zipf),
            sources: Zipf::new(mix.sources, mix.source_zipf),
            fresh: 0,
            burst: None,
            made: 0,
            at_s: 0.0,
            rebuilder: Rebuilder::default(),
            mix,
        }
    }

    fn datagram(&mut self) -> Box<[u8]> {
        if self.random.happens(self.mix.malformed) {
            return self.malformed();
        }
        let operation = self.operation();
        let digests: Vec<Digest> = match operation {
            Operation::Ping => Vec::new(),
            Operation::Report => self.batch(Self::reported),
            Operation::Whitelist => self.batch(Self::digest),
            _ => vec![self.digest()],
        };
        self.rebuilder.anonymous(operation, &digests)
    }

    fn operation(&mut self) -> Operation {
        let mut left = self.random.unit() * self.mix.weights.iter().sum::<f64>();
        let weights = Operation::ALL.iter().zip(&self.mix.weights);
        let mut possible = weights.filter(|(_, weight)| **weight > 0.0);
        let drawn = possible.find(|(_, weight)| {
            left -= **weight;
            left < 0.0
        });
        drawn.map_or(Operation::Check, |(operation, _)| *operation)
    }

    fn batch(&mut self, mut digest: impl FnMut(&mut Self) -> Digest) -> Vec<Digest> {
        let is_batch = self.random.happens(self.mix.batch_share);
        let count = if is_batch { self.mix.batch } else { 1 };
        (0..count).map(|_| digest(self)).collect()
    }

    fn digest(&mut self) -> Digest {
        if self.random.happens(self.mix.known_share) {
            known_digest(self.seed, self.known.draw(&mut self.random))
        } else {
            self.fresh += 1;
            fresh_digest(self.seed, self.fresh)
        }
    }

    /// The digest of the burst that goes on, or of one that begins.
    fn reported(&mut self) -> Digest {
        let mut burst = match self.burst.take() {
            Some(burst) => burst,
            None => Burst {
                digest: self.digest(),
                left: self.burst_length(),
            },
        };
        burst.left -= 1;
        let digest = burst.digest;
        self.burst = (burst.left > 0).then_some(burst);
        digest
    }

    /// Geometric: each report may be the last one of its burst.
    fn burst_length(&mut self) -> u64 {
        let mut length = 1;
        while self.random.happens(1.0 - 1.0 / self.mix.burst) {
            length += 1;
        }
        length
    }

    /// What no client should send: a digest that is none, an operation that is none, half a request, or noise.
    fn malformed(&mut self) -> Box<[u8]> {
        let digest = self.digest();
        let mut datagram = self
            .rebuilder
            .anonymous(Operation::Check, &[digest])
            .into_vec();
        let replace = |datagram: &mut Vec<u8>, after: &[u8]| {
            let found = datagram.windows(after.len()).position(|part| part == after);
            if let Some(byte) = found.and_then(|at| datagram.get_mut(at + after.len())) {
                *byte = b'x';
            }
        };
        match self.random.below(4) {
            0 => replace(&mut datagram, b"Op-Digest: "),
            1 => replace(&mut datagram, b"Op: "),
            2 => datagram.truncate(datagram.len() / 2),
            _ => {
                let length = self.random.below(MAX_NOISE_BYTES);
                datagram = (0..length)
                    .map(|_| self.random.next().to_le_bytes()[0])
                    .collect();
            }
        }
        datagram.into()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and casts from floats saturate"
    )]
    fn next_at_ns(&mut self) -> u64 {
        if self.made > 0 {
            self.at_s -= (1.0 - self.random.unit()).ln() / self.mix.rate_per_s;
        }
        (self.at_s * NS_PER_S) as u64
    }
}

impl Reader for Synthetic {
    fn next(&mut self, _: &mut Skipped) -> Result<Option<Recorded>, Error> {
        if self
            .mix
            .requests
            .is_some_and(|requests| self.made >= requests)
        {
            return Ok(None);
        }
        let at_ns = self.next_at_ns();
        self.made += 1;
        let source = FIRST_SOURCE + self.sources.draw(&mut self.random);
        Ok(Some(Recorded {
            at_ns,
            source: Source(SocketAddr::from((Ipv4Addr::from(source), 0))),
            datagram: self.datagram(),
        }))
    }

    fn is_endless(&self) -> bool {
        self.mix.requests.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use pyzor_protocol::{Request, Scratch};

    use super::*;

    fn made(spec: &str, seed: u64) -> Vec<Recorded> {
        let mut synthetic = Synthetic::new(spec.parse().unwrap(), seed);
        let mut skipped = Skipped::default();
        std::iter::from_fn(|| synthetic.next(&mut skipped).unwrap()).collect()
    }

    fn count<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, f64> {
        let mut counts = HashMap::new();
        for key in keys {
            *counts.entry(key).or_insert(0.0) += 1.0;
        }
        counts
    }

    /// Whether a count is within five standard deviations of what it should be.
    #[track_caller]
    fn assert_about(count: f64, expected: f64) {
        let error = (count - expected).abs();
        assert!(error <= 5.0 * expected.sqrt(), "{count}, not {expected}");
    }

    #[test]
    fn shares_come_out_as_asked() {
        let spec = "check=6,report=3,ping=1,requests=20000,malformed=0.05,sources=4,batch=7,batch-share=0.5,\
                    known-share=0.25,rate=500";
        let requests = made(spec, 1);
        assert_eq!(requests.len(), 20_000);
        let mut scratch = Scratch::new();
        let mut checks_of = HashMap::new();
        let mut lengths = Vec::new();
        let operations = count(requests.iter().map(|request| {
            let request = Request::parse(&request.datagram, &mut scratch);
            let digests: Vec<_> = request.digests().flatten().collect();
            let operation = request.operation();
            match operation {
                Some(Operation::Check) => {
                    *checks_of.entry(digests.first().copied()).or_insert(0) += 1;
                }
                Some(Operation::Report) => lengths.push(digests.len()),
                _ => {}
            }
            operation
        }));
        assert_about(operations[&Some(Operation::Report)], 0.95 * 6000.0);
        assert_about(operations[&Some(Operation::Ping)], 0.95 * 2000.0);
        // Two of four kinds of malformed requests have no operation that is one.
        assert_about(operations[&None], 500.0);
        let batches = count(lengths.into_iter());
        assert_about(batches[&7], 0.95 * 3000.0);
        assert_about(batches[&1], 0.95 * 3000.0);
        let fresh = checks_of.values().filter(|checks| **checks == 1).count();
        assert!(fresh > 8000 && checks_of.len() < 12_000, "{fresh}");
        let sources = count(requests.iter().map(|request| request.source));
        assert_eq!(sources.len(), 4);
        for requests in sources.values() {
            assert_about(*requests, 5000.0);
        }
        let last_ns = requests.last().unwrap().at_ns;
        assert_about(
            Duration::from_nanos(last_ns).as_secs_f64() * 500.0,
            20_000.0,
        );
    }

    #[test]
    fn a_burst_reports_one_digest_again_and_again() {
        let requests = made("report=1,burst=20,known-share=0,requests=20000", 1);
        let digests = count(requests.iter().map(|request| {
            let text = String::from_utf8(request.datagram.to_vec()).unwrap();
            text.lines().nth(1).unwrap().to_owned()
        }));
        assert_about(u32::try_from(digests.len()).unwrap().into(), 1000.0);
    }

    #[test]
    fn a_seed_repeats_its_requests() {
        let requests = |seed| {
            let requests = made("requests=500,malformed=0.2,known-share=0.5,burst=3", seed);
            let told = |request: Recorded| (request.at_ns, request.source, request.datagram);
            requests.into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(requests(1), requests(1));
        assert_ne!(requests(1), requests(2));
    }

    #[test]
    fn mistakes_in_a_mix_are_named() {
        let error = |spec: &str| spec.parse::<SyntheticMix>().unwrap_err().to_string();
        assert_eq!(
            error("known=0"),
            "synthetic mix: known=0: expected a whole number from 1 to 100000000"
        );
        assert_eq!(error("zipf"), "synthetic mix: zipf: expected KEY=VALUE");
        assert_eq!(
            error("check=0"),
            "synthetic mix: check=0: expected an operation to ask for"
        );
        assert!(error("chekc=1").starts_with("synthetic mix: chekc=1: expected one of"));
        for wrong in [
            "rate=0",
            "rate=nan",
            "burst=0.5",
            "batch=1000",
            "sources=-1",
            "malformed=2",
        ] {
            error(wrong);
        }
        let ping = "ping=1".parse::<SyntheticMix>().unwrap();
        let asked = ping.weights.iter().filter(|weight| **weight > 0.0);
        assert_eq!(asked.count(), 1, "only what is named");
        assert_eq!("".parse::<SyntheticMix>().unwrap(), SyntheticMix::default());
    }
}
