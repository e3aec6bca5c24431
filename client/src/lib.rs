//! The Pyzor client, as a library.
//!
//! # Which file does what
//!
//! | file | job |
//! | --- | --- |
//! | `digester` | from a message to its digest; no I/O |

pub mod digester;
