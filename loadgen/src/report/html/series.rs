//! Pages of many runs at different rates: a staircase, and a search for the highest rate that meets objectives.

use super::page::{self, Cell, Table, Tile};
use super::plot::{Dots, Rule, RulePlace, Shape};
use super::run::{environment, started};
use super::{Axis, Line, Plot, short, small_percent, time};
use crate::latency::Latencies;
use crate::report::assertion::Assertion;
use crate::report::terminal::{grouped, grouped_float, percent};
use crate::result::{Knee, KneeLimit, RunResult, Series};
use crate::trials::{Outcome, outcome};

/// The page of a staircase, and of what each of its steps is held to.
pub(crate) fn ramp(series: &Series, assertions: &[Assertion]) -> String {
    let steps = steps(series, &[]);
    let title = title(series);
    let body = [
        header(series, &title, "steps"),
        banners(&steps, "steps"),
        page::tiles(&ramp_tiles(&steps)),
        requirements(&steps, assertions),
        page::section("Latency by rate", &ramp_latencies(&steps)),
        page::section("Answered and lost by rate", &ramp_rates(&steps)),
        page::section(
            "Step by step",
            &(table(&steps, false).html() + &first_void(&steps)),
        ),
        conditions(series),
    ];
    page::page(&title, &body.concat())
}

/// The page of a search; `objectives` are those it was made for.
pub(crate) fn knee(series: &Series, objectives: &[Assertion]) -> String {
    let trials = steps(series, objectives);
    let title = title(series);
    let found = series.knee.as_ref();
    let pictures: String = objectives
        .iter()
        .map(|objective| page::section(&objective.to_string(), &picture(&trials, objective, found)))
        .collect();
    let body = [
        header(series, &title, "trials"),
        banners(&trials, "trials"),
        found.map_or_else(
            || page::banner("bad", "No rate was found that meets the objectives."),
            knee_findings,
        ),
        pictures,
        page::section(
            "Trial by trial",
            &(table(&trials, true).folded("All trials, in the order in which they were made")
                + &first_void(&trials)),
        ),
        conditions(series),
    ];
    page::page(&title, &body.concat())
}

/// A run, and what is shown of it.
struct Step<'r> {
    run: &'r RunResult,
    rate_per_s: f64,
    /// From the intended times.
    latencies: Latencies,
    outcome: Outcome,
}

fn steps<'r>(series: &'r Series, objectives: &[Assertion]) -> Vec<Step<'r>> {
    let step = |run: &'r RunResult| Step {
        run,
        rate_per_s: run.intended_rate_per_s(),
        latencies: run.intended().unwrap_or_else(|| run.service()),
        outcome: outcome(run, objectives),
    };
    series.runs.iter().map(step).collect()
}

impl Step<'_> {
    /// A point over the rate; `None` without an answer.
    fn at_quantile(&self, quantile: f64) -> Option<(f64, f64)> {
        let has_any = self.latencies.count() > 0;
        has_any.then(|| (self.rate_per_s, self.latencies.at_quantile_us(quantile)))
    }

    fn late_p99_us(&self) -> f64 {
        let schedule = self.run.schedule.as_ref();
        schedule.map_or(0.0, |schedule| schedule.lag.percentiles().p99_us)
    }
}

fn title(series: &Series) -> String {
    let target = series.runs.first().map(|run| run.target.to_string());
    format!(
        "loadgen {} on {}",
        series.kind,
        target.unwrap_or_else(|| "nothing".to_owned())
    )
}

fn header(series: &Series, title: &str, runs: &str) -> String {
    let about = series.runs.first().map_or_else(String::new, |first| {
        format!(
            "{} {runs} on {} sockets, each {:.1} s after {:.1} s of warm-up · {}",
            series.runs.len(),
            first.sockets,
            first.window_s,
            first.warmup_s,
            started(first)
        )
    });
    format!(
        "<h1>{}</h1>\n<p class=\"soft\">{}</p>\n",
        page::escaped(title),
        page::escaped(&about)
    )
}

