//! The values of the reference's store, in both their forms.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use pyzor_storage::{MAX_COUNT, reference_record};

fuzz_target!(|value: &[u8]| {
    match reference_record::decode(value, &TimeZone::UTC) {
        Ok(record) => assert!(record.r_count <= MAX_COUNT && record.wl_count <= MAX_COUNT),
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
});
