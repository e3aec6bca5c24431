//! Counts requests and answers while a window is open. Counting allocates only when a code is seen for the first time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pyzor_protocol::Operation;

use crate::latency::{Compact, Latencies, Percentiles};
use crate::reply::Reply;
use crate::result::{
    CodeResult, IntervalHistograms, IntervalOperation, IntervalResult, OperationResult, epoch_s,
};

/// How many codes of one operation are told apart: a server has few, and each takes up to two histograms.
const MAX_CODES: usize = 16;
/// One for each operation of the protocol, and one for requests that name none of them.
const OPERATIONS: usize = Operation::ALL.len() + 1;

/// What a server answers to what it did.
const DONE: u16 = 200;

/// Requests and answers by operation.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// In the order of [`Operation::ALL`]; the last one is for other requests.
    operations: [OperationTally; OPERATIONS],
}

#[derive(Clone, Debug, Default)]
struct OperationTally {
    sent: u64,
    found: u64,
    lost: u64,
    codes: Vec<CodeTally>,
}

#[derive(Clone, Debug)]
struct CodeTally {
    code: SeenCode,
    service: Latencies,
    intended: Option<Latencies>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeenCode {
    None,
    Code(u16),
    /// Any that came when [`MAX_CODES`] had been seen.
    Other,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            operations: std::array::from_fn(|_| OperationTally::default()),
        }
    }

    /// With the memory that the answers to an open loop usually take.
    pub(crate) fn touched() -> Self {
        let touched = || OperationTally {
            codes: vec![CodeTally {
                code: SeenCode::Code(DONE),
                service: Latencies::touched(),
                intended: Some(Latencies::touched()),
            }],
            ..OperationTally::default()
        };
        let mut tally = Self::new();
        for operation in Operation::ALL {
            *tally.of(Some(operation)) = touched();
        }
        tally
    }

    /// A request was sent; `None` stands for one that names no operation.
    pub(crate) fn sent(&mut self, operation: Option<Operation>) {
        self.of(operation).sent += 1;
    }

    /// A request was answered: so long after it was sent, and after it was to be sent (open loop only).
    pub(crate) fn count(
        &mut self,
        operation: Option<Operation>,
        reply: &Reply,
        service: Duration,
        intended: Option<Duration>,
    ) {
        let tally = self.of(operation);
        tally.found += u64::from(reply.found());
        let code = reply.code.map_or(SeenCode::None, SeenCode::Code);
        tally.code(code).record(service, intended);
    }

    /// A request was given up.
    pub(crate) fn lost(&mut self, operation: Option<Operation>) {
        self.of(operation).lost += 1;
    }

    /// Adds what `other` has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, part) in self.operations.iter_mut().zip(&other.operations) {
            sum.add(part);
        }
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for tally in &mut self.operations {
            tally.clear();
        }
    }

    /// Requests of all operations that were sent.
    pub(crate) fn all_sent(&self) -> u64 {
        self.operations.iter().map(|tally| tally.sent).sum()
    }

    /// Answers of all operations.
    pub(crate) fn answered(&self) -> u64 {
        self.operations.iter().map(OperationTally::answered).sum()
    }

    /// Requests of all operations that were given up.
    pub(crate) fn all_lost(&self) -> u64 {
        self.operations.iter().map(|tally| tally.lost).sum()
    }

    /// Every operation that was asked for at all.
    pub(crate) fn operations(&self) -> Vec<OperationResult> {
        self.used()
            .map(|(name, tally)| tally.result(name))
            .collect()
    }

    /// What was counted, as that of an interval that ends now; with its histograms where these are to be kept.
    pub(crate) fn interval(&self, length: Duration, keep_histograms: bool) -> IntervalResult {
        let codes = || self.operations.iter().flat_map(|tally| &tally.codes);
        let service = || codes().map(|code| &code.service);
        let intended = || codes().filter_map(|code| code.intended.as_ref());
        let is_open_loop = intended().next().is_some();
        IntervalResult {
            ended_epoch_s: epoch_s(),
            length_s: length.as_secs_f64(),
            sent: self.all_sent(),
            answered: self.answered(),
            lost: self.all_lost(),
            server_cpu_ns_per_request: None,
            service: Percentiles::of(service()),
            intended: is_open_loop.then(|| Percentiles::of(intended())),
            lag: None,
            operations: self
                .used()
                .map(|(name, tally)| tally.interval(name))
                .collect(),
            histograms: keep_histograms.then(|| IntervalHistograms {
                service: Compact::of(&Latencies::sum(service())),
                intended: is_open_loop.then(|| Compact::of(&Latencies::sum(intended()))),
            }),
        }
    }

    fn of(&mut self, operation: Option<Operation>) -> &mut OperationTally {
        let other = OPERATIONS - 1;
        &mut self.operations[operation.map_or(other, |operation| operation as usize)]
    }

    fn used(&self) -> impl Iterator<Item = (&'static str, &OperationTally)> {
        let names = Operation::ALL.iter().map(|operation| operation.name());
        names
            .chain(["other"])
            .zip(&self.operations)
            .filter(|(_, tally)| tally.is_used())
    }
}

