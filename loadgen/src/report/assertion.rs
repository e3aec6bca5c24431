//! What a run is held to: `p99<2ms`, `check.p99.9.intended<=5ms`, `loss=0`, `loss<0.01%`, `rate>50000`.
//!
//! An assertion about something the run does not have (an operation nobody asked for, the intended time of a closed loop)
//! is missed, and so is every assertion about a void run: a check that cannot be made must not look like one that was met.
//! Only answers are right or wrong whenever they were asked for.

use std::fmt;
use std::str::FromStr;

use pyzor_protocol::Operation;

use crate::latency::Latencies;
use crate::report::html::{short, small_percent, time};
use crate::result::{OperationResult, RunResult};

/// One requirement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assertion {
    /// As it was typed.
    text: String,
    /// `None` means all of them together.
    operation: Option<String>,
    quantity: Quantity,
    clock: Clock,
    relation: Relation,
    /// In the quantity's unit: microseconds, requests, a share from 0 to 1, answers a second, nanoseconds.
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantity {
    /// From 0 to 1.
    Percentile(f64),
    Max,
    Mean,
    /// Requests without a reply in time.
    Lost,
    LostShare,
    /// Answers with a code from 500 on.
    Errors,
    ErrorShare,
    Rate,
    /// CPU time of the server for each answer.
    Cpu,
    /// Percentile of the time by which requests were sent late.
    Lag(f64),
    /// Answers with other counts than were expected.
    Differences,
}

/// What latency is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// The intended time where there is one, else the actual one.
    Best,
    Service,
    Intended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// What an assertion looks like, for whoever typed another.
const EXPECTED: &str = "expected [OPERATION.]QUANTITY[.intended|.service] RELATION NUMBER[UNIT]: \
     p50 to p100, max or mean with a time in ns, us, ms or s; loss or errors with a number or a percentage; \
     rate with answers a second; differences with a number; cpu with a time; lag.p50 to lag.p100 with a time; \
     relations are < <= > >= =";

impl Assertion {
    /// Whether `run` meets it; else one line that says what was found.
    pub(crate) fn check(&self, run: &RunResult) -> Result<(), String> {
        if let Some(reason) = &run.void
            && self.quantity != Quantity::Differences
        {
            return Err(format!("{self}: the run is void, {reason}"));
        }
        self.check_numbers(run)
    }

    /// The same, whether `run` is void or not.
    pub(crate) fn check_numbers(&self, run: &RunResult) -> Result<(), String> {
        let found = self.measure(run).map_err(|why| format!("{self}: {why}"))?;
        if self.relation.holds(found, self.limit) {
            Ok(())
        } else {
            Err(format!("{self}: it is {}", self.quantity.shown(found)))
        }
    }

    /// Whether it would be missed even if no request had been sent late. Each, the warm-up's too, came to the server at most
    /// `lag_us` late, so the server was done with each at most that much later than it would have been.
    pub(crate) fn is_missed_by_more_than(&self, lag_us: f64, run: &RunResult) -> bool {
        let is_time_limit = matches!(
            self.quantity,
            Quantity::Percentile(_) | Quantity::Max | Quantity::Mean
        ) && matches!(self.relation, Relation::Below | Relation::AtMost);
        is_time_limit
            && self
                .measure(run)
                .is_ok_and(|found| !self.relation.holds(found - lag_us, self.limit))
    }

    /// Whether the rate that a search has found meets it; of nothing else does [`Self::is_about_rate`] hold.
    pub(crate) fn check_rate(&self, rate_per_s: f64) -> Result<(), String> {
        if self.relation.holds(rate_per_s, self.limit) {
            Ok(())
        } else {
            Err(format!("{self}: it is {}", self.quantity.shown(rate_per_s)))
        }
    }

    /// Whether it is about the rate of all answers.
    pub(crate) fn is_about_rate(&self) -> bool {
        self.quantity == Quantity::Rate && self.operation.is_none()
    }

    /// The value of its quantity, if the run has one: in microseconds, requests, answers a second, nanoseconds, or from 0 to 1.
    pub(crate) fn value(&self, run: &RunResult) -> Option<f64> {
        self.measure(run).ok()
    }

    /// Why no trial of a search has the value, if so.
    pub(crate) fn unmeasurable(&self, has_server: bool) -> Option<String> {
        let why = match self.quantity {
            Quantity::Cpu if !has_server => "it takes --server-pid",
            Quantity::Differences => "only replay compares answers, with --expect",
            _ => return None,
        };
        Some(format!("{self}: {why}"))
    }

