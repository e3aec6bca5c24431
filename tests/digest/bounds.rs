//! Bounds: no message makes the digester panic, and none costs more than its length.
//!
//! The long messages here are built to be dear: a step done twice over the same bytes for each of their pieces would take
//! hours, and a call for each level of nesting would overrun the stack.

use pyzor::digester;

use super::grammar;
use super::random::Random;

const RANDOM_MESSAGES: u64 = 1_000_000;

/// Messages that the random ones are pieced together from.
const POOL: u64 = 500;

/// Of each of two messages at most so much is taken, in bytes.
const MAX_PIECE_BYTES: usize = 160;

#[test]
fn a_million_random_messages_are_digested() {
    let pool: Vec<Vec<u8>> = (0..POOL).map(grammar::message).collect();
    let mut random = Random::new(3);
    for _ in 0..RANDOM_MESSAGES {
        let mut message = piece(&pool, &mut random).to_vec();
        message.extend_from_slice(piece(&pool, &mut random));
        if let Some(place) = message.len().checked_sub(1) {
            let place = random.below(place + 1);
            message[place] = random.byte();
        }
        let lines = digester::predigest(&message);
        let bytes: usize = lines.iter().map(Vec::len).sum();
        // A byte becomes at most three of UTF-8, or one reference a few; two pieces of lines may overlap.
        assert!(bytes <= 6 * message.len(), "{}", message.escape_ascii());
    }
}

fn piece<'a>(pool: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    let whole = &pool[random.below(pool.len())];
    let start = random.below(whole.len() + 1);
    let rest = &whole[start..];
    &rest[..rest.len().min(random.below(MAX_PIECE_BYTES))]
}

/// A beginning, and a piece that is repeated after it.
fn repeated(beginning: &str, piece: &str, bytes: usize) -> Vec<u8> {
    let times = bytes / piece.len();
    [beginning.as_bytes(), &piece.as_bytes().repeat(times)].concat()
}

/// Messages of about so many bytes, each dear in a way of its own.
fn dear_messages(bytes: usize) -> Vec<Vec<u8>> {
    let html = "Content-Type: text/html\n\n";
    let multipart = "Content-Type: multipart/mixed; boundary=b\n\n";
    let mut messages: Vec<Vec<u8>> = [
        ("", "Content-Type: message/rfc822\n\n"),
        ("", "Content-Type: message/delivery-status\n\n"),
        ("Content-Type: message/delivery-status\n\n", "\n"),
        ("", "Content-Type: multipart/mixed; boundary=b\n\n--b\n"),
        (multipart, "--b\n\nx\n"),
        (multipart, "--b\n"),
        (multipart, "--b--\n"),
        ("Content-Type: text/plain", ";x=\""),
        ("Content-Type: text/plain", ";x*0=y"),
        ("Content-Type: text/plain", "; charset*1=\"'"),
        ("Content-Type: text/plain", "\n x"),
        ("", "From x\n"),
        (html, "<"),
        (html, "<a b='"),
        (html, "<a b=\"'\" '"),
        (html, "<a '"),
        (html, "</"),
        (html, "</script "),
        ("Content-Type: text/html\n\n<script>", "</script "),
        ("Content-Type: text/html\n\n<!--", "-- "),
        ("Content-Type: text/html\n\n<![cdata[", "] ]  "),
        (html, "<![if ]"),
        (html, "&amp"),
        (html, "&x"),
        (html, "&#"),
        (html, "<a x=&#1"),
        (html, "<p>x"),
        ("\n", "a:"),
        ("\n", "@"),
        ("\n", "\u{131}"),
        ("\n", "\u{3000}"),
        ("Content-Transfer-Encoding: quoted-printable\n\n", "=\r"),
        ("Content-Transfer-Encoding: base64\n\n", "=A"),
        (
            "Content-Transfer-Encoding: x-uuencode\n\nbegin 6 x\n",
            "!\n",
        ),
        ("Content-Type: text/plain; charset=utf-7\n\n", "+A"),
        (
            "Content-Type: text/plain; charset=iso-2022-jp\n\n",
            "\u{1b}((",
        ),
    ]
    .into_iter()
    .map(|(beginning, piece)| repeated(beginning, piece, bytes))
    .collect();
    messages.push(many_boundaries(bytes));
    messages.push(long_boundary(bytes));
    messages
}

/// Multiparts in each other, each with a boundary of its own.
fn many_boundaries(bytes: usize) -> Vec<u8> {
    let levels = (0..bytes / 60)
        .map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"));
    levels.collect::<String>().into_bytes()
}

/// The same around a long boundary, which ends them all again and again.
fn long_boundary(bytes: usize) -> Vec<u8> {
    let long = "x".repeat(bytes / 4);
    let inner = "Content-Type: multipart/mixed; boundary=b\n\n--b\n".repeat(bytes / 200);
    let outer = format!("Content-Type: multipart/mixed; boundary={long}\n\n--{long}\n");
    format!("{outer}{inner}--{long}\n{inner}").into_bytes()
}

#[test]
fn long_messages_are_digested_in_linear_time() {
    const LONG_BYTES: usize = 1_000_000;
    for message in dear_messages(LONG_BYTES) {
        digester::digest_of(&message);
    }
}
