//! The page of a run, section by section.

use std::io::{self, Write};

use jiff::Timestamp;

use super::page::{self, Cell, Table, Tile};
use super::{bytes, pictures, short, small_percent, time};
use crate::answers::Difference;
use crate::latency::{Latencies, Percentiles};
use crate::report::assertion::Assertion;
use crate::report::terminal::{counts, described, grouped, percent};
use crate::result::{MachineGaps, OperationResult, RunResult};

/// A generator that was idle for less than this share of the time was the limit, or close to it.
const BUSY_IDLE_SHARE: f64 = 0.03;

/// Writes the page.
pub(crate) fn write(
    run: &RunResult,
    assertions: &[Assertion],
    out: &mut impl Write,
) -> io::Result<()> {
    let title = format!("loadgen {} on {}", run.command, run.target);
    let body = [
        header(run, &title),
        banners(run),
        page::tiles(&headline(run)),
        requirements(run, assertions),
        page::section("Latency by percentile", &latency(run)),
        page::section("Over time", &pictures::timeline(run)),
        page::section("What was asked, and answered", &(mix(run) + &codes(run))),
        answers(run),
        page::section("What was lost", &losses(run)),
        schedule(run),
        page::section("Where and how", &environment(std::slice::from_ref(run))),
        footer(run),
    ]
    .concat();
    out.write_all(page::page(&title, &body).as_bytes())
}

fn header(run: &RunResult, title: &str) -> String {
    let load = match (run.in_flight, &run.schedule) {
        (Some(in_flight), _) => format!("{} requests in flight", grouped(in_flight.into())),
        (None, Some(schedule)) => described(schedule),
        (None, None) => String::new(),
    };
    format!(
        "<h1>{}</h1>\n<p class=\"soft\">{}, {} sockets, {:.1} s measured after {:.1} s of warm-up · {}</p>\n",
        page::escaped(title),
        page::escaped(&load),
        run.sockets,
        run.window_s,
        run.warmup_s,
        started(run)
    )
}

/// In UTC.
pub(super) fn started(run: &RunResult) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "casts from floats saturate"
    )]
    let seconds = run.environment.started_epoch_s as i64;
    Timestamp::from_second(seconds).map_or_else(
        |_| "at an unknown time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

fn banners(run: &RunResult) -> String {
    let mut html = String::new();
    if let Some(reason) = &run.void {
        let text = format!("This run is void: {reason}. Do not trust its numbers.");
        html += &page::banner("bad", &text);
    }
    if run.ended_early {
        let text = format!(
            "The run was stopped early: only {:.1} s were measured.",
            run.window_s
        );
        html += &page::banner("warn", &text);
    }
    if run.generator_idle_share < BUSY_IDLE_SHARE {
        let text = "The load generator was busy nearly all the time: it may have been the limit, not the server.";
        html += &page::banner("warn", text);
    }
    html
}

fn headline(run: &RunResult) -> Vec<Tile> {
    let intended = run.intended();
    let clock = if intended.is_some() {
        "from the intended sending"
    } else {
        "from the sending"
    };
    let points = intended.unwrap_or_else(|| run.service());
    let at = |name, quantile| Tile {
        name,
        value: time(points.at_quantile_us(quantile)),
        note: clock.to_owned(),
    };
    let mut tiles = vec![
        Tile {
            name: "Answers a second",
            value: grouped_rate(run.rate_per_s),
            note: format!("{} in all", grouped(run.answered)),
        },
        at("Median latency", 0.5),
        at("99 % within", 0.99),
        at("99.9 % within", 0.999),
        Tile {
            name: "Lost",
            value: grouped(run.losses.lost),
            note: format!("{} of all", small_percent(run.loss_share())),
        },
    ];
    if let Some(server) = &run.server {
        tiles.push(Tile {
            name: "Server CPU an answer",
            value: time(server.cpu_ns_per_request / 1e3),
            note: format!(
                "{:.2} cores, {} in user mode",
                server.cores,
                percent(server.user_share)
            ),
        });
    }
    tiles.push(Tile {
        name: "Measured",
        value: format!("{:.1} s", run.window_s),
        note: format!("{} parts", run.timeline.len()),
    });
    tiles.push(Tile {
        name: "Generator idle",
        value: percent(run.generator_idle_share),
        note: "of the time; near 0 it is the limit".to_owned(),
    });
    tiles
}

fn grouped_rate(rate_per_s: f64) -> String {
    if rate_per_s < 1e6 {
        crate::report::terminal::grouped_float(rate_per_s)
    } else {
        short(rate_per_s)
    }
}

fn requirements(run: &RunResult, assertions: &[Assertion]) -> String {
    if assertions.is_empty() {
        return String::new();
    }
    let line = |assertion: &Assertion| match assertion.check(run) {
        Ok(()) => format!(
            "<li><b class=\"good\">met</b> {}</li>\n",
            page::escaped(&assertion.to_string())
        ),
        Err(missed) => format!(
            "<li><b class=\"bad-text\">not met</b> {}</li>\n",
            page::escaped(&missed)
        ),
    };
    let lines: String = assertions.iter().map(line).collect();
    page::section(
        "Requirements",
        &format!("<ul class=\"plain\">\n{lines}</ul>\n"),
    )
}

fn latency(run: &RunResult) -> String {
    let mut rows = Vec::new();
    for operation in &run.operations {
        let intended = operation.intended();
        let name = |clock: &str| format!("{}{clock}", operation.operation);
        let actual = if intended.is_some() { ", actual" } else { "" };
        rows.push(percentile_row(name(actual), &operation.service()));
        if let Some(intended) = &intended {
            rows.push(percentile_row(name(", intended"), intended));
        }
    }
    let table = Table {
        heads: vec![
            "", "median", "90 %", "99 %", "99.9 %", "99.99 %", "longest", "mean",
        ],
        rows,
        ..Table::default()
    };
    let mut html = table.html() + "<br>\n" + &pictures::percentiles(run);
    if run.schedule.is_some() {
        html += &page::note(
            "From the intended sending: what a client waits that does not know of the server's trouble. \
             From the actual sending: what the server takes for what reaches it.",
        );
    }
    html
}

fn percentile_row(name: String, latencies: &Latencies) -> Vec<Cell> {
    // Without an answer there is no latency.
    let shown = |us| match latencies.count() {
        0 => "–".to_owned(),
        _ => time(us),
    };
    let Percentiles {
        max_us, mean_us, ..
    } = latencies.percentiles();
    let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999].map(|at| latencies.at_quantile_us(at));
    let times = quantiles.into_iter().chain([max_us, mean_us]);
    std::iter::once(Cell::text(name))
        .chain(times.map(|us| Cell::number(shown(us))))
        .collect()
}

