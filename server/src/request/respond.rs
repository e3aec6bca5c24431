//! Decisions and store records as replies.

use pyzor_protocol::{Body, MAX_REPLY_BYTES, Operation, Refusal, write_reply};
use pyzor_storage::{Record, Unavailable};

use super::Outcome;
use super::execute::Execution;

/// What the caller must do, with the reply written if it is due now.
pub(super) fn outcome(
    decision: Result<Execution, Refusal>,
    thread: &[u8],
    reply: &mut [u8; MAX_REPLY_BYTES],
) -> Outcome {
    let (status, body) = match decision {
        Ok(Execution::Done(body)) => (Ok(()), body),
        Ok(Execution::Found(operation, record)) => (Ok(()), lookup_body(operation, &record)),
        Ok(Execution::AfterCommit(operation, commit)) => {
            return Outcome::AfterCommit(operation, commit);
        }
        Ok(Execution::AfterLookup(operation, digest)) => {
            return Outcome::AfterLookup(operation, digest);
        }
        Err(refusal) => (Err(refusal), Body::Nothing),
    };
    Outcome::Reply {
        status,
        length: write_reply(reply, status, thread, &body),
    }
}

/// Writes the reply to an update whose commit has ended; returns its length in bytes.
pub fn respond_to_commit(
    status: Result<(), Refusal>,
    thread: &[u8],
    reply: &mut [u8; MAX_REPLY_BYTES],
) -> usize {
    write_reply(reply, status, thread, &Body::Nothing)
}

/// Writes the reply to a check or info whose record came from the disk; returns its length in bytes.
pub fn respond_to_lookup(
    operation: Operation,
    record: Result<Record, Unavailable>,
    thread: &[u8],
    reply: &mut [u8; MAX_REPLY_BYTES],
) -> usize {
    match record {
        Ok(record) => write_reply(reply, Ok(()), thread, &lookup_body(operation, &record)),
        Err(Unavailable) => write_reply(reply, Err(Refusal::Unavailable), thread, &Body::Nothing),
    }
}

/// The part of a record that `operation`, check or info, tells.
fn lookup_body(operation: Operation, record: &Record) -> Body {
    match operation {
        Operation::Info => Body::Info {
            entered: u64::from(record.r_entered),
            updated: u64::from(record.r_updated),
            wl_entered: u64::from(record.wl_entered),
            wl_updated: u64::from(record.wl_updated),
            count: record.r_count,
            wl_count: record.wl_count,
        },
        _ => Body::Counts {
            count: record.r_count,
            wl_count: record.wl_count,
        },
    }
}
