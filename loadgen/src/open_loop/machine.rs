//! What the machine takes away from a sender, so that a reader can tell a slow generator from one that was not let run.
//!
//! Before a run, each sender looks at nothing but the clock for a while, on its own core: whatever pauses it then is the
//! machine's doing. For the run itself the kernel knows how long the thread was ready and had to wait, and how often it was
//! sent away; the hypervisor tells what it took from the cores.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::clock::nanoseconds;
use crate::result::MachineGaps;

/// How long the clock is looked at.
const CALIBRATION: Duration = Duration::from_millis(200);
/// Shorter pauses are interrupts and the like, and make no request noticeably late.
const PAUSE: Duration = Duration::from_micros(20);
/// The kernel counts stolen time in ticks of 10 ms.
const TICK_S: f64 = 0.01;

/// What pauses a thread that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pauses {
    looked: Duration,
    count: u64,
    longest: Duration,
    total: Duration,
}

/// What the kernel has counted of this thread so far. 0 where it does not count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ThreadAccount {
    waited_ns: u64,
    involuntary_switches: u64,
}

/// Of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SenderGaps {
    pub(super) pauses: Pauses,
    pub(super) in_run: ThreadAccount,
    /// Nothing was ready to be sent, because the feed was behind.
    pub(super) starved: Duration,
}

impl Pauses {
    /// Looks at the clock for [`CALIBRATION`].
    pub(super) fn look() -> Self {
        let mut pauses = Self::default();
        let start = Instant::now();
        let mut before = start;
        while before - start < CALIBRATION {
            let now = Instant::now();
            pauses.note(now - before);
            before = now;
        }
        pauses.looked = before - start;
        pauses
    }

    fn note(&mut self, distance: Duration) {
        if distance >= PAUSE {
            self.count += 1;
            self.total += distance;
            self.longest = self.longest.max(distance);
        }
    }
}

impl ThreadAccount {
    /// Of the calling thread.
    pub(super) fn now() -> Self {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok();
        let switches = usage.map(|usage| usage.involuntary_context_switches());
        Self {
            waited_ns: waited_ns(&schedstat).unwrap_or_default(),
            involuntary_switches: switches
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default(),
        }
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
        }
    }
}

/// What a hypervisor took since the machine was started, in ticks. `None` where the kernel does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stolen {
    /// From the senders' cores, or from all where these are not known.
    senders: u64,
    /// From all cores,
    all: u64,
    /// and all their time, idle or not.
    time: u64,
}

impl Stolen {
    /// `cores` are the senders'.
    pub(super) fn now(cores: &[Option<usize>]) -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let cores: Option<Vec<usize>> = cores.iter().copied().collect();
        let stolen = |core: &str| ticks(&stat, core)?.get(STEAL).copied();
        let all = ticks(&stat, "cpu")?;
        Some(Self {
            senders: match cores {
                Some(cores) => cores
                    .iter()
                    .map(|core| stolen(&format!("cpu{core}")))
                    .sum::<Option<u64>>()?,
                None => *all.get(STEAL)?,
            },
            all: *all.get(STEAL)?,
            time: all.iter().take(STEAL + 1).sum(),
        })
    }

    /// From the senders' cores since `earlier`, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a run")]
    fn seconds_since(self, earlier: Self) -> f64 {
        self.senders.saturating_sub(earlier.senders) as f64 * TICK_S
    }

    /// From all cores since `earlier`, of their time.
    fn share_since(self, earlier: Self) -> f64 {
        let stolen = self.all.saturating_sub(earlier.all);
        crate::cpu::share(stolen, self.time.saturating_sub(earlier.time))
    }
}

