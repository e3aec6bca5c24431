//! What is typed after `pyzor serve`. Their names begin so that no abbreviation that the reference takes becomes ambiguous.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use super::limits::Limits;
use super::listener::ListenAddress;

/// Where these stand in the help.
const HEADING: &str = "The scan service, serve";

const DEFAULT_MAX_MESSAGE_BYTES: usize = 32 << 20;
const DEFAULT_MAX_MEMORY_BYTES: usize = 256 << 20;
const DEFAULT_MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2048).unwrap();
const DEFAULT_MAX_LOOKUPS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
const DEFAULT_MAX_RECEIVE_TIME: Duration = Duration::from_secs(30);

/// The longest time that a message may be given: a day, in seconds.
const MAX_SECONDS: u64 = 86_400;

/// The limits of a scan socket, and where it listens.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub struct ServeFlags {
    /// Where to listen: HOST:PORT, an IPv6 address in brackets, or the path of a unix socket; may be repeated [default: what
    /// systemd passes on, else 127.0.0.1:5953]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<ListenAddress>,

    /// Permissions of the unix sockets among them, in octal: 660 for a user and a group, 666 for everybody [default: 600]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub socket_mode: Option<u32>,

    /// Longest message that is taken, with suffix K, M or G [default: 32M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_message: Option<usize>,

    /// Memory for messages being received: 64K for each connection, the rest for longer ones [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<usize>,

    /// Connections at a time; for another one, the slowest sender has to leave [default: 2048]
    #[arg(long, value_name = "NUMBER")]
    pub max_connections: Option<NonZeroUsize>,

    /// Messages at a time for which servers are asked [default: 64]
    #[arg(long, value_name = "NUMBER")]
    pub max_lookups: Option<NonZeroUsize>,

    /// Seconds in which a message must have been sent [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub max_receive_time: Option<Duration>,
}

impl ServeFlags {
    /// The limits among them.
    pub fn limits(&self) -> Limits {
        Limits {
            max_message_bytes: self.max_message.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
            max_memory_bytes: self.max_memory.unwrap_or(DEFAULT_MAX_MEMORY_BYTES),
            max_connections: self.max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS),
            max_lookups: self.max_lookups.unwrap_or(DEFAULT_MAX_LOOKUPS),
            max_receive_time: self.max_receive_time.unwrap_or(DEFAULT_MAX_RECEIVE_TIME),
        }
    }
}

/// A number of bytes, or with K, M or G a multiple of 1024 bytes; not 0.
fn size(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number = number.parse::<usize>().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "expected a size such as 512K, 32M or 1G".to_owned())
}

/// Three octal digits.
fn mode(text: &str) -> Result<u32, String> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| is_octal && *mode <= 0o777)
        .ok_or_else(|| "expected permissions in octal, such as 660".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok();
    seconds
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("expected a whole number of seconds from 1 to {MAX_SECONDS}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;
    use clap::Parser;

    fn limits(typed: &str) -> Result<Limits, clap::Error> {
        let words = ["pyzor", "serve"].into_iter();
        Flags::try_parse_from(words.chain(typed.split_ascii_whitespace()))
            .map(|flags| flags.serve.limits())
    }

    #[test]
    fn the_default_limits_fit_together() {
        assert!(limits("").unwrap().long_messages().is_ok());
    }

    #[test]
    fn sizes_have_suffixes() {
        let limits = limits("--max-message 10k --max-memory 3G").unwrap();
        assert_eq!(limits.max_message_bytes, 10 << 10);
        assert_eq!(limits.max_memory_bytes, 3 << 30);
        assert_eq!(size("77"), Ok(77));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "K", "0", "0M", "-1", "1.5M", "1T", "17179869184G"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "0", "-1", "1.5", "86401", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(limits("--max-connections 0").is_err());
        assert!(limits("--listen 5953").is_err());
    }

    #[test]
    fn the_references_abbreviations_mean_what_they_meant() {
        let flags = Flags::try_parse_from(["pyzor", "--r", "3", "--loc", "x", "--log", "y"]);
        let flags = flags.unwrap();
        assert_eq!(flags.report_threshold.as_deref(), Some("3"));
        assert_eq!(flags.local_whitelist.as_deref(), Some("x"));
        assert_eq!(flags.log_file.as_deref(), Some("y"));
    }
}
