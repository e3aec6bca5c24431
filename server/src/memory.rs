//! How much memory there is.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::control_groups;

/// Bytes of memory that this process can have: the machine's, or what its control groups or its limit of address space
/// leave of it. Without an answer from the system there is no bound.
pub(crate) fn available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let groups = control_groups::limits("memory.max");
    let groups = groups.iter().filter_map(|limit| limit.trim().parse().ok());
    let address_space = getrlimit(Resource::RLIMIT_AS).map_or(RLIM_INFINITY, |(soft, _)| soft);
    machine
        .and_then(|text| total(&text))
        .into_iter()
        .chain(groups)
        .chain([address_space])
        .min()
        .unwrap_or(u64::MAX)
}

/// Reads `/proc/meminfo`: `MemTotal: NUMBER kB`.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_in_bytes() {
        let text = "MemTotal:       24684084 kB\nMemFree:        20603024 kB\n";
        assert_eq!(total(text), Some(24_684_084 * 1024));
        assert_eq!(total("MemTotal: x kB\n"), None);
        assert_eq!(total(""), None);
    }

    #[test]
    fn there_is_some() {
        assert!(available() > 1 << 20);
    }
}
