//! The test suite: one binary, one module a subject. `tests/run.sh` installs what it needs and runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and so do the helpers beside it"
)]

// Starts servers, sends datagrams, finds the reference's programs, names what is missing.
#[macro_use]
mod harness;

// The harness itself: a started server answers, survives a restart, and its data with it.
mod smoke;

// Every recorded case of the reference server, byte for byte, or listed as a deviation with its reason.
mod conformance;

// The reference's Python client, command and library: reports, batches, named and refused users, wrong clocks.
mod reference_client;

// Our client's command against the reference's, on the same input and servers: output and exit status.
mod pyzor_commands;

// Debian's SpamAssassin: its Perl client, and its plugin by that client, by the reference's command and by ours.
mod spamassassin;

// Users and access rules, refused updates, and reloads: a request never sees a mixture of old and new files.
mod accounts;

// Where replies come from (wildcards, IPv6, several addresses), and what must not be answered.
mod replies;

// A server that was stopped for longer than clients wait, and one under more load than it can take.
mod overload;

// Where a seccomp filter refuses io_uring: a fallback with one warning, and the same answers. Where it refuses more: no start.
mod seccomp;

// Where the system gives too little: open files, rings, memory, sizes of files; and calls that fail for good.
mod limits;

// Taking over the gdbm file of the Python daemon.
mod import;

// A store that is damaged or taken away while it is in use, and copies that are none.
mod damaged_store;

// Clocks that are set while the server runs and while it does not.
mod wrong_clock;

// Crash after crash under load: every acknowledged report is there, and none counts twice.
mod durability;

// The load generator: counts what really happens, against its own echo and against a server.
mod loadgen;

// Output that nobody reads, or that has no room: of every program.
mod unread_output;

// Runs of the load generator that are cut short: traces that do not come, servers that go away, searches in vain.
mod unfinished_runs;

// Traces: what loadgen reads, against samples of which it is known what is in them, and against Wireshark.
mod traces;

// The open loop: servers that lose, repeat, mangle and stall, and a generator that is stopped itself.
mod replay;

// The load generator's answer check: two servers of which one knows something else.
mod answers;

// Histograms of the load generator, read by HdrHistogram's own library.
mod histograms;

// The rules of the house: crate arrows, the boundary of unsafe code, true code maps, tidy files, live links.
mod tidy;

// What a request costs beyond its own work: allocations and system calls, counted.
mod hot_path;

// What an operator is told unasked: warnings without a log, --check-config, files that do not say what was meant.
mod warnings;

// Starting and ending: home directory, background and pid file, signals, a second server, the time to the first answer.
mod startup;

// What USR1 and HUP do: rotated logs, failed reloads; and what the log and the usage log hold.
mod reload;

// Recording requests: what tcpdump, tshark and loadgen read, switching, rotation, full queues and failing disks.
mod recording;

// What is refused at start, and in which words; what is ignored with a warning.
mod config_mistakes;

// A disk and a clock that tests rule, and a store driven step by step on them.
mod simulation;

// The store against an obvious model, under any sequence of events.
mod store_model;

// The store with all its threads: what is acknowledged is seen at once and counts once.
mod store_threads;

// Files that are missing, mixed, newer or half made; stores filled at once.
mod store_files;

// Power that goes at any sync of a script, with torn and reordered writes.
mod power_loss;

// Disks that are full or fail, and recovery by itself.
mod failing_disk;

// Records past their age: absent at once, gone later, and never by mistake.
mod expiry;

// Would the suite notice? Each planted defect makes a named test fail.
mod planted_bugs;

// Digests against the reference's own: generated messages, real ones, damaged ones; bounds on time and memory.
mod digest;

// The scan socket: the answers of check, slow and hostile peers, bounds, reloads and ends.
mod scan_socket;

// The systemd units, and sockets that are passed on as systemd does.
mod systemd;

// Debian's rspamd, which asks at the scan socket.
mod rspamd;

// Debian's procmail, with a recipe that acts on the exit status of check.
mod procmail;