/// What must be known first; `runs` is what they are called.
fn banners(steps: &[Step<'_>], runs: &str) -> String {
    let mut html = String::new();
    let all = steps.len();
    let void = steps.iter().filter(|step| step.run.void.is_some()).count();
    if void == all && all > 0 {
        let text = format!(
            "All {all} {runs} are void: nothing here is known of the server. Make them again where the generator has a core of its own."
        );
        html += &page::banner("bad", &text);
    } else if void > 0 {
        let text = format!(
            "{void} of {all} {runs} are void: the server may be better than their numbers say."
        );
        html += &page::banner("warn", &text);
    }
    if steps.iter().any(|step| step.run.ended_early) {
        let text = format!("It was stopped before the last of its {runs}.");
        html += &page::banner("warn", &text);
    }
    html
}

fn ramp_tiles(steps: &[Step<'_>]) -> Vec<Tile> {
    let valid = || steps.iter().filter(|step| step.run.void.is_none());
    let whole = valid().filter(|step| step.run.losses.lost == 0);
    let highest = |rates: &mut dyn Iterator<Item = f64>| rates.reduce(f64::max);
    let rate = |found: Option<f64>| found.map_or("–".to_owned(), grouped_float);
    let mut tiles = vec![
        Tile {
            name: "Highest rate without loss",
            value: rate(highest(&mut whole.map(|step| step.rate_per_s))),
            note: "requests a second, in a step that is not void".to_owned(),
        },
        Tile {
            name: "Most answers a second",
            value: rate(highest(&mut valid().map(|step| step.run.rate_per_s))),
            note: "in a step that is not void".to_owned(),
        },
    ];
    let ends = [valid().next(), valid().next_back()];
    for (name, step) in ["99 % within, first", "99 % within, last"].iter().zip(ends) {
        if let Some((rate_per_s, p99_us)) = step.and_then(|step| step.at_quantile(0.99)) {
            tiles.push(Tile {
                name,
                value: time(p99_us),
                note: format!("at {} /s", grouped_float(rate_per_s)),
            });
        }
    }
    tiles
}

fn requirements(steps: &[Step<'_>], assertions: &[Assertion]) -> String {
    let line = |assertion: &Assertion| {
        let missed = steps
            .iter()
            .filter(|step| assertion.check(step.run).is_err());
        let rates: Vec<String> = missed.map(|step| grouped_float(step.rate_per_s)).collect();
        let text = page::escaped(&assertion.to_string());
        if rates.is_empty() {
            format!("<li><b class=\"good\">met</b> {text} at every rate</li>\n")
        } else {
            format!(
                "<li><b class=\"bad-text\">not met</b> {text} at {} /s</li>\n",
                rates.join(", ")
            )
        }
    };
    if assertions.is_empty() {
        return String::new();
    }
    let lines: String = assertions.iter().map(line).collect();
    page::section(
        "Requirements",
        &format!("<ul class=\"plain\">\n{lines}</ul>\n"),
    )
}

fn ramp_latencies(steps: &[Step<'_>]) -> String {
    const LINES: [(&str, f64); 3] = [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)];
    let line = |(index, (name, quantile)): (usize, &(&str, f64))| Line {
        name: (*name).to_owned(),
        colour: [2, 3, 4][index],
        is_dashed: false,
        points: steps
            .iter()
            .filter_map(|step| step.at_quantile(*quantile))
            .collect(),
    };
    let lines: Vec<Line> = LINES.iter().enumerate().map(line).collect();
    let void = steps.iter().filter(|step| step.run.void.is_some());
    let dots = Dots {
        name: "99 % of a void step".to_owned(),
        shape: Shape::Circle,
        points: void.filter_map(|step| step.at_quantile(0.99)).collect(),
    };
    let y = {
        let points = lines.iter().flat_map(|line| &line.points);
        Axis::logarithmic("latency", points.map(|point| point.1), time)
    };
    let description = "Latency by rate; the table below holds the numbers";
    let mut plot = Plot::of_lines(description, rate_axis(steps), y, lines);
    if !dots.points.is_empty() {
        plot.dots.push(dots);
    }
    plot.html()
}

fn rate_axis(steps: &[Step<'_>]) -> Axis {
    let highest = steps.iter().map(|step| step.rate_per_s).fold(0.0, f64::max);
    Axis::from_zero("requests a second", highest, short)
}

fn ramp_rates(steps: &[Step<'_>]) -> String {
    let line = |name: &str, colour, is_dashed, value: fn(&Step<'_>) -> f64| Line {
        name: name.to_owned(),
        colour,
        is_dashed,
        points: steps
            .iter()
            .map(|step| (step.rate_per_s, value(step)))
            .collect(),
    };
    let x = rate_axis(steps);
    let y = Axis {
        title: "answers a second".to_owned(),
        ..x.clone()
    };
    let answered = vec![
        line("all of them", 1, true, |step| step.rate_per_s),
        line("answered", 0, false, |step| step.run.rate_per_s),
    ];
    let lost = line("lost", 5, false, |step| step.run.loss_share());
    let most_lost = lost.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let rates = Plot::of_lines(
        "Answers by rate; the table below holds the numbers",
        x.clone(),
        y,
        answered,
    );
    if most_lost <= 0.0 {
        return rates.html() + &page::note("No request was lost at any rate.");
    }
    let y = Axis::from_zero("share lost", most_lost, small_percent);
    let description = "Share of lost requests by rate; the table below holds the numbers";
    rates.html() + &Plot::of_lines(description, x, y, vec![lost]).html()
}

fn table(steps: &[Step<'_>], has_objectives: bool) -> Table {
    let row = |step: &Step<'_>| {
        let points = [0.5, 0.99, 0.999, 1.0].map(|quantile| {
            let point = step.at_quantile(quantile);
            Cell::number(point.map_or("–".to_owned(), |(_, us)| time(us)))
        });
        let counts = [
            grouped_float(step.rate_per_s),
            grouped_float(step.run.rate_per_s),
            small_percent(step.run.loss_share()),
        ];
        let mut cells: Vec<Cell> = counts.into_iter().map(Cell::number).collect();
        cells.extend(points);
        cells.push(Cell::number(time(step.late_p99_us())));
        let is_void = step.run.void.is_some();
        cells.push(Cell::number(remark(step.outcome, is_void, has_objectives)));
        cells
    };
    Table {
        caption: "Latency from the intended times; sent late: 99 % of the requests by at most so much.",
        heads: vec![
            "sent /s",
            "answered /s",
            "lost",
            "median",
            "99 %",
            "99.9 %",
            "longest",
            "sent late",
            "",
        ],
        rows: steps.iter().map(row).collect(),
    }
}

fn remark(outcome: Outcome, is_void: bool, has_objectives: bool) -> &'static str {
    match (outcome, is_void) {
        (Outcome::Stopped, _) => "stopped early",
        (Outcome::Void, _) => "void",
        (_, true) if has_objectives => "met, sent late",
        (_, true) => "void: sent late",
        (Outcome::Missed, false) => "missed",
        (Outcome::Met, false) if has_objectives => "met",
        (Outcome::Met, false) => "",
    }
}

/// Why the first void run is void; those after it mostly are for the same reason.
fn first_void(steps: &[Step<'_>]) -> String {
    let mut void = steps
        .iter()
        .filter_map(|step| Some((step.rate_per_s, step.run.void.as_ref()?)));
    void.next().map_or(String::new(), |(rate_per_s, reason)| {
        page::note(&format!(
            "The first void one, at {} /s: {reason}.",
            grouped_float(rate_per_s)
        ))
    })
}

fn knee_findings(knee: &Knee) -> String {
    let (least, most) = knee.range_per_s();
    let limit = match knee.limit {
        KneeLimit::Server => ("the server", "it missed the objectives above"),
        KneeLimit::Generator => (
            "the generator",
            "it fell behind above; the server may do more",
        ),
        KneeLimit::Asked => ("the search", "no higher rate was to be tried"),
    };
    let searches = knee.searches_per_s.len();
    let of = match searches {
        1 => "one search".to_owned(),
        _ => format!("median of {searches} searches"),
    };
    let mut tiles = vec![Tile {
        name: "Highest rate that meets them",
        value: grouped_float(knee.rate_per_s),
        note: format!("requests a second, {of}"),
    }];
    if searches > 1 {
        tiles.push(Tile {
            name: "True median between",
            value: format!("{} and {}", short(knee.low_per_s), short(knee.high_per_s)),
            note: format!("with {} confidence", percent(knee.confidence)),
        });
        tiles.push(Tile {
            name: "Spread of the searches",
            value: percent(most / least - 1.0),
            note: format!("{} to {} /s", grouped_float(least), grouped_float(most)),
        });
    }
    tiles.push(Tile {
        name: "Limited by",
        value: limit.0.to_owned(),
        note: limit.1.to_owned(),
    });
    let searches: Vec<String> = knee
        .searches_per_s
        .iter()
        .copied()
        .map(grouped_float)
        .collect();
    let found = format!("Found, search by search: {} /s.", searches.join(", "));
    page::tiles(&tiles) + "<br>\n" + &page::note(&found)
}

/// Every trial's value of what an objective is about, over its rate.
fn picture(trials: &[Step<'_>], objective: &Assertion, knee: Option<&Knee>) -> String {
    const KINDS: [(Outcome, Shape, &str); 3] = [
        (Outcome::Met, Shape::Disc, "all objectives met"),
        (Outcome::Missed, Shape::Cross, "missed"),
        (
            Outcome::Void,
            Shape::Circle,
            "void: the generator fell behind",
        ),
    ];
    let value = |step: &Step<'_>| Some((step.rate_per_s, objective.value(step.run)?));
    let points = |outcome| {
        let kind = trials.iter().filter(move |step| step.outcome == outcome);
        kind.filter_map(value).collect::<Vec<_>>()
    };
    let dots = KINDS.map(|(outcome, shape, name)| Dots {
        name: name.to_owned(),
        shape,
        points: points(outcome),
    });
    let rates = trials.iter().map(|step| step.rate_per_s);
    let values = trials.iter().filter_map(value).map(|point| point.1);
    let values: Vec<f64> = values.chain([objective.limit()]).collect();
    // What is 0 must not stand where the limit does.
    let has_nought = values.iter().any(|value| *value <= 0.0);
    let below_limit = has_nought.then_some(objective.limit() / 10.0);
    let y = Axis::logarithmic(
        objective.quantity_name(),
        values.iter().copied().chain(below_limit),
        objective.label(),
    );
    let mut rules = vec![Rule {
        name: format!("the limit, {}", objective.label()(objective.limit())),
        place: RulePlace::Across(objective.limit()),
    }];
    rules.extend(knee.map(|knee| Rule {
        name: format!(
            "found: {} /s, and its interval",
            grouped_float(knee.rate_per_s)
        ),
        place: RulePlace::Up(knee.rate_per_s, knee.low_per_s, knee.high_per_s),
    }));
    let plot = Plot {
        description: "What the objective is about by rate, trial by trial; the table below holds the numbers",
        x: Axis::logarithmic("requests a second", rates, short),
        y,
        lines: Vec::new(),
        dots: dots
            .into_iter()
            .filter(|dots| !dots.points.is_empty())
            .collect(),
        rules,
    };
    let mut html = plot.html();
    if has_nought {
        html += &page::note("What is 0 stands at the lower edge.");
    }
    html
}

fn conditions(series: &Series) -> String {
    let Some(first) = series.runs.first() else {
        return String::new();
    };
    let footer = format!(
        "<footer>Written by loadgen {}. {} requests were answered in all; latency to three digits.</footer>\n",
        page::escaped(&first.environment.version),
        grouped(series.runs.iter().map(|run| run.answered).sum())
    );
    page::section("Where and how", &environment(&series.runs)) + &footer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::FORMAT;
    use crate::result::tests::{example, scheduled};

    fn series(kind: &str) -> Series {
        let mut behind = scheduled(example(1.0), 40_000.0);
        behind.void = Some("the generator <fell> behind".to_owned());
        Series {
            format: FORMAT,
            kind: kind.to_owned(),
            runs: vec![
                scheduled(example(1.0), 10_000.0),
                scheduled(example(1.0), 20_000.0),
                behind,
            ],
            knee: None,
        }
    }

    #[test]
    fn a_staircase_shows_its_steps_and_what_they_missed() {
        let assertions = Assertion::list("loss=0,p50<1s").unwrap();
        let html = ramp(&series("ramp"), &assertions);
        for part in [
            "loadgen ramp on 127.0.0.1:24441",
            "3 steps on 16 sockets",
            "1 of 3 steps are void",
            "not met</b> loss=0 at 10,000, 20,000, 40,000 /s",
            "not met</b> p50&lt;1s at 40,000 /s",
            "at 40,000 /s: the generator &lt;fell&gt; behind.",
            "class=\"void\"",
            "11.4 MiB sent, 5.72 MiB received, in all",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        assert!(!html.contains("<fell>"));
    }

    #[test]
    fn a_search_shows_trials_limits_and_what_was_found() {
        let mut series = series("knee");
        let none = knee(&series, &Assertion::list("p99<5ms").unwrap());
        assert!(none.contains("No rate was found"));
        series.knee = Some(Knee {
            objectives: "p99<50ms,loss<1%".to_owned(),
            rate_per_s: 19_000.0,
            searches_per_s: vec![18_000.0, 19_000.0, 20_000.0],
            low_per_s: 18_000.0,
            high_per_s: 20_000.0,
            confidence: 0.75,
            limit: KneeLimit::Generator,
        });
        let html = knee(&series, &Assertion::list("p99<50ms,loss<1%").unwrap());
        for part in [
            "<dt>Highest rate that meets them</dt><dd>19,000<small>",
            "<dd>the generator<small>",
            "<h2>p99&lt;50ms</h2>",
            "<h2>loss&lt;1%</h2>",
            "class=\"met\"",
            "class=\"band\"",
            "the limit, 50 ms",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
    }

    #[test]
    fn what_is_void_is_said_above_all() {
        let objectives = Assertion::list("p99<5ms").unwrap();
        for kind in ["ramp", "knee"] {
            let page = |series: &Series| match kind {
                "ramp" => ramp(series, &objectives),
                _ => knee(series, &objectives),
            };
            let mut series = series(kind);
            let some = page(&series);
            assert!(
                some.contains("1 of 3 ") && some.contains("class=\"banner warn\""),
                "{some}"
            );
            series.runs.drain(..2);
            let all = page(&series);
            assert!(
                all.contains("All 1 ") && all.contains("class=\"banner bad\""),
                "{all}"
            );
            assert!(all.find("nothing here is known") < all.find("<section"));
        }
    }

    #[test]
    fn a_series_without_a_run_has_a_page_all_the_same() {
        let mut series = series("ramp");
        series.runs.clear();
        assert!(ramp(&series, &[]).ends_with("</html>\n"));
        assert!(knee(&series, &Assertion::list("loss=0").unwrap()).ends_with("</html>\n"));
    }
}
