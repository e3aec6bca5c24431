//! From measured results to a capacity plan: cores and hosts, latency, memory, disk, and when the next host is due.
//!
//! - `model`: the arithmetic, and what it assumes.

mod model;

use std::fmt;
use std::path::PathBuf;

pub(crate) use model::{age_days, bytes as size, growth};

use crate::error::Error;
use crate::flags::PlanFlags;
use crate::report::columns::{Row, table};
use crate::report::html::page::{self, Cell, Table, Tile};
use crate::report::html::{bytes, short, three_digits, time};
use crate::report::terminal::{grouped_float, percent};
use crate::report::{try_files, write_file};
use crate::result::{Knee, KneeLimit, RunResult, Saved};
use crate::stdio::{print, say};
use model::{
    DISK_COPIES, Demand, FILTER_BYTES_A_DIGEST, FILTERS_AT_ONCE, HOT_SET_BYTES_A_DIGEST, Measured,
    Plan, STORE_RUN, StoreCosts,
};

/// Plans, prints the plan, and writes its page.
pub(crate) fn run(flags: &PlanFlags) -> Result<(), Error> {
    try_files([&flags.html], flags.results.iter().map(PathBuf::as_path))?;
    let (runs, knee) = read(&flags.results)?;
    let void_runs = runs.iter().filter(|run| run.void.is_some()).count();
    if let Some(reason) = runs.iter().rev().find_map(|run| run.void.as_ref())
        && void_runs == runs.len()
    {
        return Err(Error::Plan(format!(
            "no plan can rest on these results: all {void_runs} runs are void, the last one because {reason}; measure again"
        )));
    }
    let knee_per_s = knee.as_ref().map(|knee| knee.rate_per_s);
    let measured = Measured::of(&runs, knee_per_s).ok_or_else(|| {
        let why = "no run says anything of the server: all are void, or without an answer";
        Error::Plan(why.to_owned())
    })?;
    // Results of others may name none.
    let cores_of_machine = f64::from(runs[0].environment.cores.max(1));
    let demand = Demand {
        target_rate_per_s: flags.target_rate,
        headroom: flags.headroom,
        growth_a_month: flags.growth,
        cores_a_host: flags.cores.map_or(cores_of_machine, f64::from),
        digests: flags.digests,
        cleanup_age_days: flags.cleanup_age,
        store: store_costs(flags),
    };
    let report = Report {
        plan: Plan::of(&measured, &demand),
        knee,
        measured,
        demand,
        runs: runs.len(),
        void_runs,
        files: flags
            .results
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    };
    let printed = print(&report);
    if let Some(warning) = report.void_warning() {
        say(warning);
    }
    if let Some(path) = &flags.html {
        let html = report.html();
        write_file(path, |out| std::io::Write::write_all(out, html.as_bytes()))?;
    }
    printed
}

fn store_costs(flags: &PlanFlags) -> StoreCosts {
    let measured = StoreCosts::MEASURED;
    let or = |given: Option<f64>, measured: f64| given.unwrap_or(measured);
    StoreCosts {
        hot_set_bytes: or(flags.hot_set_memory, measured.hot_set_bytes),
        cache_bytes: or(flags.store_cache, measured.cache_bytes),
        other_bytes: or(flags.other_memory, measured.other_bytes),
        disk_bytes_a_digest: or(flags.disk_bytes_a_digest, measured.disk_bytes_a_digest),
    }
}

/// All runs, and what the last search among them has found.
fn read(paths: &[PathBuf]) -> Result<(Vec<RunResult>, Option<Knee>), Error> {
    let mut runs = Vec::new();
    let mut knee = None;
    for path in paths {
        match Saved::read(path)? {
            Saved::Run(run) => runs.push(run),
            Saved::Series(series) if series.kind == "knee" && series.knee.is_none() => {
                let problem =
                    "holds a search that found no knee: no rate is known to meet its objectives";
                return Err(Error::WrongResult(path.clone(), problem.to_owned()));
            }
            Saved::Series(series) => {
                knee = series.knee.or(knee);
                runs.extend(series.runs);
            }
        }
    }
    Ok((runs, knee))
}

struct Report {
    plan: Plan,
    measured: Measured,
    demand: Demand,
    knee: Option<Knee>,
    /// In all results, and those of them that are void.
    runs: usize,
    void_runs: usize,
    files: Vec<String>,
}

/// A number and where it comes from.
struct Assumption {
    name: &'static str,
    value: String,
    source: String,
}

fn assumption(name: &'static str, value: String, source: &str) -> Assumption {
    Assumption {
        name,
        value,
        source: source.to_owned(),
    }
}

