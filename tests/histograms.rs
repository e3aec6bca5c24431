//! Histograms that the load generator writes, read by `HdrHistogram`'s own tools: its Python library.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::reference;
use crate::loadgen::Echo;
use crate::replay::is_fine;

/// Reads a log of intervals, adds them up by tag, and holds a table of percentiles against the sum of its intended times.
const READER: &str = r#"
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

def empty():
    return HdrHistogram(1, 60_000_000_000, 3)

log, table = sys.argv[1:]
reader = HistogramLogReader(log, empty())
sums, intervals = {}, {}
while (interval := reader.get_next_interval_histogram()) is not None:
    tag = interval.get_tag()
    sums.setdefault(tag, empty()).add(interval)
    intervals[tag] = intervals.get(tag, 0) + 1
total, below = 0, {}
for value in sums["intended"].get_recorded_iterator():
    total += value.count_added_in_this_iter_step
    below[f"{value.value_iterated_to / 1000:.3f}"] = total
lines = wrong = 0
for line in open(table):
    cells = line.split()
    if cells and cells[0][0].isdigit():
        lines += 1
        wrong += below.get(cells[0]) != int(cells[2])
facts = {
    tag: {
        "intervals": intervals[tag],
        "count": total.get_total_count(),
        "p50": total.get_value_at_percentile(50),
        "p99": total.get_value_at_percentile(99),
        "max": total.get_max_value(),
    }
    for tag, total in sums.items()
}
print(json.dumps({"tags": facts, "lines": lines, "wrong": wrong}))
"#;

fn read_by_python(log: &Path, table: &Path) -> Value {
    let output = Command::new(reference::hdr_python())
        .args(["-c", READER])
        .args([log, table])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn logs_and_tables_say_to_others_what_the_result_says() {
    needs!(HdrHistogram);
    let echo = Echo::start();
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut loadgen = Command::new(program("loadgen"));
    loadgen.args(["replay", "synthetic:check=1", "--quiet", "--target"]);
    loadgen.arg(echo.address.to_string());
    loadgen.args(["--rate", "500", "--duration", "2", "--timeout", "5"]);
    for form in ["json", "hlog", "hgrm"] {
        loadgen.arg(format!("--{form}")).arg(file(form));
    }
    assert!(is_fine(&loadgen.output().unwrap()));
    let result: Value = serde_json::from_slice(&std::fs::read(file("json")).unwrap()).unwrap();
    let read = read_by_python(&file("hlog"), &file("hgrm"));

    let parts = result["timeline"].as_array().unwrap().len();
    for clock in ["service", "intended"] {
        let (ours, theirs) = (&result["operations"][0][clock], &read["tags"][clock]);
        assert_eq!(theirs["intervals"], parts, "{read}");
        assert_eq!(
            (&theirs["count"], &ours["count"]),
            (&1000.into(), &1000.into())
        );
        for point in ["p50", "p99", "max"] {
            let ours_us = ours[format!("{point}_us")].as_f64().unwrap();
            let theirs_us = theirs[point].as_f64().unwrap() / 1e3;
            // Of a thousand answers each of these is a single one.
            let is_same = (theirs_us / ours_us - 1.0).abs() < 1e-6;
            assert!(is_same, "{clock} {point}: {ours_us} {theirs_us}");
        }
    }
    // Every line of the table gives a value that was recorded, and how many were not above it.
    assert!(read["lines"].as_u64().unwrap() > 20, "{read}");
    assert_eq!(read["wrong"], 0, "{read}");
}
