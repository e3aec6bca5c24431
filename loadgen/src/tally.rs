//! Counts answers while a window is open.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyzor_protocol::Operation;

use crate::latency::Latencies;
use crate::reply::Reply;
use crate::report::{IntervalReport, OperationReport};

/// Codes have three digits; anything else is counted as if there were none.
const CODES: usize = 1000;

/// Answers by operation.
pub(crate) struct Tally {
    /// In the order of [`Operation::ALL`].
    operations: Vec<OperationTally>,
}

struct OperationTally {
    latencies: Latencies,
    answered: u64,
    found: u64,
    /// By code; 0 counts replies without one.
    codes: Vec<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let empty = |_| OperationTally {
            latencies: Latencies::new(),
            answered: 0,
            found: 0,
            codes: vec![0; CODES],
        };
        Self {
            operations: Operation::ALL.iter().map(empty).collect(),
        }
    }

    pub(crate) fn count(&mut self, operation: Operation, latency: Duration, reply: &Reply) {
        let tally = &mut self.operations[operation as usize];
        tally.latencies.record(latency);
        tally.answered += 1;
        tally.found += u64::from(reply.found);
        let code = reply.code.map_or(0, usize::from);
        tally.codes[if code < CODES { code } else { 0 }] += 1;
    }

    /// Adds what `other` has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, part) in self.operations.iter_mut().zip(&other.operations) {
            sum.add(part);
        }
    }

    /// Answers of all operations.
    pub(crate) fn answered(&self) -> u64 {
        self.operations.iter().map(|tally| tally.answered).sum()
    }

    /// Every operation that was answered at all.
    pub(crate) fn reports(&self) -> Vec<OperationReport> {
        let tallies = Operation::ALL.iter().zip(&self.operations);
        tallies
            .filter(|(_, tally)| tally.answered > 0)
            .map(|(operation, tally)| tally.report(*operation))
            .collect()
    }

    /// What was counted, as that of an interval that ends now.
    pub(crate) fn interval(&self, length: Duration) -> IntervalReport {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        IntervalReport {
            ended_epoch_s: since_epoch.unwrap_or_default().as_secs_f64(),
            length_s: length.as_secs_f64(),
            operations: self.reports(),
        }
    }
}

impl OperationTally {
    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.answered += other.answered;
        self.found += other.found;
        for (sum, part) in self.codes.iter_mut().zip(&other.codes) {
            *sum += part;
        }
    }

    fn report(&self, operation: Operation) -> OperationReport {
        OperationReport {
            operation: operation.name().to_owned(),
            answered: self.answered,
            found: self.found,
            codes: self.codes(),
            latency: self.latencies.percentiles(),
        }
    }

    fn codes(&self) -> BTreeMap<String, u64> {
        let name = |code| match code {
            0 => "none".to_owned(),
            code => format!("{code}"),
        };
        let codes = self.codes.iter().enumerate();
        codes
            .filter(|(_, count)| **count > 0)
            .map(|(code, count)| (name(code), *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_operation_and_code() {
        let mut tally = Tally::new();
        let reply = |code, found| Reply {
            thread: None,
            code,
            found,
        };
        let millisecond = Duration::from_millis(1);
        tally.count(Operation::Check, millisecond, &reply(Some(200), true));
        tally.count(Operation::Check, millisecond, &reply(Some(200), false));
        tally.count(Operation::Check, millisecond, &reply(Some(503), false));
        tally.count(Operation::Report, millisecond, &reply(None, false));
        tally.count(Operation::Report, millisecond, &reply(Some(60_000), false));
        assert_eq!(tally.answered(), 5);
        let mut sum = Tally::new();
        sum.add(&tally);
        sum.add(&Tally::new());
        let reports = sum.reports();
        assert_eq!(reports[0].latency, tally.reports()[0].latency);
        let [check, report] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!(
            (&check.operation[..], check.answered, check.found),
            ("check", 3, 1)
        );
        let codes = |pairs: &[(&str, u64)]| {
            let owned = pairs
                .iter()
                .map(|(code, count)| ((*code).to_owned(), *count));
            owned.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(check.codes, codes(&[("200", 2), ("503", 1)]));
        assert_eq!(report.codes, codes(&[("none", 2)]));
    }
}