impl Report {
    fn answers(&self) -> Vec<(&'static str, String, String)> {
        let plan = &self.plan;
        let latency = |point: fn(&model::Load) -> f64| {
            let measured = plan.latency.as_ref().map(point);
            measured.map_or("not measured".to_owned(), time)
        };
        let near =
            "at the planned load of each host, between the runs measured around it".to_owned();
        let next = plan.next_host_months.map_or(
            ("never".to_owned(), "without growth".to_owned()),
            |months| {
                let note = format!("at {} growth a month", percent(self.demand.growth_a_month));
                (format!("in {} months", three_digits(months)), note)
            },
        );
        vec![
            (
                "Hosts",
                grouped_float(plan.hosts),
                format!("of {} cores each", self.demand.cores_a_host),
            ),
            (
                "Cores",
                grouped_float(plan.cores),
                format!(
                    "{} /s a core measured",
                    grouped_float(plan.rate_a_core_per_s)
                ),
            ),
            (
                "Load of a host",
                percent(plan.utilisation),
                "of the most it was measured to answer".to_owned(),
            ),
            ("Next host due", next.0, next.1),
            ("Median latency", latency(|load| load.p50_us), near.clone()),
            ("99 % within", latency(|load| load.p99_us), near.clone()),
            ("99.9 % within", latency(|load| load.p99_9_us), near),
            (
                "Digests stored",
                short(plan.digests),
                format!(
                    "kept for {} days",
                    three_digits(self.demand.cleanup_age_days)
                ),
            ),
            (
                "Memory of a host",
                bytes(plan.memory_bytes),
                "hot set, filter, page cache and the rest".to_owned(),
            ),
            (
                "Disk of a host",
                bytes(plan.disk_bytes),
                "each host holds all digests".to_owned(),
            ),
        ]
    }

    fn assumptions(&self) -> Vec<Assumption> {
        let mut all = self.load_assumptions();
        all.extend(self.store_assumptions());
        all
    }

    fn load_assumptions(&self) -> Vec<Assumption> {
        let (measured, demand) = (&self.measured, &self.demand);
        let cores_source = if measured.has_cores {
            "CPU time of the server in that run, but at least one"
        } else {
            "assumed: the server was not measured (--server-pid), so as if it had one core"
        };
        let digests_source = if demand.digests.is_some() {
            "given"
        } else {
            "as if every report named a new digest; --digests gives a better number"
        };
        vec![
            assumption(
                "rate one server answered",
                format!("{} /s", grouped_float(measured.rate_per_s)),
                &self.rate_source(),
            ),
            assumption(
                "cores it used for that",
                three_digits(measured.cores),
                cores_source,
            ),
            assumption(
                "cores scale",
                "linearly".to_owned(),
                "workers share nothing on a request's way; not measured here",
            ),
            assumption(
                "target rate",
                format!("{} /s", grouped_float(demand.target_rate_per_s)),
                "given",
            ),
            assumption(
                "headroom",
                percent(demand.headroom),
                "kept free on every host: given, or the default",
            ),
            assumption(
                "reports and whitelistings",
                percent(measured.report_share),
                "share of the requests in these results",
            ),
            assumption(
                "runs counted",
                measured.runs.to_string(),
                &format!(
                    "{} of them void for nothing but requests sent late, at a rate that was kept: the server did as well or better",
                    measured.late_runs
                ),
            ),
            assumption("digests stored", short(self.plan.digests), digests_source),
        ]
    }

    /// Why no higher rate is counted on.
    fn rate_source(&self) -> String {
        let Some(knee) = &self.knee else {
            return "the fastest run that says something of the server".to_owned();
        };
        let limit = match knee.limit {
            KneeLimit::Server => "limited by the server, which missed them above",
            KneeLimit::Generator => {
                "limited by the load generator, which fell behind above: the server may do more"
            }
            KneeLimit::Asked => "limited by the search: no higher rate was tried",
        };
        format!("the knee for {}, {limit}", knee.objectives)
    }

    fn store_assumptions(&self) -> Vec<Assumption> {
        let store = &self.demand.store;
        let flag = |name: &str| format!("measured in {STORE_RUN}; --{name} gives another number");
        vec![
            assumption(
                "hot set",
                bytes(store.hot_set_bytes),
                &format!(
                    "at most, or {HOT_SET_BYTES_A_DIGEST} bytes a digest, measured in {STORE_RUN}; HotSetMemory's default, or --hot-set-memory"
                ),
            ),
            assumption(
                "filter",
                format!("{FILTERS_AT_ONCE} × {}", bytes(FILTER_BYTES_A_DIGEST)),
                &format!("a digest, measured in {STORE_RUN}; a second one while it is built anew"),
            ),
            assumption(
                "store cache",
                bytes(store.cache_bytes),
                "StoreCache's default, or --store-cache",
            ),
            assumption(
                "other memory",
                bytes(store.other_bytes),
                &flag("other-memory"),
            ),
            assumption(
                "disk",
                bytes(store.disk_bytes_a_digest),
                &format!("a digest, {}", flag("disk-bytes-a-digest")),
            ),
            assumption(
                "disk kept free",
                format!("{} × that", three_digits(DISK_COPIES)),
                "in all: pages are written anew before the old ones are free; the most there can be, not measured",
            ),
        ]
    }

