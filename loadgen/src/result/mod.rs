//! What was measured: the result of a run, and of a series of runs, as they stand in files.
//!
//! - `saved`: writes and reads such files; those of others are read, too.

mod saved;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::answers::AnswerResult;
use crate::environment::Environment;
use crate::latency::{Compact, Latencies, Percentiles};
use crate::losses::Losses;
pub(crate) use saved::{Saved, write_json};

/// Raised when a field changes its meaning or goes.
pub(crate) const FORMAT: u32 = 2;
/// A late run has kept its rate when so much of it was answered by the time that the last request was sent.
const LEAST_KEPT_SHARE: f64 = 0.98;

/// All that was measured in one run, and what it takes to measure it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) format: u32,
    /// The command of this program: blast, replay, …
    pub(crate) command: String,
    pub(crate) command_line: Vec<String>,
    pub(crate) environment: Environment,
    pub(crate) target: SocketAddr,
    pub(crate) seed: u64,
    pub(crate) sockets: u32,
    /// Different source addresses.
    pub(crate) sources: u32,
    /// Requests kept outstanding; closed loop only.
    pub(crate) in_flight: Option<u32>,
    pub(crate) warmup_s: f64,
    /// How long the measured window was; all numbers below are of it.
    pub(crate) window_s: f64,
    /// When requests were to be sent; open loop only.
    pub(crate) schedule: Option<ScheduleResult>,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answers a second.
    pub(crate) rate_per_s: f64,
    /// Of UDP payload.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) losses: Losses,
    /// Share of the window in which the generator had nothing to do; near 0, it and not the server was the limit.
    pub(crate) generator_idle_share: f64,
    /// Why the result must not be trusted, if so.
    pub(crate) void: Option<String>,
    /// It was stopped before the end of its duration.
    pub(crate) ended_early: bool,
    pub(crate) server: Option<ServerResult>,
    pub(crate) operations: Vec<OperationResult>,
    /// Whether the answers were those expected; `None` where nothing was.
    #[serde(default)]
    pub(crate) answers: Option<AnswerResult>,
    /// The window's parts one after the other.
    pub(crate) timeline: Vec<IntervalResult>,
}

/// When requests were to be sent, and when they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScheduleResult {
    pub(crate) kind: ScheduleKind,
    /// Requests that were due in the window.
    pub(crate) intended: u64,
    pub(crate) intended_rate_per_s: f64,
    /// From the intended to the actual time of sending.
    pub(crate) lag: Compact,
    /// The greatest of all requests, the warm-up's among them.
    #[serde(default)]
    pub(crate) longest_lag_us: Option<f64>,
    /// How often the machine's clock was set during the run, which makes its latencies doubtful.
    #[serde(default)]
    pub(crate) clock_steps: u32,
    /// What the machine took away from the generator.
    #[serde(default)]
    pub(crate) machine: Option<MachineGaps>,
}

/// Pauses that are not the generator's own, over all threads that send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MachineGaps {
    /// How long they looked at nothing but the clock before the run.
    pub(crate) looked_s: f64,
    /// Pauses of 20 us or more while they did.
    pub(crate) pauses: u64,
    pub(crate) longest_pause_us: f64,
    /// Of the time looked: 0 to 1.
    pub(crate) paused_share: f64,
    /// In the run: how long they were ready to run while the kernel ran others on their cores.
    pub(crate) waited_s: f64,
    /// In the run: how often the kernel sent them away.
    pub(crate) involuntary_switches: u64,
    /// In the run: what the hypervisor took from their cores, or from all where they had none of their own.
    pub(crate) stolen_s: Option<f64>,
    /// In the run: what the hypervisor took of the time of all the machine's cores: 0 to 1.
    #[serde(default)]
    pub(crate) all_stolen_share: Option<f64>,
    /// In the run: how long nothing was ready to be sent, because requests were not made ready in time.
    pub(crate) starved_s: f64,
}

/// Where send times come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScheduleKind {
    /// A recording, this many times as fast.
    Recorded { speed: f64 },
    /// One every so often.
    Constant,
    /// Independent of one another, at a mean rate.
    Poisson,
}

/// What the answers cost the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerResult {
    pub(crate) pid: u32,
    /// CPU time of all its threads, from the kernel's clock of the process, over all answers.
    pub(crate) cpu_ns_per_request: f64,
    /// CPU time over the window's length: 1 is a core.
    pub(crate) cores: f64,
    /// Share of its CPU time in user mode, from `/proc/PID/stat`.
    pub(crate) user_share: f64,
}

