//! The Pyzor client.
