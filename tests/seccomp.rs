//! A started server where `io_uring` is refused, as the default seccomp filters of container runtimes refuse it: it
//! falls back to plain system calls with one warning, and answers just the same.

use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::conformance::{PROFILES, replay};
use crate::harness::{Io, Server, Setup};

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`: the same numbers on every architecture.
const IO_URING_CALLS: [i64; 3] = [425, 426, 427];

#[test]
fn it_falls_back_with_one_warning_and_answers_every_recorded_case() {
    without_io_uring(|| {
        let mut server = Server::start(Io::Auto);
        assert!(server.stop().success());
        let log = server.log();
        let warnings: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARNING ") && line.contains("io_uring"))
            .collect();
        assert_eq!(warnings.len(), 1, "{log}");
        for profile in PROFILES {
            replay(profile, Io::Auto);
        }
    });
}

#[test]
fn asked_for_io_uring_it_refuses_to_start_and_says_why() {
    without_io_uring(|| {
        let (status, stderr) = Setup::new(Io::Uring).refused();
        assert!(!status.success());
        assert!(stderr.contains("uring"), "{stderr}");
    });
}

/// Runs `test` on a thread that may not use `io_uring`, nor may the processes it starts.
fn without_io_uring(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let outcome = scope
            .spawn(|| {
                seccompiler::apply_filter(&filter()).expect("filters are possible here");
                test();
            })
            .join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn filter() -> BpfProgram {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let refused = IO_URING_CALLS.map(|call| (call, vec![]));
    SeccompFilter::new(
        refused.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(nix::errno::Errno::EPERM as u32),
        architecture,
    )
    .and_then(TryInto::try_into)
    .expect("the filter is valid")
}
