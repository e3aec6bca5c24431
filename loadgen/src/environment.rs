//! Where a run was made: what its numbers depend on beside the two programs.

use std::fs;
use std::path::Path;

use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::result::epoch_s;

/// The machine of the load generator, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) host: String,
    /// As the kernel names it; empty where it does not.
    pub(crate) cpu_model: String,
    /// Those this program may run on.
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Of this program.
    pub(crate) version: String,
    /// Seconds since 1970.
    pub(crate) started_epoch_s: f64,
}

impl Environment {
    /// Here and now; to be asked before a thread is pinned.
    pub(crate) fn now() -> Self {
        let system = uname().ok();
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let system_text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            system.as_ref().map(|system| text(part(system)))
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            host: system_text(|system| system.nodename()).unwrap_or_default(),
            cpu_model: file_field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_bytes: file_field("/proc/meminfo", "MemTotal")
                .and_then(|text| kibibytes(&text))
                .unwrap_or_default(),
            kernel: system_text(|system| system.release()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_epoch_s: epoch_s(),
        }
    }

    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            host: "vm".to_owned(),
            cpu_model: "Example CPU".to_owned(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "6.18.0".to_owned(),
            version: "0.1.0".to_owned(),
            started_epoch_s: 1_799_999_999.0,
        }
    }
}

/// Fails if `known` digests of so many bytes each need more memory than there is: the kernel would end this program, or another.
pub(crate) fn has_room_for(known: u32, bytes_each: usize) -> Result<(), Error> {
    let available = file_field("/proc/meminfo", "MemAvailable").and_then(|text| kibibytes(&text));
    fits(known, bytes_each, available.unwrap_or(u64::MAX))
}

fn fits(known: u32, bytes_each: usize, available: u64) -> Result<(), Error> {
    let needed = u64::from(known).saturating_mul(bytes_each as u64);
    if needed <= available {
        return Ok(());
    }
    Err(Error::Memory {
        known,
        needed_mib: needed >> 20,
        available_mib: available >> 20,
    })
}

/// How this program was called: its name and the arguments as they were typed. Where it is installed is left out: that
/// repeats nothing, and results are passed on.
pub(crate) fn command_line() -> Vec<String> {
    let typed = std::env::args_os();
    named_without_directory(typed.map(|word| word.to_string_lossy().into_owned()))
}

fn named_without_directory(mut arguments: impl Iterator<Item = String>) -> Vec<String> {
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name();
    let name = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    std::iter::once(name).chain(arguments).collect()
}

fn file_field(path: &str, name: &str) -> Option<String> {
    field(&fs::read_to_string(path).ok()?, name)
}

/// The value of the first line "NAME: VALUE".
fn field(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(field, _)| field.trim_end() == name);
    values.next().map(|(_, value)| value.trim().to_owned())
}

/// Bytes in "NUMBER kB", which are 1024 each.
fn kibibytes(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix(" kB")?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files_are_read() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2: fast\nmodel name\t: other\n";
        let model = field(text, "model name");
        assert_eq!(model.as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(kibibytes("24 kB"), Some(24_576));
        assert_eq!(kibibytes("24 MB"), None);
    }

    #[test]
    fn a_command_line_keeps_its_arguments_and_not_where_the_program_lies() {
        let typed =
            |arguments: &[&str]| named_without_directory(arguments.iter().map(ToString::to_string));
        let called = typed(&["/usr/local/bin/loadgen", "blast", "--json", "/srv/a.json"]);
        assert_eq!(called, ["loadgen", "blast", "--json", "/srv/a.json"]);
        assert_eq!(typed(&["loadgen"]), ["loadgen"]);
        assert_eq!(typed(&[]), [""]);
    }

    #[test]
    fn more_memory_than_there_is_is_not_taken() {
        fits(40_000_000, 48, 1_920_000_000).unwrap();
        let error = fits(40_000_000, 48, 1_900_000_000).unwrap_err().to_string();
        let expected =
            "40000000 known digests take 1831 MiB of memory, and 1811 MiB are free: ask for fewer";
        assert!(error.starts_with(expected), "{error}");
        has_room_for(1, 48).unwrap();
    }

    #[test]
    fn this_machine_has_a_name_and_cores() {
        let here = Environment::now();
        assert!(!here.host.is_empty() && !here.kernel.is_empty());
        assert!(here.cores > 0 && here.memory_bytes > 1 << 20);
    }
}