    /// What the value must be related to.
    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// What is left of the relation, like `p99`.
    pub(crate) fn quantity_name(&self) -> &str {
        split_at_relation(&self.text).map_or("", |(name, _, _)| name)
    }

    /// How its values are written along an axis.
    pub(crate) fn label(&self) -> fn(f64) -> String {
        match self.quantity {
            Quantity::Percentile(_) | Quantity::Max | Quantity::Mean | Quantity::Lag(_) => time,
            Quantity::LostShare | Quantity::ErrorShare => small_percent,
            Quantity::Lost
            | Quantity::Errors
            | Quantity::Rate
            | Quantity::Cpu
            | Quantity::Differences => short,
        }
    }

    /// Several, separated by commas.
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::parse).collect()
    }

    /// The quantity's value, or why there is none.
    fn measure(&self, run: &RunResult) -> Result<f64, String> {
        match self.quantity {
            Quantity::Percentile(quantile) => Ok(self.latencies(run)?.at_quantile_us(quantile)),
            Quantity::Max => Ok(self.latencies(run)?.percentiles().max_us),
            Quantity::Mean => Ok(self.latencies(run)?.percentiles().mean_us),
            Quantity::Cpu => run
                .server
                .as_ref()
                .map(|server| server.cpu_ns_per_request)
                .ok_or_else(|| "the server was not measured (--server-pid)".to_owned()),
            Quantity::Lag(quantile) => run
                .schedule
                .as_ref()
                .map(|schedule| schedule.lag.expand().at_quantile_us(quantile))
                .ok_or_else(|| "the run had no schedule".to_owned()),
            Quantity::Differences => differences(run),
            counted => Ok(self.counts(run)?.value(counted, run.window_s)),
        }
    }

    fn latencies(&self, run: &RunResult) -> Result<Latencies, String> {
        let (service, intended) = match &self.operation {
            None => (run.service(), run.intended()),
            Some(name) => {
                let operation = find(run, name)?;
                (operation.service(), operation.intended())
            }
        };
        let latencies = match self.clock {
            Clock::Service => service,
            Clock::Best => intended.unwrap_or(service),
            Clock::Intended => intended.ok_or("a closed loop has no intended times")?,
        };
        if latencies.count() == 0 {
            return Err("nothing was answered".to_owned());
        }
        Ok(latencies)
    }

    fn counts(&self, run: &RunResult) -> Result<Counts, String> {
        let Some(name) = &self.operation else {
            return Ok(Counts {
                answered: run.answered,
                lost: run.losses.lost,
                errors: run.operations.iter().map(errors).sum(),
            });
        };
        let operation = find(run, name)?;
        Ok(Counts {
            answered: operation.answered,
            lost: operation.lost,
            errors: errors(operation),
        })
    }
}

/// What became of requests.
struct Counts {
    answered: u64,
    lost: u64,
    errors: u64,
}

impl Counts {
    #[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
    fn value(&self, quantity: Quantity, window_s: f64) -> f64 {
        let share = |part: u64, whole: u64| crate::cpu::share(part, whole);
        match quantity {
            Quantity::Lost => self.lost as f64,
            Quantity::LostShare => share(self.lost, self.answered + self.lost),
            Quantity::Errors => self.errors as f64,
            Quantity::ErrorShare => share(self.errors, self.answered),
            _ => self.answered as f64 / window_s,
        }
    }
}

/// Where nothing could be compared, nothing is known to be as expected.
#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 answers")]
fn differences(run: &RunResult) -> Result<f64, String> {
    match &run.answers {
        None => Err("no answer was expected (--expect)".to_owned()),
        Some(answers) if answers.checked == 0 => {
            Err("no answer was about an expected digest".to_owned())
        }
        Some(answers) => Ok(answers.differing as f64),
    }
}

fn find<'r>(run: &'r RunResult, name: &str) -> Result<&'r OperationResult, String> {
    let mut named = run.operations.iter().filter(|each| each.operation == name);
    named.next().ok_or_else(|| format!("the run had no {name}"))
}

fn errors(operation: &OperationResult) -> u64 {
    let codes = operation.codes.iter();
    codes
        .filter(|(code, _)| code.parse().is_ok_and(|code: u16| code >= 500))
        .map(|(_, answers)| answers.answered)
        .sum()
}

impl Quantity {
    /// A value of it with its unit.
    fn shown(self, value: f64) -> String {
        match self {
            Self::Percentile(_) | Self::Max | Self::Mean | Self::Lag(_) => shown_time(value),
            Self::Lost | Self::Errors | Self::Differences => format!("{value}"),
            Self::LostShare | Self::ErrorShare => format!("{:.4}%", value * 100.0),
            Self::Rate => format!("{value:.0} /s"),
            Self::Cpu => format!("{value:.0} ns"),
        }
    }
}