    fn html(&self) -> String {
        let title = format!(
            "Capacity plan for {} requests a second",
            grouped_float(self.demand.target_rate_per_s)
        );
        let tiles: Vec<Tile> = self
            .answers()
            .into_iter()
            .map(|(name, value, note)| Tile { name, value, note })
            .collect();
        let assumptions = Table {
            heads: vec!["", "number"],
            rows: self
                .assumptions()
                .into_iter()
                .map(|each| {
                    vec![
                        Cell::Named(each.name.to_owned(), each.source),
                        Cell::number(each.value),
                    ]
                })
                .collect(),
            ..Table::default()
        };
        let loads = Table {
            heads: vec!["answers /s", "median", "99 %", "99.9 %"],
            rows: self
                .measured
                .loads
                .iter()
                .map(|load| {
                    let latencies =
                        [load.p50_us, load.p99_us, load.p99_9_us].map(|us| Cell::number(time(us)));
                    std::iter::once(Cell::number(grouped_float(load.rate_per_s)))
                        .chain(latencies)
                        .collect()
                })
                .collect(),
            ..Table::default()
        };
        let body = [
            format!(
                "<h1>{}</h1>\n<p class=\"soft\">from {}</p>\n",
                page::escaped(&title),
                page::escaped(&self.files.join(", "))
            ),
            self.warnings(),
            page::tiles(&tiles),
            page::section("What it rests on", &assumptions.html()),
            page::section(
                "What was measured",
                &loads.folded("Latency by rate, run by run"),
            ),
        ];
        page::page(&title, &body.concat())
    }

    fn void_warning(&self) -> Option<String> {
        let (void, all) = (self.void_runs, self.runs);
        (void > 0).then(|| {
            format!("{void} of the {all} runs are void: the plan may rest on less than the server can do")
        })
    }

    fn warnings(&self) -> String {
        let unknown_latency = self.plan.latency.is_none().then(|| {
            "No run was made at the planned load of a host or above it: its latency is not known. Make one with loadgen ramp.".to_owned()
        });
        let warnings = self.void_warning().into_iter().chain(unknown_latency);
        warnings.map(|text| page::banner("warn", &text)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers().into_iter();
        let rows: Vec<Row> = answers
            .map(|(name, value, note)| Row::new([name.to_owned(), value], format!("   {note}")))
            .collect();
        write!(f, "{}", table(&rows, &[18, 14]))?;
        writeln!(f, "\nassumed")?;
        for each in self.assumptions() {
            writeln!(f, "  {:<27}{}   ({})", each.name, each.value, each.source)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    fn report(target_rate_per_s: f64) -> Report {
        let measured = Measured::of(&[example(1_700.0)], None).unwrap();
        let demand = Demand {
            target_rate_per_s,
            headroom: 0.3,
            growth_a_month: 0.0,
            cores_a_host: 2.0,
            digests: Some(1e6),
            cleanup_age_days: 30.0,
            store: StoreCosts::MEASURED,
        };
        Report {
            plan: Plan::of(&measured, &demand),
            measured,
            demand,
            knee: None,
            runs: 3,
            void_runs: 2,
            files: vec!["<a>.json".to_owned()],
        }
    }

    #[test]
    fn every_assumption_has_a_number_and_a_source() {
        let report = report(40_000.0);
        let text = report.to_string();
        for each in report.assumptions() {
            assert!(!each.value.is_empty() && !each.source.is_empty());
            assert!(text.contains(each.name), "{text}");
        }
        assert!(
            text.contains("Hosts                          3   of 2 cores each"),
            "{text}"
        );
        assert!(
            text.contains("in that run") && text.contains("never"),
            "{text}"
        );
    }

    #[test]
    fn a_knee_says_what_limited_it() {
        let mut report = report(40_000.0);
        let knee = |limit| Knee {
            objectives: "p99<5ms".to_owned(),
            rate_per_s: 10_000.0,
            searches_per_s: vec![10_000.0],
            low_per_s: 10_000.0,
            high_per_s: 10_000.0,
            confidence: 0.0,
            limit,
        };
        for (limit, words) in [
            (
                KneeLimit::Server,
                "the knee for p99<5ms, limited by the server",
            ),
            (KneeLimit::Generator, "limited by the load generator"),
            (KneeLimit::Asked, "limited by the search"),
        ] {
            report.knee = Some(knee(limit));
            assert!(report.to_string().contains(words), "{report}");
            assert!(report.html().contains(&page::escaped(words)));
        }
    }

    #[test]
    fn the_page_holds_the_plan() {
        let html = report(40_000.0).html();
        assert!(html.contains("<dt>Hosts</dt><dd>3<small>"), "{html}");
        assert!(html.contains("&lt;a&gt;.json") && !html.contains("<a>"));
        assert!(html.contains("2 of the 3 runs are void"), "{html}");
    }
}
