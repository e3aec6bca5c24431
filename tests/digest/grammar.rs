//! Messages from a grammar that leans to damage: every construct that decides what a digest is made of, right and wrong.

use super::html;
use super::random::Random;
use super::vocabulary::{
    CHARSETS, LINE_ENDS, MESSAGES, MULTIPARTS, NAMES, ODD_CHARSETS, SPECIAL_SEQUENCES, SUBTYPES,
    TRANSFER_ENCODINGS, WORDS,
};

/// Entities nest no deeper than this.
const MAX_DEPTH: usize = 4;

/// A message of those that a seed stands for.
pub(crate) fn message_of_run(seed: u64, number: u64) -> Vec<u8> {
    // Seeds of messages are far apart from those of the next run.
    message(seed.wrapping_mul(0x1_0000_0001).wrapping_add(number))
}

/// The message of a seed.
pub(crate) fn message(seed: u64) -> Vec<u8> {
    let mut generator = Generator {
        random: Random::new(seed),
        boundaries: Vec::new(),
    };
    let mut message = Vec::new();
    if generator.random.chance(5) {
        message.extend(b"From sender@example.org Sat Nov 21 10:00:00 2026\n");
    }
    message.extend(generator.entity(0));
    if generator.random.chance(15) {
        generator.damage(&mut message, 3);
    }
    message
}

struct Generator {
    random: Random,
    /// Those in use around what is being written.
    boundaries: Vec<Vec<u8>>,
}

impl Generator {
    fn entity(&mut self, depth: usize) -> Vec<u8> {
        let headers = |content_type: &[u8], transfer_encoding: &[u8]| {
            [content_type, transfer_encoding].concat()
        };
        let is_leaf = depth >= MAX_DEPTH || self.random.chance(50 + 10 * depth.min(2));
        if is_leaf {
            return self.leaf(headers);
        }
        if self.random.chance(25) {
            let kind = self.random.pick(&MESSAGES);
            let header = self.content_type(kind, &[]);
            let mut inner = self.entity(depth + 1);
            if kind.ends_with("status") {
                inner.extend(self.line_end());
                inner.extend(self.entity(depth + 1));
            }
            return self.assemble(&header, &inner);
        }
        self.multipart(depth)
    }

    fn leaf(&mut self, join: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> Vec<u8> {
        let kind = self.random.pick(&SUBTYPES);
        let charset = self.charset();
        let mut text = if kind.to_lowercase().contains("html") {
            html::fragment(&mut self.random)
        } else {
            self.text()
        };
        if !charset.is_empty() && self.random.chance(60) {
            text.extend(self.encoded_text(&charset));
        }
        if self.random.chance(10) {
            let at = self.random.below(text.len() + 1);
            text.splice(at..at, [0xE9, 0xA4, 0x80]);
        }
        let parameters = if self.random.chance(75) {
            vec![self.parameter("charset", charset.as_bytes())]
        } else {
            vec![]
        };
        let content_type = if self.random.chance(90) {
            self.content_type(kind, &parameters)
        } else {
            vec![]
        };
        let (transfer_encoding, body) = self.transfer_encoded(&text);
        self.assemble(&join(&content_type, &transfer_encoding), &body)
    }

    fn multipart(&mut self, depth: usize) -> Vec<u8> {
        let kind = self.random.pick(&MULTIPARTS);
        let boundary = self.boundary();
        let mut parameters = vec![];
        if self.random.chance(93) {
            parameters.push(self.parameter("boundary", &boundary));
        }
        if self.random.chance(10) {
            parameters.push(self.parameter("charset", b"utf-8"));
        }
        let header = self.content_type(kind, &parameters);
        let delimiter = trimmed(&boundary);
        self.boundaries.push(delimiter.clone());
        let mut body = if self.random.chance(40) {
            self.text()
        } else {
            vec![]
        };
        for _ in 0..self.random.below(4) {
            body.extend(self.delimiter(&delimiter));
            if self.random.chance(5) {
                body.extend(self.delimiter(&delimiter));
            }
            body.extend(self.entity(depth + 1));
            body.extend(self.line_end());
        }
        if self.random.chance(80) {
            body.extend([b"--", &*delimiter, b"--"].concat());
            body.extend(self.blanks());
            body.extend(self.line_end());
        }
        if self.random.chance(30) {
            body.extend(self.text());
        }
        self.boundaries.pop();
        self.assemble(&header, &body)
    }

    fn boundary(&mut self) -> Vec<u8> {
        if !self.boundaries.is_empty() && self.random.chance(15) {
            let outer = self.boundaries[self.random.below(self.boundaries.len())].clone();
            return match self.random.below(3) {
                0 => outer,
                1 => [&*outer, b"--"].concat(),
                _ => [&*outer, b"x"].concat(),
            };
        }
        self.random
            .pick(&[
                "b", "bound", "=_x.y", "a b", "", "b ", "x--", "é", "a\"b", "a\\b", "a;b", "'q'",
                "<b>", "\u{b}b",
            ])
            .as_bytes()
            .to_vec()
    }

    fn delimiter(&mut self, boundary: &[u8]) -> Vec<u8> {
        let wrong: &[u8] = if self.random.chance(4) { b"x" } else { b"" };
        let mut line = [b"--", boundary, wrong].concat();
        line.extend(self.blanks());
        line.extend(self.line_end());
        line
    }

    fn blanks(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => b"  \t".to_vec(),
            1 => b" ".to_vec(),
            2 => b"\x0b".to_vec(),
            _ => vec![],
        }
    }

