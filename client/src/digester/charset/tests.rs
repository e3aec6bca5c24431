use super::*;

fn decoded(name: &str, bytes: &[u8]) -> String {
    String::from_utf8(decode(name, bytes, OnError::Ignore).unwrap()).unwrap()
}

#[test]
fn an_unknown_charset_is_ascii() {
    let text = decode_text(Some("x-unknown"), b"a\xE9b").unwrap();
    assert_eq!(text, b"ab");
    let text = decode_opaque(Some("x-unknown"), b"a\xE9\xE9b").unwrap();
    assert_eq!(text, "a\u{FFFD}\u{FFFD}b".as_bytes());
}
