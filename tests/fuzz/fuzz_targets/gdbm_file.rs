//! A whole gdbm file. The walk over it ends, and every key it finds is one the file can hold.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pyzor_fuzz::Scratch;
use pyzor_storage::gdbm::GdbmFile;

static DIRECTORY: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(|contents: &[u8]| {
    let path = DIRECTORY.write("pyzord.db", contents);
    match GdbmFile::open(&path) {
        Ok(file) => {
            for entry in file.entries() {
                match entry {
                    Ok(entry) => assert!(entry.key.len() + entry.value.len() <= contents.len()),
                    Err(damage) => assert!(!damage.to_string().is_empty()),
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
