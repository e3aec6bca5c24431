//! The order of starting and stopping.
//!
//! Starting: permissions of new files, the way into the background, the configuration, the nice level, signals, the
//! log, the access files, the way to the kernel, the store (its lock keeps a second server out), the sockets, the pid
//! file, the workers. The server has started when every worker receives. Stopping is the reverse. Nothing slow comes
//! before the sockets but opening the store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::stat::{Mode, umask};
use pyzor_storage::Engine;
use pyzor_storage::redb_engine::{RedbEngine, RedbOptions, SystemClock};

use crate::access_files::AccessFiles;
use crate::check_config;
use crate::config::{self, Config, IoChoice};
use crate::cpus;
use crate::datapath::{self, Io};
use crate::detach::{self, Parent, PidFile};
use crate::error::Error;
use crate::flags::Flags;
use crate::log::{Log, LogTarget};
use crate::metrics::Metrics;
use crate::open_files;
use crate::panic_log;
use crate::recording::{RecordTap, Recorder};
use crate::signals::{self, SignalRequest};
use crate::socket::{self, Listening};
use crate::usage_log::{UsageLog, UsageLogWriter};
use crate::worker::{self, Started, WorkerHandle, WorkerSetup};

/// What we create is for our user alone.
const UMASK: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// How often the main thread looks whether a worker has ended unasked.
const CHECK_WORKERS: Duration = Duration::from_millis(500);

/// Does what the command line asks for; returns when the server has stopped, or serves in the background.
///
/// # Errors
/// What kept the server from starting, or made it end unasked.
pub fn run(flags: &Flags) -> Result<(), Error> {
    umask(UMASK);
    signals::make_size_limits_errors()?;
    if flags.check_config {
        return check_config::run(flags);
    }
    match config::detach_file(flags)? {
        None => {
            let config = Config::load(flags)?;
            let server = Server::start(&config, None)?;
            server.greet(&config);
            server.run()
        }
        Some(_) if flags.report_on_stdin => run_in_background(flags),
        Some(output) => {
            // Mistakes show before there is a child, and the home directory is made, where the output may go.
            Config::load(flags)?;
            detach::start_child(&output)
        }
    }
}

fn run_in_background(flags: &Flags) -> Result<(), Error> {
    let parent = Parent::take_from_stdin()?;
    let started = start_in_background(flags);
    parent.report(&started.as_ref().map(|_| ()));
    started?.run()
}

fn start_in_background(flags: &Flags) -> Result<Server, Error> {
    let config = Config::load(flags)?;
    detach::leave_directory()?;
    Server::start(&config, config.pid_file.as_deref())
}

/// A server that runs, and its log.
struct Server {
    log: Log,
    signals: Receiver<SignalRequest>,
    parts: Parts,
}

/// What runs, in the order in which it stops.
struct Parts {
    /// In words: where, and how.
    served: String,
    pid_file: Option<PidFile>,
    workers: Vec<WorkerHandle>,
    usage_log: Option<UsageLogWriter>,
    recorder: Option<Recorder>,
    engine: Arc<RedbEngine>,
    access: Arc<AccessFiles>,
    metrics: Metrics,
}

impl Server {
    /// What fails once there is a log is in the log, too; on standard error it is said by who started us.
    fn start(config: &Config, pid_file: Option<&Path>) -> Result<Self, Error> {
        set_nice(config.nice)?;
        let signals = signals::listen()?;
        let log = Log::start(config.log_file.as_ref(), config.debug)?;
        panic_log::install(matches!(config.log_file, Some(LogTarget::File(_))));
        match Parts::start(config, pid_file) {
            Ok(parts) => Ok(Self {
                log,
                signals,
                parts,
            }),
            Err(error) => {
                if matches!(config.log_file, Some(LogTarget::File(_))) {
                    tracing::error!("{error}");
                }
                log.finish();
                Err(error)
            }
        }
    }

    /// Tells who started us in the foreground what was started, unless the log is there, too, which says more.
    fn greet(&self, config: &Config) {
        if !config.debug && config.log_file != Some(LogTarget::Stderr) {
            self.log.print(format!(
                "pyzord {} serves {} on {}\n",
                env!("CARGO_PKG_VERSION"),
                config.home.display(),
                self.parts.served
            ));
        }
    }

