//! The summary of a run, as text for a terminal.

use std::fmt;

use crate::answers::{AnswerResult, DigestCounts};
use crate::latency::Percentiles;
use crate::losses::Losses;
use crate::report::columns::{Row, table};
use crate::result::{
    MachineGaps, OperationResult, RunResult, ScheduleKind, ScheduleResult, ServerResult,
};

/// Prints as the summary of a run.
pub(crate) struct Summary<'r>(pub(crate) &'r RunResult);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        if let Some(reason) = &run.void {
            writeln!(f, "VOID: {reason}\n")?;
        }
        write_setting(run, f)?;
        write_rate(run, f)?;
        write_losses(&run.losses, f)?;
        if let Some(schedule) = &run.schedule {
            write_schedule(schedule, f)?;
            schedule
                .machine
                .as_ref()
                .map_or(Ok(()), |machine| write_machine(machine, f))?;
        }
        if let Some(server) = &run.server {
            write_server(server, f)?;
        }
        if let Some(answers) = &run.answers {
            write_answers(answers, f)?;
        }
        write_operations(&run.operations, f)
    }
}

fn write_setting(run: &RunResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}: ", run.target)?;
    match (run.in_flight, &run.schedule) {
        (Some(in_flight), _) => write!(f, "{in_flight} requests in flight on ")?,
        (None, Some(schedule)) => write!(f, "{} on ", described(schedule))?,
        (None, None) => {}
    }
    write!(f, "{} sockets", run.sockets)?;
    if run.sources > 1 {
        write!(f, " of {} addresses", grouped(run.sources.into()))?;
    }
    let early = if run.ended_early { ", ended early" } else { "" };
    writeln!(
        f,
        ", {:.2} s{early} after {:.2} s of warm-up, seed {}\n",
        run.window_s, run.warmup_s, run.seed
    )
}

/// The schedule in words.
pub(crate) fn described(schedule: &ScheduleResult) -> String {
    let rate = grouped_float(schedule.intended_rate_per_s);
    match schedule.kind {
        ScheduleKind::Recorded { speed } => format!("as recorded at {speed} x ({rate} /s)"),
        ScheduleKind::Constant => format!("{rate} /s evenly"),
        ScheduleKind::Poisson => format!("{rate} /s at random (Poisson)"),
    }
}

fn write_rate(run: &RunResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "rate      {:>12} /s   generator idle {} of the time",
        grouped_float(run.rate_per_s),
        percent(run.generator_idle_share),
    )
}

fn write_losses(losses: &Losses, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rest = [
        ("late", losses.late),
        ("duplicate", losses.duplicate),
        ("stray", losses.stray),
        ("refused", losses.refused),
        ("unsent", losses.unsent),
        ("own socket", losses.own_socket),
        ("server's kernel", losses.server_kernel.unwrap_or(0)),
    ];
    write!(f, "lost      {:>12}", grouped(losses.lost))?;
    for (name, count) in rest.iter().filter(|(_, count)| *count > 0) {
        write!(f, "   {name} {}", grouped(*count))?;
    }
    writeln!(f)
}

fn write_schedule(schedule: &ScheduleResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let lag = schedule.lag.percentiles();
    writeln!(
        f,
        "schedule  {:>12} due   sent late by p50 {}, p99 {}, at most {} us",
        grouped(schedule.intended),
        grouped_float(lag.p50_us),
        grouped_float(lag.p99_us),
        grouped_float(lag.max_us),
    )
}

fn write_machine(machine: &MachineGaps, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "machine   {:>12} pauses before the run, {} of the time, at most {} us; in it: {} ms waited for a core, {} ms stolen, preempted {} times",
        grouped(machine.pauses),
        percent(machine.paused_share),
        grouped_float(machine.longest_pause_us),
        grouped_float(machine.waited_s * 1e3),
        machine
            .stolen_s
            .map_or("unknown".to_owned(), |stolen_s| grouped_float(
                stolen_s * 1e3
            )),
        grouped(machine.involuntary_switches),
    )?;
    if machine.starved_s >= NOTEWORTHY_S {
        writeln!(
            f,
            "feed      {:>12} ms behind: requests were not made ready in time",
            grouped_float(machine.starved_s * 1e3)
        )?;
    }
    Ok(())
}

/// Less is of no consequence.
const NOTEWORTHY_S: f64 = 0.001;

fn write_server(server: &ServerResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "server    {:>12} ns CPU an answer   {:.2} cores, {} in user mode (process CPU clock)",
        grouped_float(server.cpu_ns_per_request),
        server.cores,
        percent(server.user_share),
    )
}

/// More differences than this stand in files only.
const DIFFERENCES_SHOWN: usize = 10;

fn write_answers(answers: &AnswerResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "answers   {:>12} checked   {} differ, {} about digests not expected",
        grouped(answers.checked),
        grouped(answers.differing),
        grouped(answers.unlisted),
    )?;
    for each in answers.differences.iter().take(DIFFERENCES_SHOWN) {
        writeln!(
            f,
            "  {}   expected {}, found {} ({} times)",
            each.digest,
            counts(each.expected),
            counts(each.found),
            grouped(each.answers)
        )?;
    }
    if answers.differences.len() > DIFFERENCES_SHOWN {
        writeln!(f, "  … more of them stand in --json and --html")?;
    }
    Ok(())
}

/// As the clients print them: reports, and then whitelistings.
pub(crate) fn counts(counts: DigestCounts) -> String {
    format!("{} and {}", counts.count, counts.whitelisted)
}

/// What a usual table's columns take: the operation, how many were answered and found, and five points of the latency.
const OPERATION_WIDTHS: [usize; 8] = [10, 12, 8, 9, 9, 9, 9, 9];

