//! The Pyzor wire protocol, version 2.1: no sockets, no clock, no files.
//!
//! # Which file does what
//!
//! A request's way through a server:
//!
//! | file | job |
//! | --- | --- |
//! | `canonical` | the fast reader, for the layouts that real clients send |
//! | `message` | the general reader, for everything else the reference accepts; how it writes a message down again |
//! | `request` | [`Request`]: the fields of either, and what can be asked of them |
//! | `numbers` | `PV` and `Time`, read as Python's `float()` and `int()` do |
//! | `digest` | [`Digest`]: the SHA-1 that stands for a message |
//! | `signature` | what `Sig` must be: [`sign`] |
//! | `account` | [`Accounts`]: the passwd file; [`AccountKey`] |
//! | `access` | [`AccessList`]: the access file |
//! | `line_problem` | both files' lines and fields; [`LineProblem`]: what is wrong with one |
//! | [`text`] | what lines and white space are |
//! | `operation` | [`Operation`], [`OperationSet`] |
//! | `status` | [`Refusal`]: every code but 200, with its words |
//! | `reply` | [`write_reply`] |
//! | `limits` | sizes and times |
//!
//! A client's: `digest_text` ([`DigestText`]), `request_writer` ([`write_request`]), `reply_reader` ([`Reply`]), and the accounts
//! file ([`client_accounts`] in `client_account`).
//!
//! Both may share a home directory and the configuration file in it: [`home_directory`] says where, [`configparser`] reads
//! the syntax, and [`misspelt`] knows what was meant.
//!
//! # Where the facts come from
//!
//! There is no specification. What is written here was found by asking the reference implementation, Pyzor 1.1.2 on
//! `CPython` 3.11, and comparing answers to some ten thousands of generated datagrams; `parser_model` states the
//! rules a second time, slowly and plainly, and the property tests there hold both readers against it. Where the
//! reference fails on a datagram (a 500, no answer), the documentation of the item concerned says what happens
//! here.

mod access;
mod account;
mod canonical;
mod client_account;
pub mod configparser;
mod digest;
mod digest_text;
pub mod home_directory;
mod limits;
mod line_problem;
mod message;
pub mod misspelt;
mod numbers;
mod operation;
#[cfg(test)]
mod parser_model;
mod reply;
mod reply_reader;
mod request;
mod request_writer;
mod signature;
mod status;
pub mod text;

pub use access::AccessList;
pub use account::{AccountKey, Accounts};
pub use client_account::{ClientAccount, client_accounts};
pub use digest::{Digest, InvalidDigest};
pub use digest_text::{DigestText, OpDigest, UnusableText};
pub use limits::{
    DEFAULT_PORT, MAX_CLOCK_SKEW_SECONDS, MAX_DATAGRAM_BYTES, MAX_DIGESTS, MAX_REPLY_BYTES,
};
pub use line_problem::{LineProblem, Problem, is_unreadable};
pub use operation::{Operation, OperationSet};
pub use reply::{Body, write_reply};
pub use reply_reader::{InvalidReply, Reply, ReplyNumbers};
pub use request::{ANONYMOUS_USER, Request, Scratch, User};
pub use request_writer::{NewRequest, write_request};
pub use signature::sign;
pub use status::Refusal;