impl OperationTally {
    fn is_used(&self) -> bool {
        self.sent > 0 || self.lost > 0 || self.answered() > 0
    }

    fn answered(&self) -> u64 {
        self.codes.iter().map(|code| code.service.count()).sum()
    }

    fn code(&mut self, code: SeenCode) -> &mut CodeTally {
        let seen = |wanted| move |seen: &CodeTally| seen.code == wanted;
        let place = match self.codes.iter().position(seen(code)) {
            Some(place) => place,
            None if self.codes.len() < MAX_CODES => self.insert(code),
            None => {
                let other = self.codes.iter().position(seen(SeenCode::Other));
                other.unwrap_or_else(|| self.insert(SeenCode::Other))
            }
        };
        &mut self.codes[place]
    }

    fn insert(&mut self, code: SeenCode) -> usize {
        self.codes.push(CodeTally {
            code,
            service: Latencies::new(),
            intended: None,
        });
        self.codes.len() - 1
    }

    fn add(&mut self, part: &Self) {
        self.sent += part.sent;
        self.found += part.found;
        self.lost += part.lost;
        for code in part.codes.iter().filter(|code| code.service.count() > 0) {
            self.code(code.code).add(code);
        }
    }

    fn clear(&mut self) {
        (self.sent, self.found, self.lost) = (0, 0, 0);
        for code in &mut self.codes {
            code.clear();
        }
    }

    fn result(&self, name: &str) -> OperationResult {
        OperationResult {
            operation: name.to_owned(),
            sent: self.sent,
            answered: self.answered(),
            found: self.found,
            lost: self.lost,
            service: self.service(),
            intended: self.intended(),
            codes: self.codes(),
        }
    }

    fn interval(&self, name: &str) -> IntervalOperation {
        IntervalOperation {
            operation: name.to_owned(),
            sent: self.sent,
            answered: self.answered(),
            lost: self.lost,
            service: self.service(),
            intended: self.intended(),
        }
    }

    fn service(&self) -> Percentiles {
        Percentiles::of(self.codes.iter().map(|code| &code.service))
    }

    fn intended(&self) -> Option<Percentiles> {
        let parts = self.codes.iter().filter_map(|code| code.intended.as_ref());
        parts.clone().next()?;
        Some(Percentiles::of(parts))
    }

    fn codes(&self) -> BTreeMap<String, CodeResult> {
        let answered = self.codes.iter().filter(|code| code.service.count() > 0);
        answered
            .map(|code| (code.code.to_string(), code.result()))
            .collect()
    }
}

impl CodeTally {
    fn record(&mut self, service: Duration, intended: Option<Duration>) {
        self.service.record(service);
        if let Some(intended) = intended {
            self.intended
                .get_or_insert_with(Latencies::new)
                .record(intended);
        }
    }

