//! What the operation does with the store.

use pyzor_protocol::{Body, Digest, MAX_DIGESTS, Operation, Refusal, Request};
use pyzor_storage::{ChangeKind, CommitNumber, Lookup, Record, Update, Wanted};

use super::Context;

/// What `pong` always counts, so that a client sees how it treats a hit: Python's largest machine integer.
const PONG_COUNT: u64 = i64::MAX as u64;

/// A granted operation, carried out as far as memory allows.
#[derive(Clone, Copy)]
pub(super) enum Execution {
    /// Answer with this.
    Done(Body),
    /// Answer with what the operation tells of this record.
    Found(Operation, Record),
    /// Acknowledge after this commit.
    AfterCommit(Operation, CommitNumber),
    /// Answer after a disk read for this digest.
    AfterLookup(Operation, Digest),
}

pub(super) fn execute(
    context: Context<'_>,
    operation: Operation,
    request: &Request<'_>,
) -> Result<Execution, Refusal> {
    match operation {
        Operation::Ping => Ok(Execution::Done(Body::Nothing)),
        Operation::Pong => pong(request),
        Operation::Check | Operation::Info => look_up(context, operation, request),
        Operation::Report => update(context, operation, ChangeKind::Report, request),
        Operation::Whitelist => update(context, operation, ChangeKind::Whitelist, request),
    }
}

fn pong(request: &Request<'_>) -> Result<Execution, Refusal> {
    let body = match first_digest(request)? {
        Some(_) => Body::Counts {
            count: PONG_COUNT,
            wl_count: 0,
        },
        None => Body::Nothing,
    };
    Ok(Execution::Done(body))
}

fn look_up(
    context: Context<'_>,
    operation: Operation,
    request: &Request<'_>,
) -> Result<Execution, Refusal> {
    let Some(digest) = first_digest(request)? else {
        return Ok(Execution::Done(Body::Nothing));
    };
    let wanted = match operation {
        Operation::Info => Wanted::Times,
        _ => Wanted::Counts,
    };
    match context.engine.lookup(&digest, wanted, context.now) {
        Lookup::Found(record) => Ok(Execution::Found(operation, record)),
        Lookup::Deferred if context.may_wait => Ok(Execution::AfterLookup(operation, digest)),
        Lookup::Deferred | Lookup::Unavailable => Err(Refusal::Unavailable),
    }
}

fn first_digest(request: &Request<'_>) -> Result<Option<Digest>, Refusal> {
    request
        .first_digest()
        .transpose()
        .map_err(|_| Refusal::BadDigest)
}

fn update(
    context: Context<'_>,
    operation: Operation,
    kind: ChangeKind,
    request: &Request<'_>,
) -> Result<Execution, Refusal> {
    let mut room = [Digest::from_bytes([0; Digest::BYTES]); MAX_DIGESTS];
    let digests = all_digests(request, &mut room)?;
    if digests.is_empty() {
        return Ok(Execution::Done(Body::Nothing));
    }
    if !context.may_wait {
        return Err(Refusal::Unavailable);
    }
    match context.engine.update(kind, digests, context.now) {
        Update::Done => Ok(Execution::Done(Body::Nothing)),
        Update::AfterCommit(commit) => Ok(Execution::AfterCommit(operation, commit)),
        Update::Unavailable => Err(Refusal::Unavailable),
    }
}

/// Every digest of the request. One that is invalid refuses them all, before any is counted.
fn all_digests<'r>(
    request: &Request<'_>,
    room: &'r mut [Digest; MAX_DIGESTS],
) -> Result<&'r [Digest], Refusal> {
    let mut count = 0;
    for digest in request.digests() {
        // More than fit into a datagram cannot be there, since each takes its 40 digits.
        let slot = room.get_mut(count).ok_or(Refusal::BadDigest)?;
        *slot = digest.map_err(|_| Refusal::BadDigest)?;
        count += 1;
    }
    Ok(&room[..count])
}
