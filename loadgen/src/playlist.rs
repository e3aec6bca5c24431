//! The requests of a run one after the other: a trace, once or again and again.

use crate::error::Error;
use crate::rewrite::Rewriter;
use crate::trace::{Event, Skipped, Trace};

/// Opens the trace from its beginning.
type Open = Box<dyn Fn() -> Result<Trace, Error> + Send>;

/// A trace that can start again.
pub(crate) struct Playlist {
    open: Open,
    trace: Trace,
    is_endless: bool,
    rewriter: Rewriter,
}

/// A request, and whether it is the first one of another round through the trace.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) begins_round: bool,
}

impl Playlist {
    /// Opens the trace, which must hold a request. An endless one starts again whenever it ends.
    pub(crate) fn new(open: Open, is_endless: bool, rewriter: Rewriter) -> Result<Self, Error> {
        Ok(Self {
            trace: open()?,
            open,
            is_endless,
            rewriter,
        })
    }

    /// The next request; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(event) = self.trace.next() {
            let begins_round = false;
            return event.map(|event| {
                Some(Entry {
                    event,
                    begins_round,
                })
            });
        }
        if !self.is_endless {
            return Ok(None);
        }
        self.trace = (self.open)()?;
        let begins_round = true;
        let event = self.trace.next().transpose()?;
        Ok(event.map(|event| Entry {
            event,
            begins_round,
        }))
    }

    /// What makes its requests acceptable.
    pub(crate) fn rewriter(&mut self) -> &mut Rewriter {
        &mut self.rewriter
    }

    /// What was passed over in this round.
    pub(crate) fn skipped(&self) -> &Skipped {
        self.trace.skipped()
    }
}