/// All senders together; `stolen` is what was so before and after the run.
pub(super) fn gaps(senders: &[SenderGaps], stolen: Option<(Stolen, Stolen)>) -> MachineGaps {
    let total = |of: fn(&SenderGaps) -> Duration| senders.iter().map(of).sum::<Duration>();
    let count = |of: fn(&SenderGaps) -> u64| senders.iter().map(of).sum();
    let looked = total(|each| each.pauses.looked);
    let paused = total(|each| each.pauses.total);
    let longest = senders.iter().map(|each| each.pauses.longest).max();
    MachineGaps {
        looked_s: looked.as_secs_f64(),
        pauses: count(|each| each.pauses.count),
        longest_pause_us: longest.unwrap_or_default().as_secs_f64() * 1e6,
        paused_share: crate::cpu::share(nanoseconds(paused), nanoseconds(looked)),
        waited_s: total(|each| Duration::from_nanos(each.in_run.waited_ns)).as_secs_f64(),
        involuntary_switches: count(|each| each.in_run.involuntary_switches),
        stolen_s: stolen.map(|(before, after)| after.seconds_since(before)),
        all_stolen_share: stolen.map(|(before, after)| after.share_since(before)),
        starved_s: total(|each| each.starved).as_secs_f64(),
    }
}

/// The second field: time on a run queue, in nanoseconds.
fn waited_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// Where the time that was stolen stands behind a core's name. What follows is counted as a user's time, too.
const STEAL: usize = 7;

/// All numbers behind a core's name.
fn ticks(stat: &str, name: &str) -> Option<Vec<u64>> {
    let mut lines = stat.lines().map(str::split_whitespace);
    let fields = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    fields.map(|field| field.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(waited_ns("123 90759 1\n"), Some(90_759));
        assert_eq!(waited_ns(""), None);
        let stat =
            "cpu  1 2 3 4 5 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 30 0 0\ncpu1 1 1 1 1 1 1 1 50 0 0\n";
        assert_eq!(ticks(stat, "cpu").unwrap()[STEAL], 80);
        assert_eq!(ticks(stat, "cpu1").unwrap()[STEAL], 50);
        assert_eq!(ticks(stat, "cpu2"), None);
        assert!(Stolen::now(&[Some(0)]).is_some(), "on Linux");
    }

    #[test]
    fn what_is_stolen_is_a_share_of_all_time() {
        let stolen = |senders, all, time| Stolen { senders, all, time };
        let (before, after) = (stolen(1, 5, 1000), stolen(4, 13, 1200));
        assert!((after.seconds_since(before) - 0.03).abs() < 1e-9);
        assert!((after.share_since(before) - 0.04).abs() < 1e-9);
        assert!(before.share_since(after).abs() < 1e-9);
    }

    #[test]
    fn pauses_are_those_that_are_long_enough() {
        let mut pauses = Pauses::default();
        for us in [1, 19, 20, 300, 5] {
            pauses.note(Duration::from_micros(us));
        }
        assert_eq!(
            (pauses.count, pauses.longest),
            (2, Duration::from_micros(300))
        );
        assert_eq!(pauses.total, Duration::from_micros(320));
        let looked = Pauses::look();
        assert!(looked.looked >= CALIBRATION && looked.total <= looked.looked);
    }

    #[test]
    fn a_thread_that_runs_has_an_account() {
        let first = ThreadAccount::now();
        let used = ThreadAccount::now().since(first);
        assert!(used.involuntary_switches < 1_000_000);
        assert_eq!(first.since(first).waited_ns, 0);
    }

    #[test]
    fn senders_add_up() {
        let sender = SenderGaps {
            pauses: Pauses {
                looked: CALIBRATION,
                count: 2,
                longest: Duration::from_micros(70),
                total: Duration::from_millis(1),
            },
            in_run: ThreadAccount {
                waited_ns: 5_000_000,
                involuntary_switches: 3,
            },
            starved: Duration::ZERO,
        };
        let gaps = gaps(&[sender, sender], None);
        assert_eq!((gaps.pauses, gaps.involuntary_switches), (4, 6));
        assert!((gaps.paused_share - 0.005).abs() < 1e-9, "{gaps:?}");
        assert!((gaps.waited_s - 0.01).abs() < 1e-9, "{gaps:?}");
        assert!((gaps.longest_pause_us - 70.0).abs() < 1e-9, "{gaps:?}");
    }
}
