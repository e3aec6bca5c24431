//! Panics reach the log: who looks for the reason why a server ended looks there first.

use std::panic;
use std::thread;

use pyzor_storage::redb_engine::takes_panics_for_damage;

/// Has every panic written to the log, and to standard error where the log is a file; but for those by which the store finds
/// damaged files: it says so itself.
pub(crate) fn install(log_is_file: bool) {
    let to_stderr = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if takes_panics_for_damage() {
            return;
        }
        let thread = thread::current();
        // On one line, as everything in the log is.
        let message = panic.to_string().replace('\n', " ");
        tracing::error!("{} {message}", thread.name().unwrap_or("a thread"));
        if log_is_file {
            to_stderr(panic);
        }
    }));
}
