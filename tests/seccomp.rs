//! A started server where `io_uring` is refused, as the default seccomp filters of container runtimes refuse it: it
//! falls back to plain system calls with one warning, and answers just the same. Where those are refused, too, it does not
//! start. Where there is no IPv6, IPv4 is served.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::conformance::{PROFILES, replay};
use crate::harness::{Client, Io, Request, Server, Setup};

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`: the same numbers on every architecture.
const IO_URING_CALLS: [i64; 3] = [425, 426, 427];

/// What the fallback needs.
const MMSG_CALLS: [(i64, &str); 2] = [
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_sendmmsg, "sendmmsg"),
];

#[test]
fn it_falls_back_with_one_warning_and_answers_every_recorded_case() {
    without(&IO_URING_CALLS, || {
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
    without(&IO_URING_CALLS, || {
        let (status, stderr) = Setup::new(Io::Uring).refused();
        assert!(!status.success());
        assert!(stderr.contains("uring"), "{stderr}");
    });
}

#[test]
fn without_the_calls_of_mmsg_it_refuses_to_start_and_names_the_call() {
    for (call, name) in MMSG_CALLS {
        without(&[call], || {
            let (status, stderr) = Setup::new(Io::Mmsg).refused();
            assert_eq!(status.code(), Some(1));
            let expected = format!("--io mmsg does not work on this system: {name} is refused: ");
            assert!(stderr.contains(&expected), "{stderr}");
        });
    }
    let calls = [&IO_URING_CALLS[..], &[MMSG_CALLS[0].0]].concat();
    without(&calls, || {
        let (status, stderr) = Setup::new(Io::Auto).refused();
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("recvmmsg is refused"), "{stderr}");
    });
}

#[test]
fn without_ipv6_the_default_is_every_address_of_ipv4() {
    let domain = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        libc::AF_INET6.unsigned_abs().into(),
    );
    let rule = SeccompRule::new(vec![domain.unwrap()]).unwrap();
    refusing([(libc::SYS_socket, vec![rule])].into(), || {
        let server = Setup::new(Io::Auto).listen("").start();
        let elsewhere = (Ipv4Addr::new(127, 0, 0, 2), server.address().port());
        let client = Client::new(elsewhere.into());
        assert_eq!(client.ask(&Request::new("ping")).code(), 200);
    });
}

/// Runs `test` on a thread that may not use `calls`, nor may the processes it starts.
fn without(calls: &[i64], test: impl FnOnce() + Send) {
    refusing(calls.iter().map(|&call| (call, vec![])).collect(), test);
}

/// The same for calls that one of their rules fits.
fn refusing(calls: BTreeMap<i64, Vec<SeccompRule>>, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let outcome = scope
            .spawn(|| {
                seccompiler::apply_filter(&filter(calls)).expect("filters are possible here");
                test();
            })
            .join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn filter(calls: BTreeMap<i64, Vec<SeccompRule>>) -> BpfProgram {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    SeccompFilter::new(
        calls,
        SeccompAction::Allow,
        SeccompAction::Errno(nix::errno::Errno::EPERM as u32),
        architecture,
    )
    .and_then(TryInto::try_into)
    .expect("the filter is valid")
}