    fn line_end(&mut self) -> Vec<u8> {
        LINE_ENDS[self.random.below(LINE_ENDS.len())].to_vec()
    }

    /// Headers in a body, and what parts them from it.
    fn assemble(&mut self, headers: &[u8], body: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        if self.random.chance(30) {
            whole.extend(self.odd_header());
        }
        whole.extend_from_slice(headers);
        if self.random.chance(20) {
            whole.extend(self.odd_header());
        }
        if self.random.chance(94) {
            let blank: &[u8] = self.random.pick(&[b"\n", b"\n", b"\n", b"\r\n", b"\r"]);
            whole.extend_from_slice(blank);
        }
        whole.extend_from_slice(body);
        whole
    }

    fn odd_header(&mut self) -> Vec<u8> {
        let odd: &[&[u8]] = &[
            b"Subject: x\n",
            b"From x\n",
            b"From : y\n",
            b": no name\n",
            b" continued\n",
            b"no colon at all\n",
            b"X:\n y\n",
            b"Content-Type: text/html\n",
            b"Content-Transfer-Encoding: base64\n",
            b"X-\xe9: y\n",
            b"Sp ace: x\n",
            b"\tx\n",
            b"Content-Type: message/delivery-status\n",
            b"MIME-Version: 1.0\r\n",
            b"content-type:text/html;charset=utf-8\r",
            b"Content-Transfer-Encoding:\n quoted-printable\n",
            b"\x0bX: y\n",
            b"From y\n\tz\n",
        ];
        self.random.pick(odd).to_vec()
    }

    fn content_type(&mut self, kind: &str, parameters: &[Vec<u8>]) -> Vec<u8> {
        let name: &[u8] = self.random.pick(&[
            b"Content-Type:",
            b"Content-Type:",
            b"content-type:",
            b"Content-Type :",
        ]);
        let mut header = name.to_vec();
        header.extend(self.random.pick(&[" ", " ", "", "\t", "\n "]).as_bytes());
        header.extend(kind.as_bytes());
        for parameter in parameters {
            header.extend(
                self.random
                    .pick(&[
                        "; ",
                        ";",
                        ";\n ",
                        ";\r\n\t",
                        " ; ",
                        " (a; b) ; ",
                        ";x=y;",
                        ";\"q;",
                        ";;",
                    ])
                    .as_bytes(),
            );
            header.extend(parameter);
        }
        header.extend(
            self.random
                .pick(&["", "", "", ";", " (comment)", "; x", ";a=\"", "\u{1c}"])
                .as_bytes(),
        );
        let line_end: &[u8] = self.random.pick(&[b"\n", b"\n", b"\n", b"\r\n", b"\r"]);
        header.extend(line_end);
        header
    }

