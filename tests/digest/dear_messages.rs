//! Messages built to be dear: a step done twice over the same bytes for each of their pieces makes their cost grow with the
//! square of their length, a call for each level of nesting overruns the stack, and what is kept for each piece fills memory.

/// A way to be dear: its name, and a message of about so many bytes.
pub(crate) type Family = (String, Box<dyn Fn(usize) -> Vec<u8>>);

const HTML: &str = "Content-Type: text/html\n\n";
const MULTIPART: &str = "Content-Type: multipart/mixed; boundary=b\n\n";
const STATUS: &str = "Content-Type: message/delivery-status\n\n";
const BASE64: &str = "Content-Transfer-Encoding: base64\n\n";
const QUOTED_PRINTABLE: &str = "Content-Transfer-Encoding: quoted-printable\n\n";

/// A beginning, and a piece that is repeated after it.
const REPEATED: [(&str, &str); 69] = [
    // Parts, nested and after each other.
    ("", "Content-Type: message/rfc822\n\n"),
    ("", STATUS),
    (STATUS, "\n"),
    (STATUS, "x\n\n"),
    (STATUS, "\r\n\r"),
    ("", "Content-Type: multipart/mixed; boundary=b\n\n--b\n"),
    ("", "Content-Type: multipart/digest; boundary=b\n\n--b\n"),
    (MULTIPART, "--b\n\nx\n"),
    (MULTIPART, "--b\n"),
    (MULTIPART, "--b \t\r"),
    (MULTIPART, "--b--\n"),
    (MULTIPART, "--b\n\nx\n--b--\n"),
    (MULTIPART, "--x\n"),
    (MULTIPART, "--b\nFrom x\nFrom x\n"),
    // Headers.
    ("", "From x\n"),
    ("", ":\n"),
    ("", " \n"),
    ("Content-Type: text/plain", "\n x"),
    ("Content-Type: text/plain", ";"),
    ("Content-Type: text/plain", ";x=\""),
    ("Content-Type: text/plain", "\\\""),
    ("Content-Type: text/plain", ";x*0=y"),
    ("Content-Type: text/plain", ";charset*0=y"),
    ("Content-Type: text/plain", ";charset*0*=%41%"),
    ("Content-Type: text/plain", "; charset*1=\"'"),
    ("Content-Type: text/plain; charset=", "x-"),
    ("Content-Type: multipart/mixed; boundary=", "-"),
    // HTML.
    (HTML, "<"),
    (HTML, "<<"),
    (HTML, "<a "),
    (HTML, "<a b='"),
    (HTML, "<a b=\"'\" '"),
    (HTML, "<a '"),
    (HTML, "<a b =' "),
    (HTML, "<a b=c "),
    (HTML, "<a/"),
    (HTML, "</"),
    (HTML, "</a "),
    (HTML, "</script "),
    (HTML, "<script></script>"),
    ("Content-Type: text/html\n\n<script>", "</script "),
    ("Content-Type: text/html\n\n<style>", "</ style"),
    ("Content-Type: text/html\n\n<!--", "-- "),
    ("Content-Type: text/html\n\n<!--", "-"),
    (HTML, "<!-- "),
    ("Content-Type: text/html\n\n<![cdata[", "] ]  "),
    (HTML, "<![if ]"),
    (HTML, "<?"),
    (HTML, "<!x "),
    (HTML, "&"),
    (HTML, "&amp"),
    (HTML, "&x"),
    (HTML, "&#"),
    (HTML, "&#1"),
    (HTML, "<a x=&#1"),
    (HTML, "&CounterClockwiseContourIntegra&"),
    (HTML, "<p>x"),
    // Lines.
    ("\n", "a:"),
    ("\n", "@"),
    ("\n", "\u{131}"),
    ("\n", "\u{3000}"),
    ("\n", "12345678\n"),
    // Transfer encodings and charsets.
    (QUOTED_PRINTABLE, "=\r"),
    (QUOTED_PRINTABLE, "=\n"),
    (BASE64, "=A"),
    (
        "Content-Transfer-Encoding: x-uuencode\n\nbegin 6 x\n",
        "!\n",
    ),
    ("Content-Transfer-Encoding: x-uuencode\n\n", "begin 8 x\n"),
    ("Content-Type: text/plain; charset=utf-7\n\n", "+A"),
    (
        "Content-Type: text/plain; charset=iso-2022-jp\n\n",
        "\u{1b}((",
    ),
];

/// What is dear by the rules for HTML of newer Pythons, if it is.
const REPEATED_IN_HTML5: [(&str, &str); 22] = [
    ("", "<"),
    ("", "<<"),
    ("", "<a "),
    ("", "<a b='"),
    ("", "<a b=\"'\" '"),
    ("", "<a b = '"),
    ("", "<a b=c "),
    ("", "<a/"),
    ("", "</"),
    ("", "</a "),
    ("", "</a b='"),
    ("", "<a =\"></a '>"),
    ("<script>", "</script"),
    ("", "<title></title>"),
    ("", "<xmp></xmp "),
    ("", "<plaintext>"),
    ("<!--", "--!"),
    ("<!--", "-"),
    ("", "<!-->"),
    ("", "<![CDATA[ ]]"),
    ("", "<!x "),
    ("", "&am"),
];

/// All of them.
pub(crate) fn families() -> Vec<Family> {
    let in_html5 = REPEATED_IN_HTML5.map(|(beginning, piece)| {
        // Older Pythons fail on the first thing in it.
        (format!("{HTML}<![x]>{beginning}"), piece)
    });
    let repeated_pieces = REPEATED.map(|(beginning, piece)| (beginning.to_owned(), piece));
    let mut families: Vec<Family> = repeated_pieces
        .into_iter()
        .chain(in_html5)
        .map(|(beginning, piece)| -> Family {
            let name = format!("{beginning:?} {piece:?}");
            let message = move |bytes| repeated(&beginning, piece, bytes);
            (name, Box::new(message))
        })
        .collect();
    families.push(("many boundaries".to_owned(), Box::new(many_boundaries)));
    families.push(("a long boundary".to_owned(), Box::new(long_boundary)));
    families.push(("gaps in HTML".to_owned(), Box::new(gaps)));
    families.push(("many parameters".to_owned(), Box::new(many_parameters)));
    families
}

fn repeated(beginning: &str, piece: &str, bytes: usize) -> Vec<u8> {
    let times = bytes / piece.len();
    [beginning.as_bytes(), &piece.as_bytes().repeat(times)].concat()
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

/// What looks ahead over white space, with much of it.
fn gaps(bytes: usize) -> Vec<u8> {
    let gap = " ".repeat(bytes.isqrt());
    let piece = format!("<a b{gap}={gap}'<![if ]{gap}>]{gap}]{gap}</{gap}");
    repeated("Content-Type: text/html\n\n<script>", &piece, bytes)
}

/// Parameters in sections, each of another name.
fn many_parameters(bytes: usize) -> Vec<u8> {
    let parameters = (0..bytes / 9).map(|number| format!(";p{number:04x}*=\""));
    format!("Content-Type: text/plain{}", parameters.collect::<String>()).into_bytes()
}
