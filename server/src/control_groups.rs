//! What the control groups (version 2) around this process limit.

use std::fs;
use std::path::Path;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// What `file` says, such as `cpu.max`, in our control group and those around it.
pub(crate) fn limits(file: &str) -> Vec<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    Path::new(ROOT)
        .join(group)
        .ancestors()
        .take_while(|directory| directory.starts_with(ROOT))
        .filter_map(|directory| fs::read_to_string(directory.join(file)).ok())
        .collect()
}
