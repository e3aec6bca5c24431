//! A machine whose clock is set, under a running server and while it is down: no report is lost, no count starts again,
//! `info` shows the clock's times, and the log says once what the clock did. The rules are tested in `expiry`; this is the
//! server's own clock, by Debian's `faketime`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::message::epoch_seconds;
use crate::harness::programs::faketime;
use crate::harness::{Io, Request, Server, Setup, eventually, random_digest};

both_io!(a_clock_that_is_set_loses_nothing);

const YEAR: u64 = 365 * 24 * 3600;
/// How far from the real time a clock may be that was moved: faketime knows years of other lengths.
const SLACK: u64 = 3 * 24 * 3600;
const NOTICE_LIMIT: Duration = Duration::from_secs(20);

struct Machine {
    server: Server,
    clock: PathBuf,
}

impl Machine {
    fn start(io: Io) -> Self {
        let setup = Setup::new(io);
        let clock = setup.home().join("clock");
        fs::write(&clock, "+0\n").unwrap();
        let server = setup
            .environment("LD_PRELOAD", faketime().unwrap())
            .environment("FAKETIME_TIMESTAMP_FILE", &clock)
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start();
        Self { server, clock }
    }

    /// Puts the clock so far from the right time, and waits until the server has noticed.
    fn set_clock(&self, offset: &str) {
        let said = self.warnings();
        fs::write(&self.clock, format!("{offset}\n")).unwrap();
        assert!(eventually(NOTICE_LIMIT, || self.warnings() > said));
    }

    /// Starts the server again with the clock put so far from the right time.
    fn restart(&mut self, offset: &str) {
        assert!(self.server.stop().success());
        fs::write(&self.clock, format!("{offset}\n")).unwrap();
        self.server.restart();
    }

    fn warnings(&self) -> usize {
        let log = self.server.log();
        let about_the_clock = |line: &&str| line.contains("WARNING") && line.contains("clock");
        log.lines().filter(about_the_clock).count()
    }

    fn report(&self, digest: &str) {
        let reply = self
            .server
            .client()
            .ask(&Request::new("report").digest(digest));
        assert_eq!(reply.code(), 200);
    }

    fn count(&self, digest: &str) -> u64 {
        let reply = self
            .server
            .client()
            .ask(&Request::new("check").digest(digest));
        reply.counts().0
    }

    /// When the digest was reported first and last, as `info` says.
    fn times(&self, digest: &str) -> (u64, u64) {
        let reply = self
            .server
            .client()
            .ask(&Request::new("info").digest(digest));
        (reply.number("Entered"), reply.number("Updated"))
    }
}

fn is_near(time: u64, expected: u64) -> bool {
    time.abs_diff(expected) < SLACK
}

fn a_clock_that_is_set_loses_nothing(io: Io) {
    needs!(Faketime);
    let mut machine = Machine::start(io);
    let (old, new) = (random_digest(), random_digest());
    (0..5).for_each(|_| machine.report(&old));
    let now = epoch_seconds();
    let (entered, updated) = machine.times(&old);
    assert!(
        now - entered < 60 && now - updated < 60,
        "{entered} and {updated} at {now}"
    );

    machine.set_clock("+1y");
    machine.report(&old);
    let (entered, updated) = machine.times(&old);
    assert!(
        now - entered < 60 && is_near(updated, now + YEAR),
        "{entered} and {updated} at {now}"
    );
    machine.set_clock("-1y");
    machine.report(&new);
    machine.set_clock("+0");
    assert_eq!((machine.count(&old), machine.count(&new)), (6, 1));
    assert_eq!(machine.warnings(), 3, "each is said once");

    for offset in ["+1y", "-1y", "+0"] {
        machine.restart(offset);
        assert_eq!((machine.count(&old), machine.count(&new)), (6, 1));
    }
    let (entered, _) = machine.times(&new);
    assert!(is_near(entered, now - YEAR), "{entered} at {now}");
    let (entered, _) = machine.times(&old);
    assert!(now - entered < 60, "{entered} at {now}");
}
