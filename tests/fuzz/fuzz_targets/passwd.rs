//! The passwd file: every line is an account, a comment, or a problem that names it, and no key is ever shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyzor_protocol::Accounts;

fuzz_target!(|text: &[u8]| {
    let (accounts, problems) = Accounts::parse(text);
    let _ = accounts.get(b"bob");
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    for problem in problems {
        assert!((1..=lines).contains(&problem.line));
        assert!(
            problem.to_string().len() < 200,
            "it does not quote the line"
        );
    }
});