fn mix(run: &RunResult) -> String {
    let row = |operation: &OperationResult| {
        let share = crate::cpu::share(operation.sent, run.sent);
        vec![
            Cell::text(&operation.operation),
            Cell::number(grouped(operation.sent)),
            Cell::number(percent(share)),
            Cell::Bar(share),
            Cell::number(grouped(operation.answered)),
            Cell::number(percent(crate::cpu::share(
                operation.found,
                operation.answered,
            ))),
            Cell::number(grouped(operation.lost)),
        ]
    };
    Table {
        heads: vec!["", "sent", "share", "", "answered", "found", "lost"],
        rows: run.operations.iter().map(row).collect(),
        ..Table::default()
    }
    .html()
}

fn codes(run: &RunResult) -> String {
    let mut rows = Vec::new();
    for operation in &run.operations {
        for (code, answers) in &operation.codes {
            let share = crate::cpu::share(answers.answered, operation.answered);
            let points = answers.service.percentiles();
            rows.push(vec![
                Cell::Named(
                    format!("{} {code}", operation.operation),
                    meaning(code).to_owned(),
                ),
                Cell::number(grouped(answers.answered)),
                Cell::number(percent(share)),
                Cell::number(time(points.p50_us)),
                Cell::number(time(points.p99_us)),
            ]);
        }
    }
    let table = Table {
        heads: vec!["code", "answers", "share", "median", "99 %"],
        rows,
        ..Table::default()
    };
    format!("<br>\n{}", table.html())
}

/// What a code says, in the protocol's terms.
fn meaning(code: &str) -> &'static str {
    match code {
        "200" => "done",
        "400" => "bad request",
        "401" => "unauthorized",
        "403" => "forbidden",
        "404" => "not found",
        "409" => "conflict",
        "413" => "too large",
        "429" => "too many requests",
        "500" => "failed",
        "501" => "not implemented",
        "503" => "unavailable, or no room",
        "504" => "gateway timed out",
        "505" => "version not supported",
        "none" => "replies without a code",
        "other" => "rarer codes",
        _ => "",
    }
}

