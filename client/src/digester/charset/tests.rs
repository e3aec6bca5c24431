use super::*;

fn decoded(name: &str, bytes: &[u8], on_error: OnError) -> String {
    String::from_utf8(decode(name, bytes, on_error).unwrap()).unwrap()
}

fn ignoring(name: &str, bytes: &[u8]) -> String {
    decoded(name, bytes, OnError::Ignore)
}

#[test]
fn an_unknown_charset_is_ascii() {
    let text = decode_text(Some("x-unknown"), b"a\xE9b").unwrap();
    assert_eq!(text, b"ab");
    let text = decode_opaque(Some("x-unknown"), b"a\xE9\xE9b").unwrap();
    assert_eq!(text, "a\u{FFFD}\u{FFFD}b".as_bytes());
}

#[test]
fn python_takes_names_at_their_word() {
    assert_eq!(ignoring("iso-8859-1", b"\x80"), "\u{80}");
    assert_eq!(ignoring("windows-1252", b"\x80\x81"), "€");
    assert_eq!(ignoring("gb2312", b"\x81\x30\x81\x30"), "00");
    assert_eq!(ignoring("gb18030", b"\x81\x30\x81\x30"), "\u{80}");
}

#[test]
fn a_byte_that_begins_nothing_spares_the_next() {
    assert_eq!(ignoring("shift_jis", b"\x81\xFFA"), "A");
    assert_eq!(ignoring("euc-jp", b"\x8F\xA1AB"), "AB");
    assert_eq!(ignoring("gb18030", b"\x9A8\xFF2\xB0\xD4r"), "82霸r");
    assert_eq!(
        decoded("big5", b"\xFF\xFF", OnError::Replace),
        "\u{FFFD}\u{FFFD}"
    );
}

#[test]
fn a_pair_that_came_later_goes_as_a_whole() {
    assert_eq!(ignoring("shift_jisx0213", b"a\x98sb"), "ab");
    assert_eq!(ignoring("shift_jis", b"a\x98sb"), "asb");
    assert_eq!(ignoring("euc-jisx0213", b"a\xF4\xA7\xA4\xA2"), "aあ");
}

#[test]
fn what_could_begin_something_goes_at_the_end() {
    assert_eq!(ignoring("gb18030", b"a\x8100"), "a");
    assert_eq!(ignoring("euc-kr", b"a\xA4\xD4bcdef"), "a");
    assert_eq!(ignoring("iso-2022-jp", b"a\x1B(bcd"), "a");
    assert_eq!(
        decoded("utf-16le", b"\x00\xD8x", OnError::Replace),
        "\u{FFFD}"
    );
}

#[test]
fn korean_syllables_may_be_spelt() {
    let spelt = b"\xA4\xD4\xA4\xA1\xA4\xBF\xA4\xA2";
    assert_eq!(ignoring("euc-kr", spelt), "갂");
}

#[test]
fn shifts_and_what_is_no_shift() {
    assert_eq!(
        ignoring("iso-2022-jp", b"\x1B$B$\"\x1B(Ba\x1Bxyz@"),
        "あa\x1Bxyz@"
    );
    assert_eq!(ignoring("iso-2022-kr", b"\x1B$)C\x0E0!\x0Fa"), "가a");
    assert_eq!(ignoring("hz", b"~{0!~}a~~~\nb"), "啊a~b");
    assert_eq!(ignoring("iso-2022-jp-2", b"\x1B.F\x1BNa"), "α");
    let crash = decode("iso-2022-jp-2", b"\x1B.J\x1BNa", OnError::Ignore);
    assert_eq!(crash, Err(Failure::Crash));
}

#[test]
fn utf7_reads_a_section_to_what_is_no_base64() {
    assert_eq!(
        ignoring("utf-7", b"+AOk-a+AOk!b+-c+2D3eAA-"),
        "éaé!b+c\u{1F600}"
    );
    assert_eq!(ignoring("utf-7", b"+AO!a+AOl-b\xE9+!c"), "aébc");
}

#[test]
fn a_text_that_is_no_text_fails_where_errors_count() {
    assert_eq!(
        decode("utf-8", b"\xFF", OnError::Strict),
        Err(Failure::Undecodable)
    );
    assert_eq!(
        decode("idna", b"a", OnError::Ignore),
        Err(Failure::Undecodable)
    );
    assert_eq!(decode("idna", b"", OnError::Ignore), Ok(vec![]));
    assert_eq!(decode("a\0", b"", OnError::Ignore), Err(Failure::Crash));
}