/// Requests of one operation, and their answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperationResult {
    /// Its name in requests, or "other".
    pub(crate) operation: String,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Replies with a `Count` above 0.
    pub(crate) found: u64,
    /// Requests without a reply in time.
    pub(crate) lost: u64,
    /// Over all codes.
    pub(crate) service: Percentiles,
    pub(crate) intended: Option<Percentiles>,
    /// Replies by `Code`; "none" are those without, "other" those with rarer codes than are told apart.
    pub(crate) codes: BTreeMap<String, CodeResult>,
}

/// Answers with one code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CodeResult {
    pub(crate) answered: u64,
    /// From the actual time of sending.
    pub(crate) service: Compact,
    /// From the intended time of sending; open loop only.
    pub(crate) intended: Option<Compact>,
}

/// A part of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IntervalResult {
    /// When it ended by the clock on the wall, in seconds since 1970, so that it can be compared with a server's log.
    pub(crate) ended_epoch_s: f64,
    pub(crate) length_s: f64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    /// As in [`ServerResult`].
    pub(crate) server_cpu_ns_per_request: Option<f64>,
    /// Over all operations.
    pub(crate) service: Percentiles,
    pub(crate) intended: Option<Percentiles>,
    /// As in [`ScheduleResult`]; open loop only.
    #[serde(default)]
    pub(crate) lag: Option<Percentiles>,
    pub(crate) operations: Vec<IntervalOperation>,
    /// Kept where a log of histograms is asked for; too large for the JSON.
    #[serde(skip)]
    pub(crate) histograms: Option<IntervalHistograms>,
}

/// One operation in a part of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IntervalOperation {
    pub(crate) operation: String,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) service: Percentiles,
    pub(crate) intended: Option<Percentiles>,
}

/// All operations of a part of the window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IntervalHistograms {
    pub(crate) service: Compact,
    pub(crate) intended: Option<Compact>,
}

/// Several runs that belong together: a staircase of rates, or a search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) format: u32,
    /// The command that made it: ramp or knee.
    pub(crate) kind: String,
    /// In the order in which they were made.
    pub(crate) runs: Vec<RunResult>,
    /// What a search has found.
    pub(crate) knee: Option<Knee>,
}

/// The highest rate that meets the objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Knee {
    /// As they were typed.
    pub(crate) objectives: String,
    /// The median of the searches.
    pub(crate) rate_per_s: f64,
    /// Every search, in order.
    pub(crate) searches_per_s: Vec<f64>,
    /// The interval that covers the true median with the confidence below.
    pub(crate) low_per_s: f64,
    pub(crate) high_per_s: f64,
    /// 0 to 1.
    pub(crate) confidence: f64,
    /// Why no higher rate was found.
    #[serde(default)]
    pub(crate) limit: KneeLimit,
}

/// What a search met above the rate that it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KneeLimit {
    /// The server missed the objectives.
    #[default]
    Server,
    /// The generator fell behind: the server may do more.
    Generator,
    /// No higher rate was to be tried.
    Asked,
}

impl RunResult {
    /// Of all operations and codes, from the actual time of sending.
    pub(crate) fn service(&self) -> Latencies {
        let codes = self.operations.iter().flat_map(|each| each.codes.values());
        Compact::sum(codes.map(|code| &code.service))
    }

    /// The same from the intended time; `None` for a closed loop.
    pub(crate) fn intended(&self) -> Option<Latencies> {
        let codes = self.operations.iter().flat_map(|each| each.codes.values());
        let parts: Vec<&Compact> = codes.filter_map(|code| code.intended.as_ref()).collect();
        (!parts.is_empty()).then(|| Compact::sum(parts))
    }

    /// Requests that were due a second; of a closed loop, those that were answered.
    pub(crate) fn intended_rate_per_s(&self) -> f64 {
        self.schedule
            .as_ref()
            .map_or(self.rate_per_s, |schedule| schedule.intended_rate_per_s)
    }

    /// Whether it is void for nothing but requests that were sent late, and kept its rate all the same. Lateness comes on top of
    /// the latency from the intended time, and makes requests come in bursts: the server did as well as these numbers say, or
    /// better.
    pub(crate) fn is_only_late(&self) -> bool {
        self.void.is_some()
            && self.losses.unsent == 0
            && self.schedule.as_ref().is_some_and(|schedule| {
                let kept_per_s = schedule.intended_rate_per_s * LEAST_KEPT_SHARE;
                schedule.clock_steps == 0 && self.rate_per_s >= kept_per_s
            })
    }

    /// How late the latest request was sent, the warm-up's among them; `None` where that is not known to be all that was wrong
    /// with the schedule.
    pub(crate) fn longest_lag_us(&self) -> Option<f64> {
        let schedule = self.schedule.as_ref()?;
        let is_all_sent = self.losses.unsent == 0 && schedule.clock_steps == 0;
        schedule.longest_lag_us.filter(|_| is_all_sent)
    }

