//! A started server answers, and keeps what it acknowledged across a stop and a crash.

use crate::harness::{Io, Request, Server, random_digest};

both_io!(a_report_survives_a_stop_and_a_crash);

fn a_report_survives_a_stop_and_a_crash(io: Io) {
    let mut server = Server::start(io);
    let digest = random_digest();
    let report = Request::new("report").digest(&digest);
    let check = Request::new("check").digest(&digest);
    assert_eq!(server.client().ask(&report).code(), 200);
    assert!(server.stop().success());
    server.restart();
    assert_eq!(server.client().ask(&check).counts(), (1, 0));
    server.kill();
    server.restart();
    assert_eq!(server.client().ask(&check).counts(), (1, 0));
}
