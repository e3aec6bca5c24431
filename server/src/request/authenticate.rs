//! Whether the sender is who it says it is.

use pyzor_protocol::{Refusal, Request, User};

use super::Context;

/// Accepts the anonymous user as it is and a named one whose signature is right and recent.
pub(super) fn authenticate(context: Context<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    match request.user() {
        User::Anonymous => Ok(()),
        User::Named(name) => {
            let key = context
                .access
                .accounts
                .get(name)
                .ok_or(Refusal::UnknownUser)?;
            request.verify_signature(key, u64::from(context.now))
        }
    }
}