    /// What the hypervisor took of the time of all the machine's cores: 0 to 1; 0 where that is not known.
    pub(crate) fn stolen_share(&self) -> f64 {
        let gaps = self.schedule.as_ref().and_then(|schedule| schedule.machine);
        gaps.and_then(|gaps| gaps.all_stolen_share)
            .unwrap_or_default()
    }

    /// Requests without a reply in time, of all that were answered or lost: 0 to 1.
    pub(crate) fn loss_share(&self) -> f64 {
        crate::cpu::share(self.losses.lost, self.answered + self.losses.lost)
    }
}

impl OperationResult {
    /// Of all codes, from the actual time of sending.
    pub(crate) fn service(&self) -> Latencies {
        Compact::sum(self.codes.values().map(|code| &code.service))
    }

    /// The same from the intended time; `None` for a closed loop.
    pub(crate) fn intended(&self) -> Option<Latencies> {
        let parts = self
            .codes
            .values()
            .filter_map(|code| code.intended.as_ref());
        let parts: Vec<&Compact> = parts.collect();
        (!parts.is_empty()).then(|| Compact::sum(parts))
    }
}

impl Knee {
    /// The lowest and the highest rate that a search has found.
    pub(crate) fn range_per_s(&self) -> (f64, f64) {
        let searches = || self.searches_per_s.iter().copied();
        (
            searches().fold(f64::INFINITY, f64::min),
            searches().fold(0.0, f64::max),
        )
    }
}

impl IntervalResult {
    /// Answers a second.
    pub(crate) fn rate_per_s(&self) -> f64 {
        per_second(
            self.answered,
            Duration::from_secs_f64(self.length_s.max(0.0)),
        )
    }
}

/// A rate; 0 over no time.
#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    count as f64 / time.as_secs_f64()
}

/// Now, in seconds since 1970.
pub(crate) fn epoch_s() -> f64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
pub(crate) mod tests {
    use pyzor_protocol::Operation;

    use super::*;
    use crate::reply::Reply;
    use crate::tally::Tally;

    /// Answers that take 1, 2, 3, … `count` microseconds.
    fn answers(tally: &mut Tally, count: u64) {
        let reply = |found| Reply {
            code: Some(200),
            count: Some(u64::from(found)),
            ..Reply::default()
        };
        for number in 1..=count {
            tally.sent(Some(Operation::Check));
            let service = Duration::from_micros(number);
            let found = number.is_multiple_of(2);
            tally.count(Some(Operation::Check), &reply(found), service, None);
        }
    }

    /// A plausible result with this much server CPU time an answer.
    pub(crate) fn example(cpu_ns_per_request: f64) -> RunResult {
        let mut tally = Tally::new();
        answers(&mut tally, 10_000);
        let interval = IntervalResult {
            ended_epoch_s: 1_800_000_000.0,
            server_cpu_ns_per_request: Some(cpu_ns_per_request),
            ..tally.interval(Duration::from_secs(1), true)
        };
        RunResult {
            format: FORMAT,
            command: "blast".to_owned(),
            command_line: vec!["loadgen".to_owned(), "blast".to_owned()],
            environment: Environment::example(),
            target: "127.0.0.1:24441".parse().unwrap(),
            seed: 1,
            sockets: 16,
            sources: 1,
            in_flight: Some(256),
            warmup_s: 0.5,
            window_s: 2.0,
            schedule: None,
            sent: 20_001,
            answered: 20_000,
            rate_per_s: 10_000.4,
            bytes_sent: 4_000_000,
            bytes_received: 2_000_000,
            losses: Losses {
                lost: 1,
                late: 2,
                ..Losses::default()
            }
            .attributed(None),
            generator_idle_share: 0.25,
            void: None,
            ended_early: false,
            server: Some(ServerResult {
                pid: 1,
                cpu_ns_per_request,
                cores: 0.99,
                user_share: 0.1,
            }),
            operations: {
                answers(&mut tally, 10_000);
                tally.operations()
            },
            answers: None,
            timeline: vec![interval.clone(), interval],
        }
    }

    /// The same as the result of an open loop at this rate, which was kept.
    pub(crate) fn scheduled(run: RunResult, rate_per_s: f64) -> RunResult {
        RunResult {
            in_flight: None,
            schedule: Some(ScheduleResult {
                kind: ScheduleKind::Constant,
                intended: run.sent,
                intended_rate_per_s: rate_per_s,
                lag: Compact::of(&Latencies::new()),
                longest_lag_us: None,
                clock_steps: 0,
                machine: None,
            }),
            ..run
        }
    }

    #[test]
    fn losses_are_a_share_of_what_has_an_outcome() {
        let run = example(1.0);
        assert!((run.loss_share() - 1.0 / 20_001.0).abs() < 1e-12);
        assert!(per_second(5, Duration::ZERO).abs() < f64::EPSILON);
    }
}
