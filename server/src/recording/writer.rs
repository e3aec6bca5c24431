//! The thread that writes: switches the recording on and off, and survives what the disk does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use pyzor_protocol::MAX_DATAGRAM_BYTES;

use super::Orders;
use super::order::{Horizon, Queues};
use super::pseudonyms::{Hiding, Pseudonyms};
use super::session::Session;
use crate::config::RecordConfig;
use crate::error::Error;
use crate::log::yield_to_workers;
use crate::metrics::{Counter, Metrics};

/// How often the thread looks into the queues while recording is on.
const POLL: Duration = Duration::from_millis(10);

pub(super) struct Writer {
    config: RecordConfig,
    metrics: Metrics,
    orders: Arc<Orders>,
    /// Whether the workers queue anything.
    is_on: Arc<AtomicBool>,
    queues: Queues,
    /// `None` leaves sources and users as they are.
    pseudonyms: Option<Pseudonyms>,
    session: Option<Session>,
    /// Whether a failure ended the last session.
    is_paused: bool,
    /// Room for a datagram as it came, and without its user.
    datagram: Box<[u8; MAX_DATAGRAM_BYTES]>,
    hidden: Vec<u8>,
}

impl Writer {
    /// A writer that is off.
    ///
    /// # Errors
    /// When the system has no randomness for pseudonyms.
    pub(super) fn new(
        config: &RecordConfig,
        metrics: &Metrics,
        orders: Arc<Orders>,
        is_on: Arc<AtomicBool>,
        queues: Queues,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: config.clone(),
            metrics: metrics.clone(),
            orders,
            is_on,
            queues,
            pseudonyms: config.anonymize.then(Pseudonyms::draw).transpose()?,
            session: None,
            is_paused: false,
            datagram: Box::new([0; MAX_DATAGRAM_BYTES]),
            hidden: Vec::with_capacity(2 * MAX_DATAGRAM_BYTES),
        })
    }

    pub(super) fn run(mut self) {
        yield_to_workers();
        loop {
            // Read before the queues, so that what was queued before the order is written.
            let finish = self.orders.finish.load(Ordering::Acquire);
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.switch();
            self.write_settled();
            if finish {
                return self.switch_off();
            }
            if self.session.is_some() {
                std::thread::park_timeout(POLL);
            } else {
                // Every order wakes it up.
                std::thread::park();
            }
        }
    }

    /// Begins to record what the workers receive from now on.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn switch_on(&mut self) -> Result<(), Error> {
        // Left over from a worker that did not yet know that the last session had ended.
        self.queues.clear(&mut self.datagram);
        self.session = Some(Session::begin(&self.config, &self.metrics)?);
        self.is_paused = false;
        self.is_on.store(true, Ordering::Release);
        let whom = match self.pseudonyms {
            Some(_) => "pseudonyms for sources and users",
            None => "sources and users as they are",
        };
        let (file, share) = (self.config.file.display(), self.config.share);
        tracing::info!("recording to {file}: {whom}, share of sources {share}");
        Ok(())
    }

    fn switch(&mut self) {
        let is_wanted = self.orders.is_wanted.load(Ordering::Acquire);
        if is_wanted && self.session.is_none() {
            if let Err(error) = self.switch_on() {
                self.pause(&error);
            }
        } else if !is_wanted && self.session.is_some() {
            self.switch_off();
        }
    }

    fn switch_off(&mut self) {
        self.is_on.store(false, Ordering::Release);
        let written = self.write_queued(Horizon::ALL);
        let written = written.and_then(|()| self.session.as_mut().map_or(Ok(()), Session::write));
        let numbers = match &written {
            Ok(()) => self.session.take().map(|session| format!(": {session}")),
            Err(_) => self.lose_session(),
        };
        let (file, numbers) = (self.config.file.display(), numbers.unwrap_or_default());
        match written {
            Ok(()) => tracing::info!("recording to {file} stopped{numbers}"),
            Err(error) => {
                tracing::error!("recording to {file} stopped without its end{numbers}: {error}");
            }
        }
    }

    fn reopen(&mut self) {
        if self.is_paused {
            self.orders.is_wanted.store(true, Ordering::Release);
        }
        if !self.session.as_ref().is_some_and(Session::was_moved) {
            return;
        }
        // What came before the order belongs to the old file.
        let written = self.write_queued(Horizon::received_by(SystemTime::now()));
        let reopened =
            written.and_then(|()| self.session.as_mut().map_or(Ok(()), Session::next_file));
        if let Err(error) = reopened {
            self.pause(&error);
        }
    }

    /// Ends the session after a failure, until somebody has done something about it.
    fn pause(&mut self, error: &Error) {
        self.orders.is_wanted.store(false, Ordering::Release);
        self.is_paused = true;
        let numbers = self.lose_session().unwrap_or_default();
        tracing::error!(
            "recording is paused{numbers}: {error}; put that right and send USR2 or HUP to go on"
        );
    }

    /// Ends the session without what is queued; its numbers, with a colon before.
    fn lose_session(&mut self) -> Option<String> {
        self.is_on.store(false, Ordering::Release);
        let missed = self.queues.clear(&mut self.datagram);
        let counters = self.metrics.recorder();
        counters.add(Counter::RecordMissed, missed);
        counters.add(Counter::RecordErrors, 1);
        self.session.take().map(|session| format!(": {session}"))
    }

    fn write_settled(&mut self) {
        let written = self.write_queued(Horizon::settled(SystemTime::now()));
        let written =
            written.and_then(|()| self.session.as_mut().map_or(Ok(()), Session::write_if_due));
        if let Err(error) = written {
            self.pause(&error);
        }
    }

    fn write_queued(&mut self, horizon: Horizon) -> Result<(), Error> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        while let Some((mut arrival, length)) = self.queues.take(horizon, &mut self.datagram) {
            let mut datagram = &self.datagram[..length];
            if let Some(pseudonyms) = &mut self.pseudonyms {
                let source = pseudonyms.of_source(arrival.sender.ip());
                arrival.sender.set_ip(source);
                match pseudonyms.hide_user(datagram, &mut self.hidden) {
                    Hiding::Needless => {}
                    Hiding::Done => datagram = &self.hidden,
                    Hiding::Impossible => {
                        self.metrics.recorder().add(Counter::RecordMissed, 1);
                        continue;
                    }
                }
            }
            session.record(&arrival, datagram)?;
        }
        Ok(())
    }
}
