//! How long requests are waited for that do not come from a pipe: until somebody wants no more of them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::signals::{StopSignal, wait_readable};

/// How often it is looked whether anybody still wants what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends with TERM or INT, or when what is read has nobody to send it any more.
pub(crate) struct Patience {
    stop: StopSignal,
    is_over: AtomicBool,
}

impl Patience {
    /// Until `stop` comes.
    pub(crate) fn until(stop: StopSignal) -> Arc<Self> {
        Arc::new(Self {
            stop,
            is_over: AtomicBool::new(false),
        })
    }

    /// The signal that ends it.
    pub(crate) fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// Another run begins, or one ends.
    pub(crate) fn set_over(&self, is_over: bool) {
        self.is_over.store(is_over, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        // A signal that cannot be looked for has not come.
        self.is_over.load(Ordering::Relaxed) || self.stop.has_come().unwrap_or_default()
    }
}

/// A file, or a pipe that may keep its reader waiting.
pub(crate) struct PatientFile {
    file: File,
    waits: bool,
    /// Without one, for ever.
    patience: Option<Arc<Patience>>,
}

impl PatientFile {
    /// A named pipe is opened at once, whether or not there is somebody to write.
    pub(crate) fn open(path: &Path, patience: Option<Arc<Patience>>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Self::new(file, patience)
    }

    pub(crate) fn standard_input(patience: Option<Arc<Patience>>) -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Self::new(File::from(input), patience)
    }

    fn new(file: File, patience: Option<Arc<Patience>>) -> io::Result<Self> {
        let waits = !file.metadata()?.is_file();
        Ok(Self {
            file,
            waits,
            patience,
        })
    }

    fn wait(&self) -> io::Result<()> {
        while self.waits && !wait_readable([self.file.as_fd()].into_iter(), LOOK_EVERY)? {
            let is_over = |patience: &Arc<Patience>| patience.is_over();
            if self.patience.as_ref().is_some_and(is_over) {
                return Err(io::Error::other("nobody wants to know any more"));
            }
        }
        Ok(())
    }
}

impl Read for PatientFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(buffer) {
                // Another reader was faster.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}
