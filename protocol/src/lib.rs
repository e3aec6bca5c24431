//! The Pyzor wire protocol.
mod digest;
pub use digest::Digest;
