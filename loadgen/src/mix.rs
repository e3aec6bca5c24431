//! What is asked: which operation, and about which digests. Seeded, so that a run can be repeated.

use pyzor_protocol::{Digest, Operation};
use sha1::{Digest as _, Sha1};

use crate::flags::{Asked, Traffic};
use crate::request::{Template, Thread};

/// A digest as it travels.
pub(crate) type HexDigest = [u8; Digest::HEX_DIGITS];

/// Memory for one known digest of a [`Mix`]: itself, and its cell of a [`Zipf`].
pub(crate) const KNOWN_BYTES: usize = size_of::<HexDigest>() + size_of::<Cell>();
/// Memory for one rank while a [`Zipf`] is made, at most.
pub(crate) const RANK_BYTES: usize = 32;

/// A small, fast source of random numbers (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
/// 2014). Neighbouring seeds give unrelated streams.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::GAMMA);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias of a multiplication is at most `bound` in 2^32.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let product = u64::from(self.half()) * u64::from(bound);
        (product >> u32::BITS) as u32
    }

    /// 32 random bits.
    fn half(&mut self) -> u32 {
        (self.next() >> u32::BITS) as u32
    }

    /// True with probability `share`.
    pub(crate) fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A number from 0 up to, not including, 1, with all 53 bits that fit.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub(crate) fn unit(&mut self) -> f64 {
        const FRACTION_BITS: u32 = 53;
        (self.next() >> (u64::BITS - FRACTION_BITS)) as f64 / (1u64 << FRACTION_BITS) as f64
    }
}

/// Draws rank `i` (from 0) with a probability proportional to `(i + 1)^-exponent`, in constant time: Walker's alias
/// method as Vose builds it ("A linear algorithm for generating random numbers with a given distribution", 1991).
#[derive(Debug)]
pub(crate) struct Zipf {
    cells: Vec<Cell>,
    ranks: u32,
}

/// One rank's column of height 1: up to `own_share` of 2^32 belongs to the rank itself, the rest to `alias`.
#[derive(Clone, Copy, Debug)]
struct Cell {
    own_share: u32,
    alias: u32,
}

impl Zipf {
    /// Over `ranks` ranks, at least one; an exponent of 0 makes all of them equal.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares lie between 0 and 1, and casts from floats saturate"
    )]
    pub(crate) fn new(ranks: u32, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent));
        let scale = f64::from(ranks) / weights.clone().sum::<f64>();
        let mut heights: Vec<f64> = weights.map(|weight| weight * scale).collect();
        let mut cells: Vec<Cell> = (0..ranks).map(Cell::whole).collect();
        let (mut low, mut high): (Vec<u32>, Vec<u32>) =
            (0..ranks).partition(|&rank| heights[rank as usize] < 1.0);
        while let (Some(&poor), Some(&rich)) = (low.last(), high.last()) {
            low.pop();
            let height = heights[poor as usize];
            cells[poor as usize] = Cell {
                own_share: (height * f64::from(u32::MAX)) as u32,
                alias: rich,
            };
            heights[rich as usize] -= 1.0 - height;
            if heights[rich as usize] < 1.0 {
                high.pop();
                low.push(rich);
            }
        }
        Self { cells, ranks }
    }

    pub(crate) fn draw(&self, random: &mut SplitMix64) -> u32 {
        let rank = random.below(self.ranks);
        let cell = self.cells[rank as usize];
        if random.half() <= cell.own_share {
            rank
        } else {
            cell.alias
        }
    }
}

impl Cell {
    fn whole(rank: u32) -> Self {
        Self {
            own_share: u32::MAX,
            alias: rank,
        }
    }
}

/// The `number`th known digest of a seed: anybody who knows the seed can compute it again.
pub(crate) fn known_digest(seed: u64, number: u32) -> Digest {
    let hash = Sha1::new()
        .chain_update(b"known")
        .chain_update(seed.to_le_bytes())
        .chain_update(number.to_le_bytes());
    Digest::from_bytes(hash.finalize().into())
}

/// The `number`th digest of a seed that no other run and no other number asks about. Cheaper than a SHA-1: one is made for
/// each request that needs it.
pub(crate) fn fresh_digest(seed: u64, number: u64) -> Digest {
    let mut random = SplitMix64::new(SplitMix64::new(seed).next() ^ number.rotate_left(32));
    let mut bytes = [0; Digest::BYTES];
    for part in bytes.chunks_mut(size_of::<u64>()) {
        part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
    }
    Digest::from_bytes(bytes)
}

/// An endless, repeatable stream of requests.
pub(crate) struct Mix {
    traffic: Traffic,
    seed: u64,
    random: SplitMix64,
    zipf: Zipf,
    known: Vec<HexDigest>,
    /// How many fresh digests were used so far.
    fresh: u64,
    ping: Template,
    check: Template,
    report: Template,
}

impl Mix {
    pub(crate) fn new(traffic: &Traffic, seed: u64) -> Self {
        let digests = (0..traffic.known).map(|number| known_digest(seed, number).to_hex());
        Self {
            seed,
            random: SplitMix64::new(seed),
            zipf: Zipf::new(traffic.known, traffic.zipf),
            known: digests.collect(),
            fresh: 0,
            ping: Template::new(Operation::Ping, 0),
            check: Template::new(Operation::Check, 1),
            report: Template::new(Operation::Report, traffic.digests),
            traffic: traffic.clone(),
        }
    }

