//! The configuration file. It is read from a home directory, as a server reads it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::Scratch;
use pyzord::config::Config;
use pyzord::flags::Flags;

static HOME: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(|text: &[u8]| {
    HOME.write("config", text);
    let flags = Flags {
        homedir: Some(HOME.directory().display().to_string()),
        // Else the fuzzer asks name servers for hosts of its own invention.
        listen_address: Some("127.0.0.1".to_owned()),
        ..Flags::default()
    };
    if let Err(problems) = Config::load(&flags) {
        assert!(!problems.to_string().is_empty());
    }
});
