//! What a run says of itself, in every form that is asked for.
//!
//! - `progress`: while it runs;
//! - `terminal`: the summary at its end.

pub(crate) mod progress;
pub(crate) mod terminal;

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::result::RunResult;
use terminal::Summary;

/// Where results go; the same for every command that makes some.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Outputs {
    /// Also write the result here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print neither progress nor a summary
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Outputs {
    /// Gives out what is asked for of a run that is over.
    pub(crate) fn write(&self, run: &RunResult) -> Result<(), Error> {
        if !self.quiet {
            print!("{}", Summary(run));
        }
        if let Some(path) = &self.json {
            run.write(path)?;
        }
        Ok(())
    }
}
