//! Bounds: no message makes the digester panic, and none takes more memory than its length allows, whatever is in it. That the
//! work grows no faster either is shown by `tests/digest/bounds.rs`.

#[path = "../../tests/digest/dear_messages.rs"]
mod dear_messages;
#[expect(clippy::expect_used, reason = "what tests share fails as tests do")]
#[path = "../../tests/digest/grammar.rs"]
mod grammar;
#[path = "../../tests/digest/html.rs"]
mod html;
#[expect(clippy::expect_used, reason = "what tests share fails as tests do")]
#[path = "../../tests/harness/random.rs"]
mod random;
#[path = "../../tests/digest/vocabulary.rs"]
mod vocabulary;

use allocation_counter::measure;
use pyzor::digester;
use random::Random;

const RANDOM_MESSAGES: u64 = 1_000_000;

/// Messages that the random ones are pieced together from.
const POOL: u64 = 500;

/// Of each of two messages at most so much is taken, in bytes.
const MAX_PIECE_BYTES: usize = 160;

/// At no time does digesting take more memory than this for each byte of the message,
const MAX_PEAK_BYTES_A_BYTE: u64 = 24;

/// and this for a message of any length.
const FIXED_BYTES: u64 = 4_096;

/// Nor does it allocate more than this in total.
const MAX_TOTAL_BYTES_A_BYTE: u64 = 48;

const DEAR_BYTES: usize = 1 << 20;

/// Names and characters are looked up in tables that are made once.
const NEEDS_TABLES: &[u8] = b"Content-Type: text/html; charset=koi8-r\n\n<p>&amp;</p>";

#[test]
fn a_million_random_messages_take_little_memory() {
    digester::digest_of(NEEDS_TABLES);
    let pool: Vec<Vec<u8>> = (0..POOL)
        .map(|number| grammar::message_of_run(0, number))
        .collect();
    let mut random = Random::new(3);
    for _ in 0..RANDOM_MESSAGES {
        let mut message = piece(&pool, &mut random).to_vec();
        message.extend_from_slice(piece(&pool, &mut random));
        if let Some(place) = message.len().checked_sub(1) {
            let place = random.below(place + 1);
            message[place] = random.byte();
        }
        assert_memory_is_bounded(&message, "a random message");
    }
}

#[test]
fn dear_messages_take_memory_by_their_length() {
    digester::digest_of(NEEDS_TABLES);
    for (name, message) in dear_messages::families() {
        assert_memory_is_bounded(&message(DEAR_BYTES), &name);
    }
}

fn assert_memory_is_bounded(message: &[u8], name: &str) {
    let mut bytes = 0;
    let memory = measure(|| bytes = digester::predigest(message).iter().map(Vec::len).sum());
    let length = message.len() as u64;
    let shown = || {
        let beginning = &message[..message.len().min(500)];
        format!("{name}: {}", beginning.escape_ascii())
    };
    // A byte becomes at most three of UTF-8, or one reference a few; two pieces of lines may overlap.
    assert!(bytes <= 6 * message.len(), "{bytes} bytes: {}", shown());
    let allowed = |a_byte: u64| FIXED_BYTES + a_byte * length;
    assert!(
        memory.bytes_max <= allowed(MAX_PEAK_BYTES_A_BYTE)
            && memory.bytes_total <= allowed(MAX_TOTAL_BYTES_A_BYTE),
        "{length} bytes take {memory:?}: {}",
        shown()
    );
}

fn piece<'a>(pool: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    let whole = &pool[random.below(pool.len())];
    let start = random.below(whole.len() + 1);
    let rest = &whole[start..];
    &rest[..rest.len().min(random.below(MAX_PIECE_BYTES))]
}