/// Microseconds in the unit that suits them.
fn shown_time(us: f64) -> String {
    const US_PER_MS: f64 = 1e3;
    if us < US_PER_MS {
        format!("{us:.1} us")
    } else {
        format!("{:.3} ms", us / US_PER_MS)
    }
}

impl Relation {
    fn holds(self, found: f64, limit: f64) -> bool {
        match self {
            Self::Below => found < limit,
            Self::AtMost => found <= limit,
            Self::Above => found > limit,
            Self::AtLeast => found >= limit,
            Self::Equal => (found - limit).abs() <= f64::EPSILON * limit.abs(),
        }
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text.trim()).ok_or_else(|| EXPECTED.to_owned())
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Option<Assertion> {
    let (left, relation, right) = split_at_relation(text)?;
    let (path, clock) = split_clock(left);
    let (operation, name) = split_operation(path);
    let is_share = right.ends_with('%');
    let quantity = quantity(name, is_share)?;
    let is_of_run = matches!(
        quantity,
        Quantity::Cpu | Quantity::Lag(_) | Quantity::Differences
    );
    let is_time = matches!(
        quantity,
        Quantity::Percentile(_) | Quantity::Max | Quantity::Mean
    );
    if (is_of_run && operation.is_some()) || (!is_time && clock != Clock::Best) {
        return None;
    }
    Some(Assertion {
        text: text.to_owned(),
        operation: operation.map(str::to_owned),
        quantity,
        clock,
        relation,
        limit: limit(quantity, right)?,
    })
}

fn split_at_relation(text: &str) -> Option<(&str, Relation, &str)> {
    // The longer ones first: each begins with a shorter one.
    const RELATIONS: [(&str, Relation); 5] = [
        ("<=", Relation::AtMost),
        (">=", Relation::AtLeast),
        ("<", Relation::Below),
        (">", Relation::Above),
        ("=", Relation::Equal),
    ];
    let (sign, relation) = RELATIONS.iter().find(|(sign, _)| text.contains(sign))?;
    let (left, right) = text.split_once(sign)?;
    Some((left.trim(), *relation, right.trim()))
}

fn split_clock(path: &str) -> (&str, Clock) {
    if let Some(rest) = path.strip_suffix(".intended") {
        (rest, Clock::Intended)
    } else if let Some(rest) = path.strip_suffix(".service") {
        (rest, Clock::Service)
    } else {
        (path, Clock::Best)
    }
}

fn split_operation(path: &str) -> (Option<&str>, &str) {
    match path.split_once('.') {
        Some((name, rest))
            if name == "other" || Operation::from_name(name.as_bytes()).is_some() =>
        {
            (Some(name), rest)
        }
        _ => (None, path),
    }
}

fn quantity(name: &str, is_share: bool) -> Option<Quantity> {
    Some(match (name, is_share) {
        ("max", _) => Quantity::Max,
        ("mean", _) => Quantity::Mean,
        ("loss", false) => Quantity::Lost,
        ("loss", true) => Quantity::LostShare,
        ("errors", false) => Quantity::Errors,
        ("errors", true) => Quantity::ErrorShare,
        ("rate", _) => Quantity::Rate,
        ("cpu", _) => Quantity::Cpu,
        ("differences", false) => Quantity::Differences,
        _ => match name.strip_prefix("lag.") {
            Some(percentile) => Quantity::Lag(quantile(percentile)?),
            None => Quantity::Percentile(quantile(name)?),
        },
    })
}

/// 0.999 of "p99.9".
fn quantile(name: &str) -> Option<f64> {
    let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// The number on the right in the quantity's unit.
fn limit(quantity: Quantity, text: &str) -> Option<f64> {
    const NS_PER_US: f64 = 1e3;
    match quantity {
        Quantity::Percentile(_) | Quantity::Max | Quantity::Mean | Quantity::Lag(_) => {
            microseconds(text)
        }
        Quantity::Cpu => Some(microseconds(text)? * NS_PER_US),
        Quantity::LostShare | Quantity::ErrorShare => {
            Some(positive(text.strip_suffix('%')?)? / 100.0)
        }
        Quantity::Lost | Quantity::Errors | Quantity::Rate | Quantity::Differences => {
            positive(text)
        }
    }
}

/// A time with its unit, in microseconds; nought needs none.
fn microseconds(text: &str) -> Option<f64> {
    // The longer ones first: all end with a shorter one.
    const UNITS_US: [(&str, f64); 4] = [("ns", 1e-3), ("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let unit = UNITS_US
        .iter()
        .find_map(|(unit, us)| Some((text.strip_suffix(unit)?, *us)));
    match unit {
        Some((number, us)) => Some(positive(number)? * us),
        None => positive(text).filter(|number| *number <= 0.0),
    }
}

fn positive(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::AnswerResult;
    use crate::latency::Compact;
    use crate::result::tests::example;

    fn outcome(text: &str) -> Result<(), String> {
        text.parse::<Assertion>().unwrap().check(&example(1700.0))
    }

    #[test]
    fn what_holds_is_met_and_what_does_not_is_named() {
        // The example: 1 to 10,000 us; 20,000 answers in 2 s, 1 lost.
        for met in [
            "p50<6ms",
            "p50>4.9ms",
            "check.p99.9<=10ms",
            "max<=0.0101s",
            "mean < 5100 us",
            "loss=1",
            "loss<0.01%",
            "errors=0",
            "errors=0%",
            "rate>=10000",
            "check.rate>9999",
            "cpu<2us",
            "check.p99.service>9ms",
            "check.loss=0",
        ] {
            assert_eq!(outcome(met), Ok(()), "{met}");
        }
        for (missed, why) in [
            ("p99<2ms", "p99<2ms: it is 9.904 ms"),
            ("loss=0", "loss=0: it is 1"),
            ("loss<0.001%", "loss<0.001%: it is 0.0050%"),
            ("rate>50000", "rate>50000: it is 10000 /s"),
            ("cpu<=1us", "cpu<=1us: it is 1700 ns"),
            ("p0<0", "p0<0: it is 1.0 us"),
            ("report.p99<2ms", "report.p99<2ms: the run had no report"),
            (
                "p99.intended<2ms",
                "p99.intended<2ms: a closed loop has no intended times",
            ),
            ("lag.p99<2ms", "lag.p99<2ms: the run had no schedule"),
            (
                "differences=0",
                "differences=0: no answer was expected (--expect)",
            ),
        ] {
            assert_eq!(outcome(missed), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_void_run_meets_nothing() {
        let mut run = example(1.0);
        run.void = Some("the generator fell behind".to_owned());
        let found = "loss<100%".parse::<Assertion>().unwrap().check(&run);
        assert_eq!(
            found,
            Err("loss<100%: the run is void, the generator fell behind".to_owned())
        );
    }

    #[test]
    fn answers_that_could_not_be_compared_are_not_right() {
        let mut run = example(1.0);
        let mut check = |checked, differing| {
            run.answers = Some(AnswerResult {
                checked,
                differing,
                ..AnswerResult::default()
            });
            "differences=0".parse::<Assertion>().unwrap().check(&run)
        };
        assert_eq!(check(5, 0), Ok(()));
        assert_eq!(check(5, 2), Err("differences=0: it is 2".to_owned()));
        assert!(check(0, 0).is_err());
    }

    #[test]
    fn the_intended_time_comes_first_where_there_is_one() {
        let mut run = example(1.0);
        let mut late = Latencies::new();
        late.record(std::time::Duration::from_secs(1));
        run.operations[0].codes.get_mut("200").unwrap().intended = Some(Compact::of(&late));
        let check = |text: &str| text.parse::<Assertion>().unwrap().check(&run);
        assert!(check("p99<20ms").is_err() && check("p99.intended<20ms").is_err());
        assert_eq!(check("p99.service<20ms"), Ok(()));
    }

    #[test]
    fn what_is_no_assertion_is_told_what_one_is() {
        for wrong in [
            "",
            "p99",
            "p99<",
            "p99<2",
            "p99<2kg",
            "p101<1ms",
            "px<1ms",
            "p99~2ms",
            "loss<-1",
            "loss<1ms",
            "rate>1%",
            "rate>nan",
            "nonsense.p99<1ms",
            "loss.intended=0",
            "check.cpu<1us",
            "check.lag.p99<1ms",
            "check.differences=0",
            "differences<1%",
            "p99==2ms",
        ] {
            let error = wrong.parse::<Assertion>().unwrap_err();
            assert!(
                error.starts_with("expected [OPERATION.]QUANTITY"),
                "{wrong}"
            );
        }
        assert_eq!(Assertion::list("p99<5ms, loss<0.01%").unwrap().len(), 2);
        assert!(Assertion::list("p99<5ms,").is_err());
    }
}
