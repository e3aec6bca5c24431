//! A result of somebody else's: `loadgen plan` and `loadgen compare` read it or refuse it, in bounded memory, and a page is
//! written exactly when there is a plan.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::Scratch;

static DIRECTORY: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(|contents: &[u8]| {
    let result = DIRECTORY.write("result.json", contents);
    let page = result.with_extension("html");
    let _ = std::fs::remove_file(&page);
    let rate = ["--target-rate", "100000", "--html"].map(OsStr::new);
    let planned = run(&[
        OsStr::new("plan"),
        result.as_os_str(),
        rate[0],
        rate[1],
        rate[2],
        page.as_os_str(),
    ]);
    assert_eq!(planned == ExitCode::SUCCESS, page.exists());
    run(&[
        OsStr::new("compare"),
        result.as_os_str(),
        result.as_os_str(),
    ]);
});

fn run(arguments: &[&OsStr]) -> ExitCode {
    let program = OsStr::new("loadgen");
    let arguments = std::iter::once(program).chain(arguments.iter().copied());
    loadgen::run(arguments.map(OsString::from))
}
