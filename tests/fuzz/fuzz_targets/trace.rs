//! A whole trace, of whatever kind: `loadgen inspect` reads it to its end or to an error, in bounded memory, and writes down
//! what it found whenever it succeeds.
#![no_main]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::Scratch;

static DIRECTORY: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(|contents: &[u8]| {
    let trace = DIRECTORY.write("trace", contents);
    let found = trace.with_extension("json");
    let _ = std::fs::remove_file(&found);
    let ended = inspect(&trace, &found);
    assert!(ended != ExitCode::SUCCESS || found.exists());
});

fn inspect(trace: &Path, found: &Path) -> ExitCode {
    let arguments: [OsString; 5] = [
        "loadgen".into(),
        "inspect".into(),
        trace.into(),
        "--json".into(),
        found.into(),
    ];
    loadgen::run(arguments.into_iter())
}