fn answers(run: &RunResult) -> String {
    let Some(answers) = &run.answers else {
        return String::new();
    };
    let facts = page::facts(&[
        ("Compared with what was expected", grouped(answers.checked)),
        ("Different", grouped(answers.differing)),
        ("About digests not expected", grouped(answers.unlisted)),
    ]);
    if answers.differences.is_empty() {
        return page::section("Were the answers right?", &facts);
    }
    let row = |each: &Difference| {
        vec![
            Cell::text(&each.digest),
            Cell::number(counts(each.expected)),
            Cell::number(counts(each.found)),
            Cell::number(grouped(each.answers)),
        ]
    };
    let table = Table {
        caption: "Reports and whitelistings of each digest, as in the first answer that differed; 100 digests at most.",
        heads: vec!["digest", "expected", "found", "answers"],
        rows: answers.differences.iter().map(row).collect(),
    };
    page::section(
        "Were the answers right?",
        &(facts + "<br>\n" + &table.html()),
    )
}

fn losses(run: &RunResult) -> String {
    let losses = &run.losses;
    let unknown_kernel = "not counted".to_owned();
    let refused: u64 = run.operations.iter().map(server_errors).sum();
    let attributed = [
        (
            "Lost in all",
            grouped(losses.lost),
            "requests without a reply in time",
        ),
        (
            "of these: in our own socket",
            grouped(losses.own_socket),
            "replies the generator's kernel had no room for",
        ),
        (
            "of these: in the server's kernel",
            losses.server_kernel.map_or(unknown_kernel, grouped),
            "requests its socket had no room for, by its own metric",
        ),
        (
            "of these: unknown",
            grouped(losses.unknown),
            "all other lost ones",
        ),
        (
            "Not lost, but refused",
            grouped(refused),
            "answers with a code from 500 on",
        ),
        (
            "Late",
            grouped(losses.late),
            "replies to requests given up before",
        ),
        (
            "Duplicate",
            grouped(losses.duplicate),
            "replies to requests answered before",
        ),
        (
            "Stray",
            grouped(losses.stray),
            "replies without a Thread of ours",
        ),
        (
            "Port closed",
            grouped(losses.refused),
            "requests the target's kernel turned away",
        ),
        (
            "Not sent",
            grouped(losses.unsent),
            "requests our own kernel had no room for",
        ),
    ];
    let row = |(name, count, meaning): &(&str, String, &str)| {
        vec![
            Cell::Named((*name).to_owned(), (*meaning).to_owned()),
            Cell::number(count.clone()),
        ]
    };
    Table {
        heads: vec!["", "datagrams"],
        rows: attributed.iter().map(row).collect(),
        ..Table::default()
    }
    .html()
}

fn server_errors(operation: &OperationResult) -> u64 {
    let codes = operation.codes.iter();
    codes
        .filter(|(code, _)| code.starts_with('5'))
        .map(|(_, answers)| answers.answered)
        .sum()
}

fn schedule(run: &RunResult) -> String {
    let Some(schedule) = &run.schedule else {
        return String::new();
    };
    let facts = page::facts(&[
        ("Planned", described(schedule)),
        ("Due in the window", grouped(schedule.intended)),
        ("Sent", grouped(run.sent)),
    ]);
    let table = Table {
        heads: vec![
            "sent late by",
            "median",
            "90 %",
            "99 %",
            "99.9 %",
            "99.99 %",
            "longest",
            "mean",
        ],
        rows: vec![percentile_row(
            "all requests".to_owned(),
            &schedule.lag.expand(),
        )],
        ..Table::default()
    };
    page::section(
        "Was the schedule kept?",
        &(facts
            + "<br>\n"
            + &table.html()
            + &schedule.machine.as_ref().map_or_else(String::new, machine)),
    )
}

