//! Which core a thread runs on, and how much CPU time a process has used.

use std::fs;
use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::error::Error;

/// Moves the calling thread to `core`, for good.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// Leaves `cores` to others: this thread, and those it starts from now on, run elsewhere, if there is any other core.
pub(crate) fn avoid(cores: impl Iterator<Item = usize>) -> io::Result<()> {
    let own = Pid::from_raw(0);
    let mut allowed = sched_getaffinity(own)?;
    for core in cores {
        allowed.unset(core)?;
    }
    let is_left = (0..CpuSet::count()).any(|core| allowed.is_set(core) == Ok(true));
    if is_left {
        sched_setaffinity(own, &allowed)?;
    }
    Ok(())
}

/// The CPU time of one process: all its threads, also those that have ended, in user and in system mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock {
    pid: u32,
    clock: ClockId,
}

/// What a process had used when it was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuReading {
    /// From the scheduler's own account, exact to the nanosecond.
    total: Duration,
    /// Kernel ticks of 10 ms: good for the share of user mode only.
    user_ticks: u64,
    system_ticks: u64,
}

/// What a process used between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuUse {
    pub(crate) total: Duration,
    /// Of the total, in user mode: 0 to 1.
    pub(crate) user_share: f64,
}

impl ProcessClock {
    /// The clock of process `pid`, which must exist.
    pub(crate) fn of(pid: u32) -> Result<Self, Error> {
        let failed = |source| Error::ServerCpu(pid, source);
        let number = i32::try_from(pid).map_err(|_| failed(ErrorKind::InvalidInput.into()))?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(number));
        let clock = clock.map_err(|error| failed(error.into()))?;
        let clock = Self { pid, clock };
        // The C library makes a clock out of any number.
        clock.read()?;
        Ok(clock)
    }

    pub(crate) fn read(self) -> Result<CpuReading, Error> {
        self.try_read()
            .map_err(|source| Error::ServerCpu(self.pid, source))
    }

    fn try_read(self) -> io::Result<CpuReading> {
        let gone = |error| match error {
            // So says the kernel of a process that is not there.
            Errno::EINVAL => Errno::ESRCH,
            other => other,
        };
        let total = self.clock.now().map_err(gone)?.into();
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (user_ticks, system_ticks) =
            ticks(&stat).ok_or_else(|| io::Error::other("unreadable /proc/PID/stat"))?;
        Ok(CpuReading {
            total,
            user_ticks,
            system_ticks,
        })
    }
}

impl CpuReading {
    pub(crate) fn since(self, earlier: Self) -> CpuUse {
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        CpuUse {
            total: self.total.saturating_sub(earlier.total),
            user_share: share(user, user + system),
        }
    }
}

impl CpuUse {
    /// In nanoseconds for each of `count`; 0 if there are none.
    #[expect(clippy::cast_precision_loss, reason = "no run answers 2^52 requests")]
    pub(crate) fn ns_each(self, count: u64) -> f64 {
        const NS_PER_S: f64 = 1e9;
        if count == 0 {
            return 0.0;
        }
        self.total.as_secs_f64() * NS_PER_S / count as f64
    }
}

/// `part` of `whole`, 0 of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests and nanoseconds stay far below 2^52"
)]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// User and system ticks: fields 14 and 15 of `proc_pid_stat(5)`. The second field, the program's name in
/// parentheses, may hold blanks and parentheses itself.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    const USER: usize = 14;
    const FIELDS_THROUGH_NAME: usize = 2;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name
        .split_whitespace()
        .skip(USER - FIELDS_THROUGH_NAME - 1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "12 (a ) b) R 1 2 3 4 5 6 7 8 9 10 77 88 0 0 20 0";
        assert_eq!(ticks(stat), Some((77, 88)));
        assert_eq!(ticks("12 (short) R 1"), None);
    }

    #[test]
    fn a_busy_process_uses_time() {
        let clock = ProcessClock::of(std::process::id()).unwrap();
        let before = clock.read().unwrap();
        let mut random = crate::mix::SplitMix64::new(1);
        while clock.read().unwrap().since(before).total < Duration::from_millis(1) {
            std::hint::black_box(random.next());
        }
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_clock() {
        assert!(ProcessClock::of(u32::MAX).is_err());
        assert!(ProcessClock::of(i32::MAX as u32).is_err());
    }
}
