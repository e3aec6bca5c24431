//! Whether the user may ask for the operation.

use pyzor_protocol::{Operation, Refusal, Request};

use super::Context;

/// The operation, if the access list grants it to the user and there is such a one.
pub(super) fn authorize(context: Context<'_>, request: &Request<'_>) -> Result<Operation, Refusal> {
    let list = &context.access.list;
    match request.operation() {
        Some(operation) if list.permits(request.user(), operation) => Ok(operation),
        None if list.permits_unknown(request.user(), request.op()) => Err(Refusal::NotImplemented),
        Some(_) | None => Err(Refusal::Forbidden),
    }
}