/// What made requests late that is not the generator's fault, or is.
fn machine(gaps: &MachineGaps) -> String {
    const US_PER_S: f64 = 1e6;
    let seconds = |s: f64| time(s * US_PER_S);
    let rows = [
        (
            "Pauses before the run",
            grouped(gaps.pauses),
            "of 20 µs or more, in threads that looked at nothing but the clock",
        ),
        (
            "The longest of them",
            time(gaps.longest_pause_us),
            "the machine's doing: the generator had nothing to do",
        ),
        (
            "Their share",
            percent(gaps.paused_share),
            "of the time looked",
        ),
        (
            "Waited for a core",
            seconds(gaps.waited_s),
            "in the run: ready to send, while the kernel ran other programs",
        ),
        (
            "Preempted",
            grouped(gaps.involuntary_switches),
            "times in the run",
        ),
        (
            "Stolen",
            gaps.stolen_s.map_or("unknown".to_owned(), seconds),
            "in the run: taken from the cores by the hypervisor",
        ),
        (
            "Stolen from all cores",
            gaps.all_stolen_share.map_or("unknown".to_owned(), percent),
            "of the machine's time in the run, the server's among it if it runs here",
        ),
        (
            "Requests not ready",
            seconds(gaps.starved_s),
            "in the run: the generator's own feed was behind",
        ),
    ];
    let row = |(name, value, meaning): (&str, String, &str)| {
        vec![
            Cell::Named(name.to_owned(), meaning.to_owned()),
            Cell::number(value),
        ]
    };
    let table = Table {
        caption: "What the machine took away from the generator",
        heads: vec!["", ""],
        rows: rows.into_iter().map(row).collect(),
    };
    format!("<br>\n{}", table.html())
}

/// Of runs that were made together; nothing of none.
pub(super) fn environment(runs: &[RunResult]) -> String {
    let Some(run) = runs.first() else {
        return String::new();
    };
    let here = &run.environment;
    let total = |of: fn(&RunResult) -> u64| bytes(as_f64(runs.iter().map(of).sum()));
    let (sent, received) = (total(|run| run.bytes_sent), total(|run| run.bytes_received));
    let of_all = if runs.len() == 1 { "" } else { ", in all" };
    let sources = runs.iter().map(|run| run.sources).max();
    let facts = page::facts(&[
        ("Target", run.target.to_string()),
        (
            "Load generator",
            format!("loadgen {} on {}", here.version, here.host),
        ),
        ("CPU", format!("{} × {}", here.cores, here.cpu_model)),
        ("Memory", bytes(as_f64(here.memory_bytes))),
        ("Kernel", here.kernel.clone()),
        ("Seed", run.seed.to_string()),
        (
            "Source addresses",
            grouped(sources.unwrap_or_default().into()),
        ),
        (
            "Payload",
            format!("{sent} sent, {received} received{of_all}"),
        ),
    ]);
    format!(
        "{facts}<pre>{}</pre>\n",
        page::escaped(&shell_line(&run.command_line))
    )
}

/// As it can be pasted into a shell. What no shell can pass on, and so nobody typed, is not shown.
fn shell_line(words: &[String]) -> String {
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "for a reader")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn footer(run: &RunResult) -> String {
    format!(
        "<footer>Written by loadgen {}. Latency to three digits; every run can be repeated by its command line and seed.</footer>\n",
        page::escaped(&run.environment.version)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    fn html(run: &RunResult, assertions: &[&str]) -> String {
        let assertions: Vec<Assertion> = assertions
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let mut text = Vec::new();
        write(run, &assertions, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_command_line_can_be_pasted_into_a_shell() {
        let typed = [
            "loadgen",
            "replay",
            "my $mail.pcap",
            "--assert",
            "p99<5ms",
            "--assert",
            "it's=1",
            "-",
            "",
        ];
        let mut run = example(1.0);
        run.command_line = typed.map(str::to_owned).to_vec();
        let line = shell_line(&run.command_line);
        let echoed = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("for word in {line}; do echo \"$word\"; done"),
            ])
            .output()
            .unwrap();
        let words = String::from_utf8(echoed.stdout).unwrap();
        assert_eq!(words.lines().collect::<Vec<_>>(), typed, "{line}");
        assert!(html(&run, &[]).contains(&page::escaped(&line)));
    }

    #[test]
    fn the_page_says_what_was_measured() {
        let html = html(&example(1_700.0), &["p50<1s", "loss=0"]);
        for part in [
            "loadgen blast on 127.0.0.1:24441",
            "2027-01-15 07:59:59 UTC",
            "<dt>99 % within</dt><dd>9.9 ms",
            "met</b> p50&lt;1s",
            "not met</b> loss=0: it is 1",
            "check 200",
            "Example CPU",
            "<pre>loadgen blast</pre>",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("banner bad") && !html.contains("<script"));
    }

    #[test]
    fn what_cannot_be_trusted_says_so() {
        let mut run = example(1.0);
        run.void = Some("the generator <fell> behind".to_owned());
        run.ended_early = true;
        let html = html(&run, &[]);
        assert!(html.contains("This run is void: the generator &lt;fell&gt; behind"));
        assert!(html.contains("stopped early: only 2.0 s"));
    }
}
