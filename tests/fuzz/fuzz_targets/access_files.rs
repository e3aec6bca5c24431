//! The access file, with the accounts it speaks of: nothing is granted that some line does not allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyzor_protocol::{AccessList, Accounts, Operation, User};

fuzz_target!(|files: &[u8]| {
    // The part before the first NUL is the passwd file.
    let middle = files.iter().position(|byte| *byte == 0);
    let (passwd, access) = files.split_at(middle.unwrap_or(0));
    let (accounts, _) = Accounts::parse(passwd);
    let (list, problems) = AccessList::parse(access, &accounts);
    for problem in problems {
        let _ = problem.to_string();
    }
    let allows = access
        .to_ascii_lowercase()
        .windows(b"allow".len())
        .any(|word| word == b"allow");
    for user in [User::Anonymous, User::Named(b"bob"), User::Named(b"alice")] {
        for operation in Operation::ALL {
            assert!(allows || !list.permits(user, operation));
        }
        assert!(allows || !list.permits_unknown(user, b"frobnicate"));
    }
});
