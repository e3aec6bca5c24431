//! A summary for the terminal.

use std::fmt::{self, Display, Formatter};

use super::rate::merged;
use super::summary::{Count, DigestSummary, RateSummary, SourceSummary, Summary, TopShares};
use super::survey::share;

/// Bars in a line.
const MAX_BARS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Numbers of digests that are named.
const NAMED_LENGTHS: usize = 6;

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            kind,
            requests,
            ..
        } = self;
        writeln!(
            f,
            "{trace}: {kind}, {requests} requests in {:.3} s",
            self.duration_s
        )?;
        line(f, "rate", &self.rate.to_string())?;
        line(f, "operations", &self.operations())?;
        line(
            f,
            "users",
            &counts(&self.users.top, *requests, self.users.distinct),
        )?;
        line(f, "digests", &self.digests.to_string())?;
        line(f, "skew", &self.digests.skew())?;
        line(f, "a request", &self.lengths())?;
        line(f, "sources", &self.sources.to_string())?;
        line(
            f,
            "busiest",
            &counts(&self.sources.top, *requests, self.sources.addresses),
        )?;
        line(f, "duplicates", &self.duplicates())?;
        line(f, "malformed", &portion(self.malformed, *requests))?;
        line(f, "passed over", &self.skipped.to_string())?;
        self.notes.iter().try_for_each(|note| line(f, "note", note))
    }
}

fn line(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<12} {text}")
}

impl Summary {
    fn operations(&self) -> String {
        let mut operations: Vec<_> = self.operations.iter().collect();
        operations.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let parts: Vec<String> = operations
            .iter()
            .map(|(name, count)| format!("{name} {}", percent(share(**count, self.requests))))
            .collect();
        parts.join(", ")
    }

    fn lengths(&self) -> String {
        let mut lengths: Vec<_> = self.digests_a_request.iter().collect();
        lengths.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let parts = lengths.iter().take(NAMED_LENGTHS).map(|(length, count)| {
            let plural = if **length == 1 { "" } else { "s" };
            let share = percent(share(**count, self.requests));
            format!("{length} digest{plural} {share}")
        });
        let others = lengths.len().saturating_sub(NAMED_LENGTHS);
        let others = (others > 0).then(|| format!("{others} other numbers"));
        parts.chain(others).collect::<Vec<_>>().join(", ")
    }

    fn duplicates(&self) -> String {
        match self.duplicates {
            Some(count) => format!(
                "{} (same source, Thread, operation and digest within a minute)",
                portion(count, self.requests)
            ),
            None => "not told".to_owned(),
        }
    }
}

impl Display for RateSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(mean) = self.mean_per_s {
            write!(f, "{mean:.1}/s, ")?;
        }
        let (peak, interval) = (self.peak_per_s, self.interval_s);
        write!(f, "at most {peak:.0}/s in {interval} s  ")?;
        bars(&self.requests)
            .iter()
            .try_for_each(|bar| write!(f, "{bar}"))
    }
}

/// As many bars as fit; nothing for one interval.
fn bars(requests: &[u64]) -> Vec<char> {
    if requests.len() < 2 {
        return Vec::new();
    }
    let merged = merged(requests, requests.len().div_ceil(MAX_BARS));
    let highest = merged.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: u64| {
        let height = (count * (BARS.len() as u64 - 1)).div_ceil(highest);
        usize::try_from(height)
            .ok()
            .and_then(|height| BARS.get(height))
            .copied()
    };
    merged.into_iter().filter_map(bar).collect()
}

impl Display for DigestSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (asked, distinct) = (self.asked, self.distinct);
        let about = if self.sampled_one_in > 1 {
            "about "
        } else {
            ""
        };
        let once = percent(self.once_share);
        write!(
            f,
            "{asked}, {about}{distinct} different, {once} of those once; {}",
            self.top_shares
        )
    }
}

impl DigestSummary {
    fn skew(&self) -> String {
        let Some(fit) = &self.zipf else {
            return "too few digests to tell".to_owned();
        };
        let which = if fit.ranks as u64 * self.sampled_one_in == self.distinct {
            format!("all {} digests", fit.ranks)
        } else {
            format!(
                "the {} digests that occur at least {} times",
                fit.ranks, fit.least_count
            )
        };
        format!(
            "Zipf exponent {:.3} ± {:.3} (maximum likelihood and its standard error over {which}; greatest distance {:.3})",
            fit.exponent, fit.standard_error, fit.distance
        )
    }
}

impl Display for TopShares {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [one, ten, hundred] = [self.one, self.ten, self.hundred].map(percent);
        write!(f, "top 1, 10, 100: {one}, {ten}, {hundred}")
    }
}

impl Display for SourceSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let about = if self.sampled_one_in > 1 {
            "about "
        } else {
            ""
        };
        write!(
            f,
            "{about}{} addresses, {} with ports; {}; each {} requests in the median, {} at p99",
            self.addresses, self.flows, self.top_shares, self.median_requests, self.p99_requests
        )
    }
}

fn counts(top: &[Count], requests: u64, distinct: u64) -> String {
    let named = top.iter().map(|count| {
        format!(
            "{} {}",
            printable(&count.name),
            percent(share(count.requests, requests))
        )
    });
    let others = distinct.saturating_sub(top.len() as u64);
    let others = (others > 0).then(|| format!("{others} others"));
    named.chain(others).collect::<Vec<_>>().join(", ")
}

/// Names come from strangers: what could command a terminal is replaced.
fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn portion(part: u64, whole: u64) -> String {
    format!("{part} ({})", percent(share(part, whole)))
}

/// With a digit behind the point, and two below 1 %.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_shares() {
        let drawn: String = bars(&[0, 1, 4, 7]).into_iter().collect();
        assert_eq!(drawn, "▁▂▅█");
        assert_eq!(bars(&[5]).len(), 0);
        assert_eq!(bars(&[0, 0]), ['▁', '▁']);
        assert_eq!(bars(&[1; 1000]).len(), 59);
    }

    #[test]
    fn strangers_do_not_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn small_shares_are_told_finer() {
        assert_eq!(percent(0.123_456), "12.3 %");
        assert_eq!(percent(0.001_234), "0.12 %");
        assert_eq!(percent(0.0), "0.0 %");
    }
}