    /// The longest request, in bytes.
    pub(crate) fn longest_request(&self) -> usize {
        let templates = [&self.ping, &self.check, &self.report];
        templates
            .map(Template::bytes)
            .into_iter()
            .max()
            .unwrap_or(0)
    }

    /// Writes the next request under `thread`; its operation and its length.
    pub(crate) fn next(&mut self, thread: Thread, datagram: &mut [u8]) -> (Operation, usize) {
        let operation = self.operation();
        let (template, fresh_share) = match operation {
            Operation::Check => (&self.check, self.traffic.unknown_share),
            Operation::Report => (&self.report, f64::from(u8::from(self.traffic.distinct))),
            _ => (&self.ping, 0.0),
        };
        let digest = || {
            if self.random.happens(fresh_share) {
                self.fresh += 1;
                fresh_digest(self.seed, self.fresh).to_hex()
            } else {
                self.known[self.zipf.draw(&mut self.random) as usize]
            }
        };
        (operation, template.write(datagram, thread, digest))
    }

    fn operation(&mut self) -> Operation {
        match self.traffic.op {
            Asked::Ping => Operation::Ping,
            Asked::Report => Operation::Report,
            Asked::Mix if self.random.happens(self.traffic.report_share) => Operation::Report,
            Asked::Check | Asked::Mix => Operation::Check,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of `draws` draws each rank got.
    fn drawn(ranks: u32, exponent: f64, draws: u32) -> Vec<f64> {
        let zipf = Zipf::new(ranks, exponent);
        let mut random = SplitMix64::new(7);
        let mut counts = vec![0u32; ranks as usize];
        for _ in 0..draws {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        let draws = f64::from(draws);
        counts
            .iter()
            .map(|&count| f64::from(count) / draws)
            .collect()
    }

    /// Five standard deviations of a binomial share.
    fn tolerance(share: f64, draws: u32) -> f64 {
        5.0 * (share * (1.0 - share) / f64::from(draws)).sqrt()
    }

    #[test]
    fn zipf_ranks_are_drawn_as_often_as_the_law_says() {
        const DRAWS: u32 = 400_000;
        for (ranks, exponent) in [
            (1, 1.0),
            (2, 1.0),
            (50, 0.0),
            (50, 0.8),
            (50, 1.0),
            (50, 2.5),
        ] {
            let weights = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent));
            let sum: f64 = weights.clone().sum();
            for (weight, share) in weights.zip(drawn(ranks, exponent, DRAWS)) {
                let expected = weight / sum;
                let error = (share - expected).abs();
                assert!(
                    error <= tolerance(expected, DRAWS),
                    "{ranks} ranks, exponent {exponent}: {share} instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn fresh_digests_differ_by_number_and_by_seed() {
        let digests =
            (0..4).flat_map(|seed| (0..1000).map(move |number| fresh_digest(seed, number)));
        let distinct: std::collections::HashSet<Digest> = digests.collect();
        assert_eq!(distinct.len(), 4000);
    }

    #[test]
    fn known_digests_are_sha1_of_seed_and_counter() {
        let expected = Sha1::digest(b"known\x01\0\0\0\0\0\0\0\x02\0\0\0");
        assert_eq!(known_digest(1, 2).as_bytes()[..], expected[..]);
    }

    fn traffic(op: Asked) -> Traffic {
        Traffic {
            op,
            known: 10,
            unknown_share: 0.25,
            zipf: 1.0,
            digests: 3,
            report_share: 0.1,
            distinct: false,
        }
    }

    #[test]
    fn a_seed_repeats_its_requests() {
        let thread = Thread::FIRST;
        let requests = |seed| {
            let mut mix = Mix::new(&traffic(Asked::Mix), seed);
            let mut datagram = [0; 512];
            let request = |_| {
                let (_, length) = mix.next(thread, &mut datagram);
                datagram[..length].to_vec()
            };
            (0..100).map(request).collect::<Vec<_>>()
        };
        assert_eq!(requests(1), requests(1));
        assert_ne!(requests(1), requests(2));
    }

    #[test]
    fn shares_come_out_as_asked() {
        const REQUESTS: u32 = 100_000;
        let mut mix = Mix::new(&traffic(Asked::Mix), 1);
        let mut datagram = [0; 512];
        let mut reports = 0;
        for _ in 0..REQUESTS {
            let (operation, _) = mix.next(Thread::FIRST, &mut datagram);
            reports += u32::from(operation == Operation::Report);
        }
        let checks = REQUESTS - reports;
        let error = |part: u32, whole: u32, share: f64| {
            (f64::from(part) / f64::from(whole) - share).abs() - tolerance(share, whole)
        };
        assert!(error(reports, REQUESTS, 0.1) <= 0.0, "{reports} reports");
        let fresh = u32::try_from(mix.fresh).unwrap();
        assert!(
            error(fresh, checks, 0.25) <= 0.0,
            "{fresh} of {checks} fresh"
        );
    }
}
