//! Results in files, which others may have made: whatever is in one, it takes no more memory than the file has bytes, and what
//! is read can be reckoned with.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{FORMAT, RunResult, Series};
use crate::error::Error;
use crate::flags::plain;

/// A series of a thousand runs has less.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Runs are shorter, in seconds: a year.
const MAX_LENGTH_S: f64 = 3.2e7;
/// No machine answers so many requests a second, and no request takes so many nanoseconds of CPU time.
const MOST: f64 = 1e12;

/// What a file of results may hold.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, and none is copied"
)]
pub(crate) enum Saved {
    Run(RunResult),
    Series(Series),
}

/// What says which of the two it is.
#[derive(Deserialize)]
struct Header {
    format: u32,
    runs: Option<IgnoredAny>,
}

impl RunResult {
    /// The result in a file, which must hold a single one.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        match Saved::read(path)? {
            Saved::Run(run) => Ok(run),
            Saved::Series(series) => Err(Error::WrongResult(
                path.to_owned(),
                format!("holds a series ({}); expected a single run", series.kind),
            )),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        write_json(self, path)
    }
}

impl Series {
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        write_json(self, path)
    }
}

impl Saved {
    /// Whatever a file holds.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let json = contents(path)?;
        let wrong = |source| Error::Result(path.to_owned(), source);
        let header: Header = serde_json::from_slice(&json).map_err(wrong)?;
        if header.format != FORMAT {
            return Err(Error::WrongResult(
                path.to_owned(),
                format!(
                    "has format {}; this program reads {FORMAT}: use the version that wrote it",
                    header.format
                ),
            ));
        }
        let saved = if header.runs.is_some() {
            Self::Series(serde_json::from_slice(&json).map_err(wrong)?)
        } else {
            Self::Run(serde_json::from_slice(&json).map_err(wrong)?)
        };
        match saved.impossible() {
            Some(problem) => Err(Error::WrongResult(path.to_owned(), problem)),
            None => Ok(saved),
        }
    }

    /// What cannot have been measured, if anything.
    fn impossible(&self) -> Option<String> {
        match self {
            Self::Run(run) => impossible(run),
            Self::Series(series) => series.runs.iter().find_map(impossible),
        }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let mut json = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut json))
        .map_err(|source| Error::Read(path.to_owned(), source))?;
    if json.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("is longer than any result: {} MiB", MAX_FILE_BYTES >> 20);
        return Err(Error::WrongResult(path.to_owned(), problem));
    }
    Ok(json)
}

fn impossible(run: &RunResult) -> Option<String> {
    let schedule = run.schedule.as_ref();
    let server = run.server.as_ref();
    let numbers = [
        ("window_s", Some(run.window_s), MAX_LENGTH_S),
        ("warmup_s", Some(run.warmup_s), MAX_LENGTH_S),
        ("rate_per_s", Some(run.rate_per_s), MOST),
        ("generator_idle_share", Some(run.generator_idle_share), 1.0),
        (
            "intended_rate_per_s",
            schedule.map(|each| each.intended_rate_per_s),
            MOST,
        ),
        ("cores", server.map(|each| each.cores), MOST),
        (
            "cpu_ns_per_request",
            server.map(|each| each.cpu_ns_per_request),
            MOST,
        ),
    ];
    let lengths = run
        .timeline
        .iter()
        .map(|part| ("length_s", Some(part.length_s), MAX_LENGTH_S));
    numbers
        .into_iter()
        .chain(lengths)
        .find_map(|(name, number, most)| {
            let number = number.filter(|number| !(0.0..=most).contains(number))?;
            Some(format!(
                "has {name}: {number}; expected a number from 0 to {}",
                plain(most)
            ))
        })
}

pub(crate) fn write_json(value: &impl Serialize, path: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    json.push(b'\n');
    fs::write(path, json).map_err(|source| Error::Write(path.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::example;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        let run = example(1.5);
        run.write(&path).unwrap();
        let read = RunResult::read(&path).unwrap();
        assert_eq!(read.service().percentiles(), run.service().percentiles());
        assert_eq!(read.timeline.len(), run.timeline.len());
        assert_eq!(read.timeline[1].operations, run.timeline[1].operations);

        let series = Series {
            format: FORMAT,
            kind: "ramp".to_owned(),
            runs: vec![run],
            knee: None,
        };
        series.write(&path).unwrap();
        assert!(matches!(Saved::read(&path), Ok(Saved::Series(_))));
        assert!(matches!(
            RunResult::read(&path),
            Err(Error::WrongResult(..))
        ));
    }

    #[test]
    fn foreign_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        assert!(matches!(RunResult::read(&path), Err(Error::Read(..))));
        for foreign in ["", "text", "{}", "{\"format\": 2}"] {
            fs::write(&path, foreign).unwrap();
            assert!(matches!(RunResult::read(&path), Err(Error::Result(..))));
        }
        fs::write(&path, "{\"format\": 1}").unwrap();
        let error = RunResult::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("has format 1; this program reads 2"),
            "{error}"
        );
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = RunResult::read(Path::new("/dev/zero")).unwrap_err();
        assert!(
            error.to_string().contains("longer than any result"),
            "{error}"
        );
    }

    /// Every place of a value that is neither a list nor an object.
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    leaves(item, &format!("{path}/{index}"), found);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    leaves(field, &format!("{path}/{name}"), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    fn hostile() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            Just(json!(-1)),
            Just(json!(0)),
            Just(json!(u64::MAX)),
            Just(json!(f64::MAX)),
            Just(json!(-f64::MIN_POSITIVE)),
            Just(json!("<b>\u{0}")),
            Just(json!([])),
            Just(json!({})),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_result_of_others_makes_a_command_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), hostile()), 1..4),
            is_series: bool,
        ) {
            let mut run = serde_json::to_value(example(1_700.0)).unwrap();
            let mut places = Vec::new();
            leaves(&run, "", &mut places);
            for (place, value) in changes {
                let place: &String = place.get(&places);
                *run.pointer_mut(place).unwrap() = value;
            }
            if is_series {
                run = json!({"format": FORMAT, "kind": "knee", "runs": [run, example(1_700.0)], "knee": null});
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("result.json");
            fs::write(&path, run.to_string()).unwrap();
            let file = path.as_os_str();
            crate::run(["loadgen".as_ref(), "compare".as_ref(), file, file].map(OsStr::to_owned).into_iter());
            let plan = ["loadgen".as_ref(), "plan".as_ref(), file, "--target-rate".as_ref(), "1e5".as_ref(), "--html".as_ref(), folder.path().join("html").as_os_str()].map(OsStr::to_owned);
            crate::run(plan.into_iter());
        }
    }
}
