//! What is in a trace: `loadgen inspect`.
//!
//! Memory is bounded, however long the trace: see the limits of each part.
//!
//! | file | job |
//! | --- | --- |
//! | `survey` | goes through the requests and counts |
//! | `frequencies` | how often each of many keys occurs |
//! | `rate` | requests over time |
//! | `duplicates` | requests that were sent again |
//! | `zipf_fit` | how skewed frequencies are |
//! | `summary` | what is made of the counts, for JSON |
//! | `text` | the same for the terminal |

mod duplicates;
mod frequencies;
mod rate;
mod summary;
mod survey;
mod text;
mod zipf_fit;

use crate::error::Error;
use crate::flags::InspectFlags;
use crate::report::try_files;
use crate::result::write_json;
use crate::stdio::print;
use crate::trace;
use survey::Survey;

/// Reads the whole trace, prints what is in it, and writes it; of one that is cut or damaged, what comes before that.
pub(crate) fn run(flags: &InspectFlags) -> Result<(), Error> {
    let file = &flags.trace.file;
    try_files([&flags.json], [file.as_path()])?;
    let mut trace = trace::open(file, &flags.trace.options(flags.seed))?;
    if trace.is_endless() {
        return Err(Error::Endless(file.clone()));
    }
    let mut survey = Survey::new(trace.format());
    let mut failure = None;
    for event in &mut trace {
        match event {
            Ok(event) => survey.count(&event),
            // It is the last.
            Err(error) => failure = Some(error),
        }
    }
    let summary = survey.summary(file, trace.skipped(), failure.as_ref());
    print(&summary)?;
    if let Some(path) = &flags.json {
        write_json(&summary, path)?;
    }
    failure.map_or(Ok(()), Err)
}
