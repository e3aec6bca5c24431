//! Would the suite notice? Each defect that can be planted in the store makes the tests named here fail.
//!
//! The defect is planted in a child process, by an environment variable that stores read when they are opened: it reaches
//! nothing else. Without the defect these tests pass, as part of the suite.

use std::env;
use std::process::Command;

use pyzor_storage::redb_engine::PlantedBug;

const SYNC_LOSS: &str = "power_loss::acknowledged_reports_survive_a_power_loss_at_any_sync";
const REPLAY: &str = "store_model::a_fold_is_not_replayed_by_a_restart";
const MODEL: &str = "store_model::the_store_does_what_the_model_does";

/// Tests that must notice a defect.
fn witnesses(bug: PlantedBug) -> &'static [&'static str] {
    match bug {
        PlantedBug::SyncSkipped | PlantedBug::ReplyBeforeCommit => &[SYNC_LOSS],
        PlantedBug::WatermarkNotWritten | PlantedBug::FoldReplayed => &[REPLAY, MODEL],
        PlantedBug::UnfoldedEvicted => &["store_model::an_unfolded_entry_is_not_evicted", MODEL],
        PlantedBug::UncommittedHidden => &[MODEL, SYNC_LOSS],
        PlantedBug::FailedShown => {
            &["failing_disk::a_broken_journal_refuses_updates_and_nothing_else"]
        }
        PlantedBug::StaleBaseCached => {
            &["store_model::a_record_read_before_a_fold_is_not_remembered_after_it"]
        }
    }
}

#[test]
fn every_planted_bug_is_noticed() {
    for bug in PlantedBug::ALL {
        for test in witnesses(bug) {
            let output = Command::new(env::current_exe().unwrap())
                .args([test, "--exact"])
                .env("PYZOR_PLANTED_BUG", format!("{bug:?}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("running 1 test"), "there is no test {test}");
            assert!(
                said.contains("0 passed; 1 failed"),
                "{test} does not notice {bug:?}: {said}"
            );
        }
    }
}
