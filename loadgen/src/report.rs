//! The result of a run: as JSON, and as text for a terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::closed_loop::Losses;
use crate::error::Error;
use crate::latency::Percentiles;

/// Raised when a field changes its meaning or goes.
pub(crate) const FORMAT: u32 = 1;

/// All that was measured, and what it takes to measure it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) command_line: Vec<String>,
    pub(crate) target: SocketAddr,
    pub(crate) sockets: u32,
    pub(crate) in_flight: u32,
    pub(crate) seed: u64,
    pub(crate) warmup_s: f64,
    /// How long the measured window was; all numbers below are of it.
    pub(crate) window_s: f64,
    pub(crate) answered: u64,
    pub(crate) rate_per_s: f64,
    pub(crate) losses: Losses,
    /// Share of the window in which the generator had nothing to do; near 0, it and not the server was the limit.
    pub(crate) generator_idle_share: f64,
    pub(crate) server: Option<ServerReport>,
    pub(crate) operations: Vec<OperationReport>,
    /// The window's parts one after the other, where these were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) intervals: Vec<IntervalReport>,
}

/// A part of the window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IntervalReport {
    /// When it ended by the clock on the wall, in seconds since 1970, so that it can be compared with a server's log.
    pub(crate) ended_epoch_s: f64,
    pub(crate) length_s: f64,
    pub(crate) operations: Vec<OperationReport>,
}

/// What the answers cost the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) pid: u32,
    /// CPU time of all its threads, from the kernel's clock of the process, over all answers.
    pub(crate) cpu_ns_per_request: f64,
    /// CPU time over the window's length: 1 is a core.
    pub(crate) cores: f64,
    /// Share of its CPU time in user mode, from `/proc/PID/stat`.
    pub(crate) user_share: f64,
}

/// Answers to one operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OperationReport {
    pub(crate) operation: String,
    pub(crate) answered: u64,
    /// Replies with a `Count` above 0.
    pub(crate) found: u64,
    /// Replies by `Code`; "none" for those without.
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) latency: Percentiles,
}

impl Report {
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut json = serde_json::to_vec_pretty(self).map_err(std::io::Error::from)?;
        json.push(b'\n');
        fs::write(path, json).map_err(|source| Error::Write(path.to_owned(), source))
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let json = fs::read(path).map_err(|source| Error::Read(path.to_owned(), source))?;
        serde_json::from_slice(&json).map_err(|source| Error::Result(path.to_owned(), source))
    }

    fn write_losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let losses = &self.losses;
        let rest = [
            ("late", losses.late),
            ("duplicate", losses.duplicate),
            ("stray", losses.stray),
            ("refused", losses.refused),
            ("unsent", losses.unsent),
        ];
        write!(f, "lost      {:>12}", grouped(losses.lost))?;
        for (name, count) in rest.iter().filter(|(_, count)| *count > 0) {
            write!(f, "   {name} {}", grouped(*count))?;
        }
        writeln!(f)
    }

    fn write_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = &self.server else {
            return Ok(());
        };
        writeln!(
            f,
            "server    {:>12} ns CPU an answer   {:.2} cores, {} in user mode (process CPU clock)",
            grouped_float(server.cpu_ns_per_request),
            server.cores,
            percent(server.user_share),
        )
    }

    fn write_operations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10}{:>12}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}   codes",
            "", "answered", "found", "p50 us", "p90", "p99", "p99.9", "max"
        )?;
        self.operations.iter().try_for_each(|each| each.write(f))
    }
}

impl OperationReport {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.latency;
        write!(
            f,
            "{:<10}{:>12}{:>8}",
            self.operation,
            grouped(self.answered),
            percent(crate::cpu::share(self.found, self.answered)),
        )?;
        let points = [
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p99_9_us,
            latency.max_us,
        ];
        for point in points {
            write!(f, "{:>9}", grouped_float(point))?;
        }
        write!(f, "  ")?;
        for (code, count) in &self.codes {
            write!(f, " {code}: {}", grouped(*count))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} requests in flight on {} sockets, {:.2} s after {:.2} s of warm-up, seed {}\n",
            self.target, self.in_flight, self.sockets, self.window_s, self.warmup_s, self.seed
        )?;
        writeln!(
            f,
            "rate      {:>12} /s   generator idle {} of the time",
            grouped_float(self.rate_per_s),
            percent(self.generator_idle_share),
        )?;
        self.write_losses(f)?;
        self.write_server(f)?;
        self.write_operations(f)
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Rounded to a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are positive, and casts from floats saturate"
)]
fn grouped_float(number: f64) -> String {
    grouped(number.round() as u64)
}

/// With a comma before every third digit from the right.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plausible result with this much server CPU time an answer.
    pub(crate) fn example(cpu_ns_per_request: f64) -> Report {
        let latency = Percentiles {
            p50_us: 512.2,
            p90_us: 600.0,
            p99_us: 1234.5,
            p99_9_us: 2000.0,
            max_us: 3000.0,
        };
        Report {
            format: FORMAT,
            command_line: vec!["loadgen".to_owned()],
            target: "127.0.0.1:24441".parse().unwrap(),
            sockets: 16,
            in_flight: 256,
            seed: 1,
            warmup_s: 0.5,
            window_s: 2.0,
            answered: 1_000_000,
            rate_per_s: 500_000.4,
            losses: Losses {
                lost: 1,
                late: 2,
                ..Losses::default()
            },
            generator_idle_share: 0.25,
            server: Some(ServerReport {
                pid: 1,
                cpu_ns_per_request,
                cores: 0.99,
                user_share: 0.1,
            }),
            operations: vec![OperationReport {
                operation: "check".to_owned(),
                answered: 1_000_000,
                found: 500_000,
                codes: BTreeMap::from([("200".to_owned(), 1_000_000)]),
                latency,
            }],
            intervals: Vec::new(),
        }
    }

    #[test]
    fn the_text_is_aligned() {
        let expected = "\
127.0.0.1:24441: 256 requests in flight on 16 sockets, 2.00 s after 0.50 s of warm-up, seed 1

rate           500,000 /s   generator idle 25.0 % of the time
lost                 1   late 2
server           1,700 ns CPU an answer   0.99 cores, 10.0 % in user mode (process CPU clock)

              answered   found   p50 us      p90      p99    p99.9      max   codes
check        1,000,000  50.0 %      512      600    1,235    2,000    3,000   200: 1,000,000
";
        assert_eq!(example(1700.0).to_string(), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("loadgen-report-{}.json", std::process::id()));
        example(1.5).write(&path).unwrap();
        let read = Report::read(&path);
        fs::write(&path, "{}").unwrap();
        let foreign = Report::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap().to_string(), example(1.5).to_string());
        assert!(matches!(foreign, Err(Error::Result(..))));
        assert!(matches!(Report::read(&path), Err(Error::Read(..))));
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 12, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "999", "1,000", "123,456", "1,234,567"]);
    }
}
