//! `pyzor`: a drop-in Pyzor client.
//!
//! # A message's way
//!
//! ```text
//! input -> digester -> exchange -> output
//!                 \-> the local whitelist, which answers for the servers
//! ```
//!
//! 1. [`input`] takes messages or digests from standard input, one after the other, and [`digester`] makes of a message its
//!    digest.
//! 2. [`exchange`] asks all servers of a [`session`] about it at once, within one time-out.
//! 3. [`output`] writes what came back as the reference does, or as JSON.
//!
//! [`commands`] has each command's order of these steps. [`scan_socket`] takes messages from connections instead.
//!
//! # Which file does what
//!
//! | file | job |
//! | --- | --- |
//! | `main`, `startup` | from the command line to the exit status |
//! | `flags`, `config` | what was typed and written -> one validated `Config` |
//! | `generate` | the manual page and the shells' completions, from the flags |
//! | `home_files` | the home directory, its servers and accounts files |
//! | `local_whitelist` | digests that are answered without asking |
//! | `addresses` | the servers' names become addresses, in the background |
//! | `session` | what commands work with: servers with their addresses and accounts, thresholds, the log |
//! | `input` | messages, mailboxes and digests as a stream |
//! | `digester` | from a message to its digest; no I/O |
//! | `exchange` | one question to several servers: sockets, time-out, retransmission |
//! | `output` | an answer as a line; what the answers add up to |
//! | `commands` | what each command does |
//! | `scan_socket` | `serve`: the answers of `check` for whoever connects |
//! | `passphrase` | asking for one without showing it |
//! | `printer` | standard output, and how far a large input is |
//! | `log`, `local_time` | the log file; times as people read them |
//! | `error` | every way this crate can fail |
//!
//! # Where the reference fails or does otherwise
//!
//! It ends with a traceback where this prints one line on standard error and exits with 1 (with 2 for what was typed):
//! an unknown style, a `Timeout` that is no positive number, a configuration file with a syntax error, a file that cannot be read
//! or written, an end of input or an interrupt while `genkey` asks. Otherwise different:
//!
//! - An unknown command, and none, end it with 2 before anything is sent; the reference exits with 0, which procmail takes for
//!   spam. The command `-` does nothing, so that `check -` is a check.
//! - Each of several commands gets what is on standard input, up to 256 MiB; the reference gives the second an empty message.
//! - `report` and `whitelist` do not send the digest that every message without text has: a line on standard error says so, the
//!   exit status is 1, and the other messages of a mailbox are sent.
//! - Of the addresses of a server's name, the next one is asked where a request cannot be sent or nobody listens, and when the
//!   server is asked once more. An update goes to one address only: where there is a choice, to one that answered a ping, which
//!   comes before it. The reference takes the first address to which something can be sent.
//! - Looking up names counts into the time-out, as all else does, and a twentieth of it is kept for starting and printing:
//!   SpamAssassin waits for the client as long as the client, by default, for servers.
//! - A home directory that cannot be created, and a threshold in the configuration file that is no number, end it with a
//!   line; the reference exits with 0 there, or takes the default.
//! - A server whose name cannot be resolved in time gets a line with 504, and the exit status is 1; the reference prints a traceback
//!   for it, and exits with 0 if the others answered.
//! - A line of the servers file that names no server is skipped with a line in the log. When it holds nothing else, that is an
//!   error: the reference would ask the public server, or fail. When it holds nothing at all, the public server is asked, and the
//!   log says so.
//! - A file of the home directory, or one named in its place, that is a pipe is refused: nobody may write to it.
//! - A servers or accounts file that is named, is not the usual one and is missing is an error: the reference would ask the public
//!   server, or as anonymous. A skipped line of the accounts file is told on standard error where no server has an account.
//! - A byte order mark before a file, a servers file's or a whitelist's comments, and white space of any kind mean what they look
//!   like; comments of the local whitelist stay when it is changed.
//! - Sections and keys of `config` that nobody knows are told on standard error; the reference passes over them.
//! - `genkey` says on standard error which line belongs into which file.
//! - A datagram from another address, with another `Thread`, one that is no reply, and an error in the guise of a success
//!   (`Thread` below 1024 with code 200) are ignored, so that nobody can answer in a server's place; the reference takes the
//!   first datagram for the answer.
//! - A reply of 200 to `check` or `pong` that lacks a count prints like a refusal, and exits with 1.
//! - A line among the digests that cannot stand in a request (longer than 512 bytes, or with bytes that are not printable
//!   ASCII) is skipped with a line on standard error, and the exit status is 1.
//! - Messages above 256 MiB are refused, and of a mailbox skipped. In a mailbox's check, more than 16 MiB of servers' answers are not
//!   held back until those of the local whitelist are out; the reference prints everything at the end.
//! - The local whitelist takes no empty line.
//! - `-t 0` is refused: the reference then reports an error of its socket for every server.

pub mod addresses;
pub mod commands;
pub mod config;
pub mod digester;
pub mod error;
pub mod exchange;
pub mod flags;
mod generate;
pub mod home_files;
pub mod input;
mod local_time;
pub mod local_whitelist;
pub mod log;
pub mod output;
mod passphrase;
mod printer;
pub mod scan_socket;
pub mod session;
pub mod startup;
