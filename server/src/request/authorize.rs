//! Whether the user may ask for the operation.

use pyzor_protocol::{Operation, Refusal, Request};

use super::Context;

/// The operation, if the access list grants it. An unknown one is never granted, so it is refused here too.
pub(super) fn authorize(context: Context<'_>, request: &Request<'_>) -> Result<Operation, Refusal> {
    request
        .operation()
        .filter(|operation| context.access.list.permits(request.user(), *operation))
        .ok_or(Refusal::Forbidden)
}
