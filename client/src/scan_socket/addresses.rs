//! Servers that are known by name: their addresses change, and when a machine starts, nobody may know them yet.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::desk::Desk;

/// How long an address is used before it is looked up again.
const MAX_AGE: Duration = Duration::from_secs(300);

/// How long until a name without an address is looked up again.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// Looks names up for as long as the task runs.
pub(super) async fn keep_fresh(desk: Rc<Desk>) {
    loop {
        let session = desk.session();
        sleep(if session.knows_all_addresses() {
            MAX_AGE
        } else {
            RETRY_INTERVAL
        })
        .await;
        if !session.depends_on_names() {
            continue;
        }
        let old = Arc::clone(&session);
        let fresh = spawn_blocking(move || old.with_fresh_addresses()).await;
        // What was reloaded meanwhile has looked its names up itself.
        if let Ok(fresh) = fresh
            && Arc::ptr_eq(&session, &desk.session())
        {
            desk.replace_addresses(fresh);
        }
    }
}