    /// Serves until asked to stop, or until a worker ends unasked.
    fn run(self) -> Result<(), Error> {
        while self.parts.all_work() {
            match self.signals.recv_timeout(CHECK_WORKERS) {
                Ok(SignalRequest::Reload) => self.reload(),
                Ok(SignalRequest::ToggleRecording) => self.parts.toggle_recording(),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(SignalRequest::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        tracing::info!("stopping");
        let ended = self.parts.stop();
        match &ended {
            Ok(()) => tracing::info!("stopped"),
            Err(error) => tracing::error!("stopped: {error}"),
        }
        self.log.finish();
        ended
    }

    /// Opens the logs first, so that what happens next is written where the operator will look.
    fn reload(&self) {
        self.log.reopen();
        if let Some(usage_log) = &self.parts.usage_log {
            usage_log.reopen();
        }
        if let Some(recorder) = &self.parts.recorder {
            recorder.reopen();
        }
        match self.parts.access.reload() {
            Ok(()) => tracing::info!("read the passwd and access files again"),
            Err(error) => tracing::error!("accounts and permissions stay as they were: {error}"),
        }
        self.parts.log_numbers();
    }
}

impl Parts {
    fn start(config: &Config, pid_file: Option<&Path>) -> Result<Self, Error> {
        tracing::info!(
            "pyzord {} starts in {}",
            env!("CARGO_PKG_VERSION"),
            config.home.display()
        );
        for warning in config.mistakes.iter().chain(&config.warnings) {
            tracing::warn!("{warning}");
        }
        let access = AccessFiles::load(config.passwd_file.clone(), config.access_file.clone())?;
        let access = Arc::new(access);
        let io = choose_io(config)?;
        let engine = Arc::new(open_store(config)?);
        let mut listening = socket::bind(&config.listen, config.workers)?;
        let addresses = listening.addresses.clone();
        let pid_file = pid_file.map(PidFile::write).transpose()?;
        let metrics = Metrics::new(config.workers.get());
        let (usage_log, worker_logs) = open_usage_log(config, &metrics)?;
        let (recorder, record_taps) = start_recorder(config, &mut listening, &metrics)?;
        let outputs = WorkerOutputs {
            logs: worker_logs,
            record_taps,
        };
        let store: Arc<dyn Engine> = Arc::clone(&engine) as _;
        let (workers, datapath) =
            start_workers(config, io, listening, outputs, &metrics, &access, &store)?;
        Ok(Self {
            served: served(config, &datapath, &addresses),
            pid_file,
            workers,
            usage_log,
            recorder,
            engine,
            access,
            metrics,
        })
    }

    fn all_work(&self) -> bool {
        self.engine.is_running() && !self.workers.iter().any(WorkerHandle::has_ended)
    }

    fn toggle_recording(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.toggle();
        } else {
            tracing::info!(
                "there is nothing to record to: write \"RecordFile = FILE\" into section [server] of config in the home \
                 directory, or start with --record FILE"
            );
        }
    }

    fn log_numbers(&self) {
        tracing::info!("so far: {}", self.metrics.snapshot());
        tracing::info!("store: {}", self.engine.stats());
    }

    /// Lets every worker finish, then writes what they left behind; the first failure of a worker.
    fn stop(self) -> Result<(), Error> {
        let ended = end(self.workers);
        if let Some(usage_log) = self.usage_log {
            usage_log.finish();
        }
        if let Some(recorder) = self.recorder {
            recorder.finish();
        }
        tracing::info!("in all: {}", self.metrics.snapshot());
        let store_ran = self.engine.is_running();
        // The workers' shares are gone, so this closes the store.
        drop(self.engine);
        drop(self.pid_file);
        ended.and(store_ran.then_some(()).ok_or(Error::StorePanicked))
    }
}

/// Where and how requests are answered, in words.
fn served(config: &Config, datapath: &str, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let (addresses, workers) = (addresses.join(", "), config.workers);
    let s = if workers.get() == 1 { "" } else { "s" };
    format!("{addresses} with {workers} worker{s} and {datapath}")
}

pub(crate) fn set_nice(level: i32) -> Result<(), Error> {
    if level != 0 {
        rustix::process::nice(level).map_err(Error::system("set the nice level"))?;
    }
    Ok(())
}

fn open_store(config: &Config) -> Result<RedbEngine, Error> {
    let options = RedbOptions {
        cleanup_age: config.cleanup_age,
        durability: config.durability,
        hot_set_bytes: config.hot_set_bytes,
        cache_bytes: config.store_cache_bytes,
        ..RedbOptions::default()
    };
    let directory = &config.digest_db;
    RedbEngine::open(directory, options, Arc::new(SystemClock)).map_err(|source| Error::Store {
        directory: directory.clone(),
        source,
    })
}

/// The usage log and each worker's end of it; nothing and no ends if there is to be none.
fn open_usage_log(
    config: &Config,
    metrics: &Metrics,
) -> Result<(Option<UsageLogWriter>, Vec<UsageLog>), Error> {
    let Some(target) = &config.usage_log_file else {
        return Ok((None, Vec::new()));
    };
    let (writer, worker_logs) = UsageLogWriter::open(target, metrics)?;
    Ok((Some(writer), worker_logs))
}

/// The recorder and each worker's end of it; nothing and no ends if no file is named.
fn start_recorder(
    config: &Config,
    listening: &mut Listening,
    metrics: &Metrics,
) -> Result<(Option<Recorder>, Vec<RecordTap>), Error> {
    let Some(record) = &config.record else {
        return Ok((None, Vec::new()));
    };
    listening.note_arrivals()?;
    let (recorder, record_taps) = Recorder::start(record, &listening.addresses, metrics)?;
    Ok((Some(recorder), record_taps))
}

/// Where workers write down what they do: one for each of them, or none.
struct WorkerOutputs {
    logs: Vec<UsageLog>,
    record_taps: Vec<RecordTap>,
}

/// How workers talk to the kernel, and room for the files that takes.
pub(crate) fn choose_io(config: &Config) -> Result<Io, Error> {
    let io = datapath::choose(config.io)?;
    match (open_files::allow(config, io), fallback(config, io)) {
        (Err(refusal), Some(other)) => {
            tracing::warn!("using recvmmsg and sendmmsg: {refusal}");
            open_files::allow(config, other).map(|()| other)
        }
        (allowed, _) => allowed.map(|()| io),
    }
}

/// What may take the place of `io`.
fn fallback(config: &Config, io: Io) -> Option<Io> {
    (config.io == IoChoice::Auto && io == Io::Uring).then_some(Io::Mmsg)
}

/// Starts every worker, and waits until all of them receive. Returns them, and how they do, in words.
fn start_workers(
    config: &Config,
    io: Io,
    listening: Listening,
    outputs: WorkerOutputs,
    metrics: &Metrics,
    access: &Arc<AccessFiles>,
    engine: &Arc<dyn Engine>,
) -> Result<(Vec<WorkerHandle>, String), Error> {
    let cores = cpus::allowed_cores();
    let mut logs = outputs.logs.into_iter();
    let mut record_taps = outputs.record_taps.into_iter();
    let mut workers = Vec::with_capacity(config.workers.get());
    for (index, sockets) in listening.workers.into_iter().enumerate() {
        let spawned = worker::spawn(WorkerSetup {
            index,
            core: cores[index % cores.len()],
            io,
            fallback: fallback(config, io),
            sockets,
            access: Arc::clone(access),
            engine: Arc::clone(engine),
            metrics: metrics.worker(index),
            usage_log: logs.next(),
            record_tap: record_taps.next(),
        });
        match spawned {
            Ok(worker) => workers.push(worker),
            Err(error) => return end(workers).and(Err(error)),
        }
    }
    let started: Option<Vec<_>> = workers
        .iter()
        .map(WorkerHandle::wait_until_it_receives)
        .collect();
    let Some(started) = started else {
        return end(workers).and(Err(Error::WorkerPanicked));
    };
    let datapath = format!("{}{}", io.name(), warn_of_fallbacks(&started));
    for address in &listening.addresses {
        tracing::info!(
            "listening on {address} with {} workers, {datapath} and receive buffers of {} bytes",
            config.workers,
            listening.receive_buffer_bytes
        );
    }
    Ok((workers, datapath))
}

/// Says once why some workers had to fall back; how many did, for the line that says how many there are.
fn warn_of_fallbacks(started: &[Started]) -> String {
    let refusals: Vec<_> = started.iter().flat_map(|s| &s.fell_back).collect();
    let Some(first) = refusals.first() else {
        return String::new();
    };
    let number = refusals.len();
    tracing::warn!(
        "{number} of {} workers use recvmmsg and sendmmsg: {first}",
        started.len()
    );
    format!(" ({number} of them mmsg)")
}

/// Ends every worker; the first failure.
fn end(workers: Vec<WorkerHandle>) -> Result<(), Error> {
    workers.iter().for_each(WorkerHandle::stop);
    // All are waited for, whatever the first one says.
    let ends: Vec<_> = workers.into_iter().map(WorkerHandle::join).collect();
    ends.into_iter().collect()
}