    fn add(&mut self, part: &Self) {
        self.service.add(&part.service);
        if let Some(intended) = &part.intended {
            self.intended
                .get_or_insert_with(Latencies::new)
                .add(intended);
        }
    }

    fn clear(&mut self) {
        self.service.clear();
        if let Some(intended) = &mut self.intended {
            intended.clear();
        }
    }

    fn result(&self) -> CodeResult {
        CodeResult {
            answered: self.service.count(),
            service: Compact::of(&self.service),
            intended: self.intended.as_ref().map(Compact::of),
        }
    }
}

impl fmt::Display for SeenCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Code(code) => write!(f, "{code}"),
            Self::Other => f.write_str("other"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn reply(code: Option<u16>, found: bool) -> Reply {
        Reply {
            thread: None,
            code,
            count: Some(found.into()),
            whitelisted: None,
        }
    }

    fn example() -> Tally {
        let mut tally = Tally::new();
        let check = Some(Operation::Check);
        for (code, found) in [(200, true), (200, false), (503, false)] {
            tally.sent(check);
            tally.count(check, &reply(Some(code), found), MILLISECOND, None);
        }
        tally.sent(Some(Operation::Report));
        tally.lost(Some(Operation::Report));
        tally.count(
            None,
            &reply(None, false),
            MILLISECOND,
            Some(3 * MILLISECOND),
        );
        tally
    }

    fn counts(result: &OperationResult) -> Vec<(&str, u64)> {
        let codes = result.codes.iter();
        codes
            .map(|(code, each)| (&code[..], each.answered))
            .collect()
    }

    #[test]
    fn answers_are_counted_by_operation_and_code() {
        let tally = example();
        assert_eq!(
            (tally.all_sent(), tally.answered(), tally.all_lost()),
            (4, 4, 1)
        );
        let operations = tally.operations();
        let [check, report, other] = &operations[..] else {
            panic!("{operations:?}");
        };
        assert_eq!(
            (&check.operation[..], check.sent, check.found),
            ("check", 3, 1)
        );
        assert_eq!(counts(check), [("200", 2), ("503", 1)]);
        assert_eq!(check.intended, None);
        assert_eq!(
            (&report.operation[..], report.answered, report.lost),
            ("report", 0, 1)
        );
        assert_eq!(counts(other), [("none", 1)]);
        let intended = other.intended.unwrap();
        assert!(
            (intended.p50_us / 3_000.0 - 1.0).abs() < 2e-3,
            "{intended:?}"
        );
    }

    #[test]
    fn sums_and_intervals_hold_all_of_their_parts() {
        let mut sum = Tally::new();
        sum.add(&example());
        sum.add(&Tally::new());
        assert_eq!(sum.operations(), example().operations());
        sum.add(&example());
        let interval = sum.interval(Duration::from_secs(2), true);
        assert_eq!((interval.sent, interval.answered, interval.lost), (8, 8, 2));
        assert_eq!(interval.service.count, 8);
        assert_eq!(interval.intended.unwrap().count, 2);
        assert!((interval.rate_per_s() - 4.0).abs() < 1e-9);
        let kept = interval.histograms.unwrap().service.expand();
        assert_eq!(kept.count(), 8);
        sum.clear();
        assert_eq!(sum.operations(), []);
        assert!(sum.interval(MILLISECOND, false).histograms.is_none());
    }

    #[test]
    fn codes_beyond_the_bound_are_counted_together() {
        let mut tally = Tally::new();
        for code in 0..100 {
            tally.count(None, &reply(Some(code), false), MILLISECOND, None);
        }
        let mut sum = Tally::new();
        sum.add(&tally);
        let [other] = &sum.operations()[..] else {
            panic!("{sum:?}");
        };
        assert_eq!(other.codes.len(), MAX_CODES + 1);
        assert_eq!(other.codes["other"].answered, 100 - MAX_CODES as u64);
        assert_eq!(other.answered, 100);
    }
}