    fn parameter(&mut self, name: &str, value: &[u8]) -> Vec<u8> {
        let name = name.as_bytes();
        let encoded: Vec<u8> = value
            .iter()
            .flat_map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => vec![*byte],
                _ => format!("%{byte:02x}").into_bytes(),
            })
            .collect();
        let (half, rest) = value.split_at(value.len() / 2);
        let language = self
            .random
            .pick(&[
                "utf-8'en'",
                "us-ascii''",
                "'",
                "''",
                "",
                "x-y'z'",
                "utf-16''",
                "unicode_escape''",
            ])
            .as_bytes();
        match self.random.below(24) {
            0..=6 => [name, b"=", value].concat(),
            7..=14 => [name, b"=\"", value, b"\""].concat(),
            15 => [name, b" = \"", value, b"\" "].concat(),
            16 => [name, b"*=", language, &*encoded].concat(),
            17 => [name, b"*0=\"", half, b"\"; ", name, b"*1=", rest].concat(),
            18 => [name, b"*1=", rest, b"; ", name, b"*0=", half].concat(),
            19 => [name, b"*0*=", language, half, b";", name, b"*1*=", rest].concat(),
            20 => [name, b"*=", value, b";", name, b"*0=", value].concat(),
            21 => [name, b"=<", value, b">"].concat(),
            22 => [name, b"=\"", value].concat(),
            _ => [&name.to_ascii_uppercase(), &b"='"[..], value, b"'"].concat(),
        }
    }

    fn charset(&mut self) -> String {
        match self.random.below(20) {
            0..=10 => self.random.pick(&CHARSETS).to_owned(),
            11..=16 => {
                let names = NAMES.lines().filter_map(|line| line.split(' ').next());
                let names: Vec<&str> = names.filter(|name| *name != "punycode").collect();
                let name = self.random.pick(&names);
                self.respelt(name)
            }
            _ => self.random.pick(&ODD_CHARSETS).to_owned(),
        }
    }

    /// The same name to Python, or nearly.
    fn respelt(&mut self, name: &str) -> String {
        match self.random.below(5) {
            0 => name.to_uppercase(),
            1 => name.replace('_', "-"),
            2 => name.replace('_', " "),
            3 => format!("_{}!", name.replace('_', "--")),
            _ => name.to_owned(),
        }
    }

    /// Bytes such as this charset uses, in runs that are short enough to count.
    fn encoded_text(&mut self, charset: &str) -> Vec<u8> {
        let mut text = Vec::new();
        let special = special_sequences(&charset.to_lowercase());
        for _ in 0..self.random.below(40) {
            let [first, second, third, fourth] = [(); 4].map(|()| self.random.byte());
            match self.random.below(10) {
                0 => text.extend(b" word "),
                1 => text.push(b'\n'),
                2 => text.push(first),
                3 | 4 if !special.is_empty() => text.extend(self.random.pick(special)),
                5 => text.extend([
                    0x81 + first % 0x20,
                    b'0' + second % 11,
                    0x81 + third % 127,
                    b'0' + fourth % 11,
                ]),
                6 => text.extend([0x8F, first | 0x80, second | 0x80]),
                7 => text.extend([first & 0x7F | 0x20, second & 0x7F | 0x20]),
                8 => text.push(b' '),
                _ => text.extend([first | 0x80, second | 0x40]),
            }
        }
        text
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.random.below(5) {
            for _ in 0..self.random.below(7) {
                text.extend(self.random.pick(&WORDS).as_bytes());
                text.extend(self.random.pick(&[" ", " ", "", "\t", ", "]).as_bytes());
            }
            if self.random.chance(4) && !self.boundaries.is_empty() {
                let boundary = self.boundaries[self.random.below(self.boundaries.len())].clone();
                text.extend([b"\n--", &*boundary].concat());
            }
            text.extend(self.line_end());
        }
        text
    }

    fn transfer_encoded(&mut self, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if self.random.chance(35) {
            return (vec![], text.to_vec());
        }
        let name = self.random.pick(&TRANSFER_ENCODINGS);
        let mut body = match name.to_lowercase().as_bytes() {
            [b'q', ..] => self.quoted_printable(text),
            [b'b', b'a', ..] => self.base64(text),
            [b'u' | b'x', ..] => self.uuencoded(text),
            _ => text.to_vec(),
        };
        if self.random.chance(30) {
            self.damage(&mut body, 4);
        }
        (
            format!("Content-Transfer-Encoding: {name}\n").into_bytes(),
            body,
        )
    }

    fn quoted_printable(&mut self, text: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for byte in text {
            match byte {
                b'=' | 0x80.. => encoded.extend(
                    match self.random.below(8) {
                        0 => format!("={byte:02x}"),
                        1 => "==".to_owned(),
                        2 => "=\r\n".to_owned(),
                        3 => "= \n".to_owned(),
                        _ => format!("={byte:02X}"),
                    }
                    .bytes(),
                ),
                byte => encoded.push(*byte),
            }
            if self.random.chance(3) {
                encoded.extend(
                    self.random
                        .pick(&["=\n", "=\r", "=", "=G1", "=4"])
                        .as_bytes(),
                );
            }
        }
        encoded
    }

    fn base64(&mut self, text: &[u8]) -> Vec<u8> {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut encoded = Vec::new();
        for group in text.chunks(3) {
            let bits = group
                .iter()
                .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
                << (8 * (3 - group.len()));
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 63;
                encoded.push(if digit > group.len() {
                    b'='
                } else {
                    DIGITS[value]
                });
            }
            if self.random.chance(10) {
                encoded.extend(self.line_end());
            }
        }
        match self.random.below(10) {
            0 => {
                encoded.pop();
            }
            1 => encoded.extend(b"="),
            2 => encoded.extend(b"==\nQUJD"),
            3 => encoded.extend(
                self.random
                    .pick(&["!", " ", "A", "\u{e9}", "====", "\n"])
                    .bytes(),
            ),
            _ => encoded.push(b'\n'),
        }
        encoded
    }

    fn uuencoded(&mut self, text: &[u8]) -> Vec<u8> {
        let mut encoded = self
            .random
            .pick(&[
                "begin 644 x\n",
                "begin 644\n",
                "junk\nbegin 0o644 y z\n",
                "begin 9 x\nbegin 6_4 x\n",
                "begin  x\n",
                "begin",
                "begin +7 \r\n",
            ])
            .as_bytes()
            .to_vec();
        let space = if self.random.chance(50) { b'`' } else { b' ' };
        let digit = |value: u32| {
            if value == 0 {
                space
            } else {
                b' ' + value.to_le_bytes()[0]
            }
        };
        for line in text.chunks(45) {
            encoded.push(b' ' + u8::try_from(line.len()).expect("45 at most"));
            for group in line.chunks(3) {
                let bits = group
                    .iter()
                    .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                    << (8 * (3 - group.len()));
                encoded.extend([18, 12, 6, 0].map(|shift| digit(bits >> shift & 63)));
            }
            encoded.extend(
                self.random
                    .pick(&["\n", "\n", "\r\n", " \n", "`\n", "x\n", "\r"])
                    .as_bytes(),
            );
        }
        encoded.extend(
            self.random
                .pick(&["`\nend\n", " \nend\n", "end", " end\t\n", "", "\nend\n"])
                .as_bytes(),
        );
        encoded
    }

    /// A few bytes changed, added, taken out or doubled.
    fn damage(&mut self, text: &mut Vec<u8>, times: usize) {
        for _ in 0..=self.random.below(times) {
            let at = self.random.below(text.len() + 1);
            let end = text.len().min(at + self.random.below(6));
            let inserted: Vec<u8> = match self.random.below(4) {
                0 => vec![],
                1 => vec![self.random.byte()],
                2 => self
                    .random
                    .pick(&[
                        "\n", "\r", "\0", "=", "<", ">", "&", "\"", "--", ";", "\n\n", "!",
                    ])
                    .as_bytes()
                    .to_vec(),
                _ => text[at..end].repeat(2),
            };
            text.splice(at..end, inserted);
        }
    }
}

/// What has a meaning of its own in a charset.
fn special_sequences(charset: &str) -> &'static [&'static [u8]] {
    let sequences = SPECIAL_SEQUENCES.iter();
    let mut found = sequences.filter(|(part, _)| charset.contains(part));
    found.next().map_or(&[], |(_, sequences)| sequences)
}

/// As a boundary is after it was read as a parameter, mostly.
fn trimmed(boundary: &[u8]) -> Vec<u8> {
    boundary.trim_ascii_end().to_vec()
}
