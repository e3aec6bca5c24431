//! Hashing that senders cannot predict.
//!
//! Digests are chosen by whoever sends them. The hash is keyed with the system's random numbers, so that nobody can
//! compute digests that meet in one place of a table or in the bits of the filter.

use std::io;
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use rustix::rand::{GetRandomFlags, getrandom};

pub(super) type KeyedHash = SeedableRandomState;

/// A hash with a key of its own.
pub(super) fn keyed_hash() -> io::Result<KeyedHash> {
    static SHARED: LazyLock<SharedSeed> =
        LazyLock::new(|| SharedSeed::from_u64(u64::from_le_bytes(random().unwrap_or_default())));
    Ok(SeedableRandomState::with_seed(
        u64::from_le_bytes(random()?),
        &SHARED,
    ))
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if filled == N {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
