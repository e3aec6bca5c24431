//! A trace sent again by the open loop, at its own times or at a rate.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Accounts;
use crate::answers;
use crate::answers::file::Expected;
use crate::answers::numbers::Wanted;
use crate::descriptors;
use crate::environment::Environment;
use crate::error::Error;
use crate::load_flags::{LoadFlags, ReplayFlags};
use crate::open_loop::{self, Plan};
use crate::patience::Patience;
use crate::playlist::Playlist;
use crate::report::progress::Progress;
use crate::report::{Verdict, try_files};
use crate::rewrite::{RewriteCounts, Rewriter};
use crate::schedule::Pace;
use crate::signals::StopSignal;
use crate::stdio::say;
use crate::trace::{self, Skipped, TraceOptions};

/// Replays, prints the result, and writes it.
pub(crate) fn run(flags: &ReplayFlags) -> Result<Verdict, Error> {
    let outputs = flags.outputs.files().into_iter().chain([&flags.answers]);
    try_files(outputs, flags.load.inputs().chain(flags.expect.as_deref()))?;
    let patience = Patience::until(StopSignal::take_over()?);
    let environment = Environment::now();
    let mut playlist = playlist(&flags.load, flags.is_endless, &patience)?;
    let plan = Plan {
        warmup: flags.warmup,
        duration: flags.duration,
        keeps_histograms: flags.outputs.keeps_histograms(),
        answers: wanted(flags)?,
        ..plan(&flags.load, flags.pace())?
    };
    let mut progress = Progress::new(flags.outputs.quiet, flags.duration.unwrap_or_default());
    let measured = open_loop::run(&plan, &mut playlist, &patience, &mut progress);
    progress.finish();
    warn(&mut playlist);
    let mut measured = measured?;
    let failure = measured.take_failure();
    if let Some(path) = &flags.answers {
        answers::file::write(path, measured.latest_answers())?;
    }
    let result = measured.result(&plan, "replay", environment);
    let verdict = flags.outputs.write(&result)?;
    failure.map_or(Ok(verdict), Err)
}

fn wanted(flags: &ReplayFlags) -> Result<Wanted, Error> {
    let expected = flags.expect.as_deref().map(Expected::read).transpose()?;
    Ok(Wanted {
        expected: expected.map(Arc::new),
        is_kept: flags.answers.is_some(),
    })
}

/// The requests to send.
pub(crate) fn playlist(
    load: &LoadFlags,
    is_endless: bool,
    patience: &Arc<Patience>,
) -> Result<Playlist, Error> {
    let accounts = load.accounts.as_deref().map(Accounts::read).transpose()?;
    if is_endless && trace::is_read_once(&load.trace.file) {
        return Err(Error::ReadOnce(trace::name(&load.trace.file)));
    }
    let file = load.trace.file.clone();
    let options = TraceOptions {
        patience: Some(Arc::clone(patience)),
        ..load.trace.options(load.seed)
    };
    let open = move || trace::open(&file, &options);
    let rewriter = Rewriter::new(accounts.unwrap_or_default());
    Playlist::new(Box::new(open), is_endless, rewriter).map_err(|error| {
        if patience.is_over() {
            Error::Stopped
        } else {
            error
        }
    })
}

/// What the commands have in common; without a warm-up and without an end.
pub(crate) fn plan(load: &LoadFlags, pace: Pace) -> Result<Plan, Error> {
    let target = resolve(&load.target)?;
    if let Some(prefix) = load.sources
        && prefix.is_ipv4() != target.is_ipv4()
    {
        return Err(Error::SourceFamily(target));
    }
    Ok(Plan {
        target,
        pace,
        seed: load.seed,
        warmup: Duration::ZERO,
        duration: None,
        timeout: load.timeout,
        interval: load.interval,
        keeps_histograms: false,
        max_sockets: descriptors::sockets(load.sockets)?,
        prefix: load.sources,
        cores: cores(load),
        server_pid: load.server_pid,
        answers: Wanted::default(),
    })
}

fn cores(load: &LoadFlags) -> Vec<Option<usize>> {
    if load.core.is_empty() {
        (0..load.threads).map(|_| None).collect()
    } else {
        load.core.iter().copied().map(Some).collect()
    }
}

/// The first address of a target.
pub(crate) fn resolve(target: &str) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Resolve(target.to_owned(), source);
    let mut addresses = target.to_socket_addrs().map_err(failed)?;
    let none = || failed(io::Error::from(ErrorKind::NotFound));
    addresses.next().ok_or_else(none)
}

/// Says what is not in the trace, and what was not sent as it should have been.
pub(crate) fn warn(playlist: &mut Playlist) {
    let skipped = playlist.skipped();
    if *skipped != Skipped::default() {
        say(format_args!("passed over in the trace: {skipped}"));
    }
    let RewriteCounts { unsigned, unmarked } = playlist.rewriter().counts();
    if unsigned > 0 {
        say(format_args!(
            "{unsigned} requests of named users kept their old signatures: their users are in no --accounts file"
        ));
    }
    if unmarked > 0 {
        say(format_args!(
            "{unmarked} requests have no Thread to rewrite: they were sent as recorded, their replies taken in order"
        ));
    }
}
