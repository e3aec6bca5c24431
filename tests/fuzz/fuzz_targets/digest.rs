//! Digests, against the reference's: one process of it answers for all inputs. Inputs change as messages do.
//!
//! A difference ends up, made small, in `artifacts/digest/cases.txt`: once it is mended, that line belongs at the end of
//! `awkward_cases.txt` of the client's digester, which its tests go by and for which `tests/digest` asks the reference again.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pyzor_fuzz::digest::{Comparison, mutate};

thread_local! {
    static COMPARISON: RefCell<Comparison> = RefCell::new(Comparison::new());
}

fuzz_target!(|message: &[u8]| {
    COMPARISON.with_borrow_mut(|comparison| comparison.compare(message));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(&mut data[..max_size], size, seed, |data, size| {
        fuzzer_mutate(data, size, max_size)
    })
});
