//! Which cores we may run on, and how many of them at a time.

use std::num::NonZeroUsize;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::control_groups;

/// The cores this process is allowed on, in order; never empty.
pub fn allowed_cores() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let mut cores: Vec<_> = (0..CpuSet::count())
        .filter(|&core| allowed.is_set(core).unwrap_or(false))
        .collect();
    if cores.is_empty() {
        cores.push(0);
    }
    cores
}

/// As many workers as keep every allowed core busy: more than a quota pays for would only be throttled in turns.
pub fn default_workers() -> NonZeroUsize {
    let cores = allowed_cores().len();
    let paid_for = quota().unwrap_or(cores);
    NonZeroUsize::new(cores.min(paid_for)).unwrap_or(NonZeroUsize::MIN)
}

/// The smallest quota of our control group and those around it, in cores, rounded up.
fn quota() -> Option<usize> {
    let limits = control_groups::limits("cpu.max");
    limits.iter().filter_map(|limit| parse_quota(limit)).min()
}

/// Reads `cpu.max`: microseconds of CPU, or `max`, and the period in microseconds that they are for.
fn parse_quota(limit: &str) -> Option<usize> {
    let (quota_us, period_us) = limit.trim().split_once(' ')?;
    let quota_us: usize = quota_us.parse().ok()?;
    let period_us: NonZeroUsize = period_us.parse().ok()?;
    Some(quota_us.div_ceil(period_us.get()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_cores() {
        for (limit, cores) in [
            ("max 100000\n", None),
            ("100000 100000\n", Some(1)),
            ("150000 100000\n", Some(2)),
            ("1000 100000\n", Some(1)),
            ("800000 100000\n", Some(8)),
            ("100000 0\n", None),
            ("", None),
        ] {
            assert_eq!(parse_quota(limit), cores, "{limit:?}");
        }
    }

    #[test]
    fn there_is_a_core_to_run_on() {
        let cores = allowed_cores();
        assert!(default_workers().get() <= cores.len());
        assert!(cores.is_sorted());
    }
}