fn write_operations(operations: &[OperationResult], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let heads = [
        "", "answered", "found", "p50 us", "p90", "p99", "p99.9", "max",
    ];
    let heads = Row::new(heads.map(str::to_owned), "   codes");
    let rows = operations.iter().flat_map(operation_rows);
    let rows: Vec<Row> = std::iter::once(heads).chain(rows).collect();
    write!(f, "\n{}", table(&rows, &OPERATION_WIDTHS))
}

fn operation_rows(operation: &OperationResult) -> impl Iterator<Item = Row> {
    let found = percent(crate::cpu::share(operation.found, operation.answered));
    let counts = [
        operation.operation.clone(),
        grouped(operation.answered),
        found,
    ];
    let codes = operation.codes.iter();
    let codes: Vec<String> = codes
        .map(|(code, answers)| format!("{code}: {}", grouped(answers.answered)))
        .collect();
    let service = Row::new(
        counts.into_iter().chain(points(&operation.service)),
        format!("   {}", codes.join(" ")),
    );
    let intended = operation.intended.as_ref().map(|intended| {
        let name = ["  from the intended time", "", ""].map(str::to_owned);
        Row::new(name.into_iter().chain(points(intended)), "")
    });
    std::iter::once(service).chain(intended)
}

fn points(points: &Percentiles) -> [String; 5] {
    [
        points.p50_us,
        points.p90_us,
        points.p99_us,
        points.p99_9_us,
        points.max_us,
    ]
    .map(grouped_float)
}

/// With one digit after the point.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Rounded to a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are positive, and casts from floats saturate"
)]
pub(crate) fn grouped_float(number: f64) -> String {
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
mod tests {
    use super::*;
    use crate::answers::Difference;
    use crate::latency::{Compact, Latencies};
    use crate::result::tests::example;

    #[test]
    fn the_text_of_a_closed_loop_is_aligned() {
        let expected = "\
127.0.0.1:24441: 256 requests in flight on 16 sockets, 2.00 s after 0.50 s of warm-up, seed 1

rate            10,000 /s   generator idle 25.0 % of the time
lost                 1   late 2
server           1,700 ns CPU an answer   0.99 cores, 10.0 % in user mode (process CPU clock)

              answered   found   p50 us      90      p99    p99.9      max   codes
check           20,000  50.0 %    5,001    9,003    9,904    9,994   10,002   200: 20,000
";
        let expected = expected.replace("us      90", "us      p90");
        assert_eq!(Summary(&example(1700.0)).to_string(), expected);
    }

    #[test]
    fn an_open_loop_tells_its_schedule_and_both_latencies() {
        let mut run = example(1700.0);
        run.in_flight = None;
        run.sources = 1_000;
        run.void = Some("the generator fell behind".to_owned());
        run.ended_early = true;
        run.schedule = Some(ScheduleResult {
            kind: ScheduleKind::Recorded { speed: 2.5 },
            intended: 20_001,
            intended_rate_per_s: 10_000.5,
            lag: Compact::of(&Latencies::new()),
            longest_lag_us: None,
            clock_steps: 0,
            machine: Some(MachineGaps {
                looked_s: 0.2,
                pauses: 12,
                longest_pause_us: 340.0,
                paused_share: 0.004,
                waited_s: 0.0032,
                involuntary_switches: 14,
                stolen_s: Some(0.01),
                all_stolen_share: Some(0.005),
                starved_s: 0.002,
            }),
        });
        run.operations[0].intended = Some(run.operations[0].service);
        let text = Summary(&run).to_string();
        for part in [
            "VOID: the generator fell behind\n",
            ": as recorded at 2.5 x (10,001 /s) on 16 sockets of 1,000 addresses, 2.00 s, ended early",
            "20,001 due   sent late by p50 0",
            "12 pauses before the run, 0.4 % of the time, at most 340 us; in it: 3 ms waited for a core, 10 ms stolen, preempted 14 times\n",
            "2 ms behind: requests were not made ready in time",
            "\n  from the intended time          5,001",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn numbers_of_any_size_stand_apart() {
        let mut run = example(1.0);
        let operation = &mut run.operations[0];
        operation.answered = 123_456_789_012;
        operation.service.p99_9_us = 959_971.0;
        operation.service.max_us = 1_001_390.0;
        operation.intended = Some(Percentiles {
            p50_us: 1e9,
            ..operation.service
        });
        let text = Summary(&run).to_string();
        let last: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let words = |line: &[&str]| line.iter().filter(|word| !word.is_empty()).count();
        let [.., heads, check, intended] = &last[..] else {
            panic!("{text}")
        };
        assert_eq!(words(heads), 9, "{text}");
        assert_eq!((words(check), words(intended)), (11, 9), "{text}");
        assert!(intended.contains(&"1,000,000,000"), "{text}");
    }

    #[test]
    fn wrong_answers_are_named() {
        let counts = |count| DigestCounts {
            count,
            whitelisted: 0,
        };
        let difference = Difference {
            digest: "ab".repeat(20),
            expected: counts(3),
            found: counts(4),
            answers: 1_200,
        };
        let mut run = example(1.0);
        run.answers = Some(AnswerResult {
            checked: 10_000,
            differing: 1_200,
            unlisted: 5,
            differences: vec![difference; DIFFERENCES_SHOWN + 1],
        });
        let text = Summary(&run).to_string();
        let line = "abab   expected 3 and 0, found 4 and 0 (1,200 times)\n";
        assert_eq!(text.matches(line).count(), DIFFERENCES_SHOWN, "{text}");
        let sum =
            "answers         10,000 checked   1,200 differ, 5 about digests not expected\n  abab";
        assert!(text.contains(sum) && text.contains("… more"), "{text}");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 12, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "999", "1,000", "123,456", "1,234,567"]);
    }
}
