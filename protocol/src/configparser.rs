//! Reads what Python's `configparser` reads (`ConfigParser()` of `CPython` 3.11), and refuses what it refuses.
//!
//! Sections, `=` or `:`, option names in any case, full-line comments with `#` or `;`, values that go on over indented
//! lines, a `[DEFAULT]` section that every other one falls back to, and `%(name)s` in values with `%%` for a percent
//! sign. A byte order mark before the text does not matter. Unlike Python, which stops at the first error of some kinds, this collects every one; and what a value may
//! expand to is bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::text::is_space;

/// The section whose options every other section has too.
const DEFAULT_SECTION: &str = "DEFAULT";

/// How deep references in values may nest, as in Python.
const MAX_INTERPOLATION_DEPTH: usize = 10;

/// Steps one value may take to expand. Python has no such bound, and ten nested levels are enough to hang it.
const MAX_INTERPOLATION_STEPS: usize = 1_000;

/// Bytes that a value may have grown to before one more step of its expansion.
const MAX_EXPANDED_BYTES: usize = 64 * 1024;

/// What some editors put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Characters that may separate a name from its value.
const DELIMITERS: [char; 2] = ['=', ':'];

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, with this option.
    Flag(&'static str),
    /// In the configuration file, under this key.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// The key as the documentation writes it.
        key: &'static str,
    },
}

/// Names the place, as in `FILE:LINE: KEY` or `--option`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}

impl Origin {
    /// Repeats what was written there, in the words of the place.
    pub fn with_value(&self, value: &str) -> String {
        let value = value.replace('\n', " ");
        match self {
            Self::Flag(_) => format!("{self} {value}"),
            Self::File { .. } => format!("{self} = {value}"),
        }
    }
}

/// A file that was read, whatever was wrong with it.
#[derive(Debug, Default)]
pub struct ConfigFile {
    defaults: Section,
    sections: BTreeMap<String, Section>,
    /// By name, the lines of the sections' headers.
    headers: BTreeMap<String, usize>,
    /// By lower-case name, the options that a program gives each section before it reads the file.
    known: BTreeMap<String, Known>,
}

/// An option that a program knows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// On the command line, which beats the file.
    typed: Option<String>,
    /// What holds if nobody sets it.
    default: String,
}

/// Options by lower-case name.
type Section = BTreeMap<String, Entry>;

/// One option as written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    line: usize,
    /// The value's lines; joined and trimmed they are the raw value.
    value_lines: Vec<String>,
}

/// A line that cannot be read, or cannot be meant. Lines are not quoted, because a password may be in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// In words.
    pub message: String,
}

/// The value of an option, references replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where the option begins, counted from 1.
    pub line: usize,
    /// The text.
    pub text: String,
}

impl ConfigFile {
    /// Reads a whole file.
    pub fn parse(text: &str) -> (Self, Vec<SyntaxError>) {
        let mut reader = Reader::default();
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        for (index, line) in universal_lines(text).enumerate() {
            reader.line(index + 1, line);
        }
        (reader.file, reader.errors)
    }

    /// Lets values refer to an option by its name although the file does not set it: `default` is its value then, and
    /// `typed` beats the file. The Python programs set each of their options before they read the file, so `[DEFAULT]` does
    /// not reach these.
    pub fn know(&mut self, name: &str, typed: Option<&str>, default: &str) {
        let known = Known {
            typed: typed.map(str::to_owned),
            default: default.to_owned(),
        };
        self.known.insert(option_key(name), known);
    }

    /// The value of an option of a section or, failing that and if the program does not know it, of the defaults.
    pub fn get(&self, section: &str, option: &str) -> Option<Result<Value, SyntaxError>> {
        let entry = self.entry(section, &option_key(option))?;
        let mut expansion = Expansion {
            file: self,
            section,
            line: entry.line,
            steps_left: MAX_INTERPOLATION_STEPS,
            text: String::new(),
        };
        Some(expansion.expand(&entry.raw_value(), 1).map(|()| Value {
            line: entry.line,
            text: expansion.text,
        }))
    }

    /// The names, as written, and lines of a section's own options.
    pub fn options(&self, section: &str) -> impl Iterator<Item = (&str, usize)> {
        let entries = self.sections.get(section).into_iter().flatten();
        entries.map(|(_, entry)| (entry.name.as_str(), entry.line))
    }

    /// The same for `[DEFAULT]`.
    pub fn defaults(&self) -> impl Iterator<Item = (&str, usize)> {
        let entries = self.defaults.values();
        entries.map(|entry| (entry.name.as_str(), entry.line))
    }

    /// The names and lines of all sections but `[DEFAULT]`.
    pub fn sections(&self) -> impl Iterator<Item = (&str, usize)> {
        let headers = self.headers.iter();
        headers.map(|(name, &line)| (name.as_str(), line))
    }

    fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        let own = self.sections.get(section)?.get(key);
        let may_inherit = !self.known.contains_key(key);
        own.or_else(|| self.defaults.get(key).filter(|_| may_inherit))
    }

    /// What a reference to an option stands for.
    fn referred(&self, section: &str, key: &str) -> Option<Meant<'_>> {
        let known = self.known.get(key);
        known
            .and_then(|known| known.typed.as_deref().map(Meant::Literal))
            .or_else(|| self.entry(section, key).map(Meant::Entry))
            .or_else(|| known.map(|known| Meant::Literal(&known.default)))
    }
}

/// The value of an option: what stands in the file, or a text that is what it is.
enum Meant<'f> {
    Entry(&'f Entry),
    Literal(&'f str),
}

impl Entry {
    fn raw_value(&self) -> String {
        trim_end(&self.value_lines.join("\n")).to_owned()
    }
}

/// The state between two lines.
#[derive(Default)]
struct Reader {
    file: ConfigFile,
    errors: Vec<SyntaxError>,
    /// Where options go; none before the first section.
    section: Option<SectionName>,
    /// The option that an indented line would continue.
    option: Option<String>,
    /// Characters of white space before the last line that began something.
    indent: usize,
}

/// Which options a header speaks of.
#[derive(Clone)]
enum SectionName {
    Default,
    Named(String),
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let content = trim(line);
        if content.starts_with(['#', ';']) {
            return;
        }
        if content.is_empty() {
            self.continue_value("");
            return;
        }
        let indent = line.chars().take_while(|&c| is_space(c)).count();
        if indent > self.indent && self.continue_value(content) {
            return;
        }
        self.indent = indent;
        match (header(content), &self.section) {
            (Some(name), _) => self.begin_section(number, name),
            (None, None) => self.error(number, "expected a section header such as [server]"),
            (None, Some(_)) => self.begin_option(number, content),
        }
    }

    /// Adds a line to the value under way, if there is one.
    fn continue_value(&mut self, content: &str) -> bool {
        let Some(key) = self.option.clone() else {
            return false;
        };
        if let Some(entry) = self.options().and_then(|options| options.get_mut(&key)) {
            entry.value_lines.push(content.to_owned());
        }
        true
    }

    fn begin_section(&mut self, number: usize, name: &str) {
        self.option = None;
        if name == DEFAULT_SECTION {
            self.section = Some(SectionName::Default);
            return;
        }
        if self.file.sections.contains_key(name) {
            self.error(number, format!("section [{name}] was there before"));
        }
        self.file.sections.entry(name.to_owned()).or_default();
        let headers = &mut self.file.headers;
        headers.entry(name.to_owned()).or_insert(number);
        self.section = Some(SectionName::Named(name.to_owned()));
    }

    fn begin_option(&mut self, number: usize, content: &str) {
        let Some((name, value)) = content.split_once(DELIMITERS) else {
            self.error(number, "expected NAME = VALUE");
            return;
        };
        let name = trim(name);
        if name.is_empty() {
            self.error(number, "expected NAME = VALUE");
            return;
        }
        let entry = Entry {
            name: name.to_owned(),
            line: number,
            value_lines: vec![trim(value).to_owned()],
        };
        let key = option_key(name);
        let earlier = self
            .options()
            .and_then(|options| options.insert(key.clone(), entry));
        if let Some(earlier) = earlier {
            self.error(
                number,
                format!("{name} was set before, in line {}", earlier.line),
            );
        }
        self.option = Some(key);
    }

    fn options(&mut self) -> Option<&mut Section> {
        match self.section.as_ref()? {
            SectionName::Default => Some(&mut self.file.defaults),
            SectionName::Named(name) => self.file.sections.get_mut(name),
        }
    }

    fn error(&mut self, line: usize, message: impl Into<String>) {
        let message = message.into();
        self.errors.push(SyntaxError { line, message });
    }
}

/// The name in a section header. What follows the last bracket is ignored, as in Python.
fn header(content: &str) -> Option<&str> {
    let inside = content.strip_prefix('[')?;
    let end = inside.rfind(']')?;
    (end > 0).then(|| &inside[..end])
}

/// One value being expanded.
struct Expansion<'f> {
    file: &'f ConfigFile,
    section: &'f str,
    line: usize,
    steps_left: usize,
    text: String,
}

impl Expansion<'_> {
    fn expand(&mut self, raw: &str, depth: usize) -> Result<(), SyntaxError> {
        if depth > MAX_INTERPOLATION_DEPTH {
            return Err(self.error("references are nested too deep"));
        }
        let mut rest = raw;
        while let Some(at) = rest.find('%') {
            self.take_step()?;
            self.text.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            rest = match after.chars().next() {
                Some('%') => {
                    self.text.push('%');
                    &after[1..]
                }
                Some('(') => self.reference(&after[1..], depth)?,
                _ => return Err(self.error("a percent sign is written %%, a reference %(name)s")),
            };
        }
        self.text.push_str(rest);
        Ok(())
    }

    /// Expands the reference that `rest` begins with; what is left after it.
    fn reference<'r>(&mut self, rest: &'r str, depth: usize) -> Result<&'r str, SyntaxError> {
        let (name, after) = rest
            .split_once(')')
            .and_then(|(name, after)| Some((name, after.strip_prefix('s')?)))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| self.error("a reference is written %(name)s"))?;
        match self.file.referred(self.section, &option_key(name)) {
            Some(Meant::Entry(entry)) => self.expand(&entry.raw_value(), depth + 1)?,
            Some(Meant::Literal(text)) => self.text.push_str(text),
            None => {
                let message = format!("%({name})s refers to an option that is not there");
                return Err(self.error(&message));
            }
        }
        Ok(after)
    }

    fn take_step(&mut self) -> Result<(), SyntaxError> {
        let fits = self.text.len() <= MAX_EXPANDED_BYTES;
        self.steps_left = self
            .steps_left
            .checked_sub(1)
            .filter(|_| fits)
            .ok_or_else(|| self.error("the value has too many references"))?;
        Ok(())
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError {
            line: self.line,
            message: message.to_owned(),
        }
    }
}

/// Option names are looked up in lower case.
fn option_key(name: &str) -> String {
    name.to_lowercase()
}

/// Lines as Python's text files see them: ended by `\n`, `\r\n` or `\r`.
fn universal_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that Python 3.11 reads as option `key` of section `s`, after `[s]` and a line break.
    const VALUES: [(&str, &str); 29] = [
        ("key = value", "value"),
        ("key: value", "value"),
        ("key=a=b:c", "a=b:c"),
        ("key : a = b", "a = b"),
        ("KEY = value", "value"),
        ("key =", ""),
        ("key = value # no comment", "value # no comment"),
        ("key = value ; no comment", "value ; no comment"),
        ("# comment\n; comment\n  # comment\nkey = value", "value"),
        ("key = one\n two\n\tthree", "one\ntwo\nthree"),
        ("key = one\n\n two", "one\n\ntwo"),
        ("key = one\n\n\nother = x", "one"),
        ("key = one\n# comment\n two", "one\ntwo"),
        ("key =\n one\n two", "\none\ntwo"),
        ("  key = one\n   two", "one\ntwo"),
        ("  key = one\n  other = two", "one"),
        ("  other = one\nkey = two", "two"),
        ("key = one\n [not a section]", "one\n[not a section]"),
        ("key = one\r\n two\r\n", "one\ntwo"),
        ("key = one\rother = two", "one"),
        ("key = 100%%", "100%"),
        ("a = 1\nkey = %(a)s-%(A)s", "1-1"),
        ("a = %(b)s\nb = %%\nkey = %(a)s", "%"),
        (
            "key = %(d)s\n[DEFAULT]\nd = from the defaults",
            "from the defaults",
        ),
        ("x = 1\n[DEFAULT]\nkey = %(x)s", "1"),
        ("x = 1\n[DEFAULT]\nx = 2\nkey = %(x)s", "1"),
        ("[t] trailing\nkey = t\n[DEFAULT] too\nkey = d", "d"),
        ("a b c = 1\nkey = %(a b c)s", "1"),
        ("key = \u{a0}\u{1c}value\u{85}", "value"),
    ];

    fn value(text: &str) -> Result<String, String> {
        let (file, errors) = ConfigFile::parse(&format!("[s]\n{text}"));
        let describe = |error: &SyntaxError| format!("{}: {}", error.line, error.message);
        if let Some(error) = errors.first() {
            return Err(describe(error));
        }
        let value = file.get("s", "Key").expect("there is such a key");
        value
            .map(|value| value.text)
            .map_err(|error| describe(&error))
    }

    #[test]
    fn values_are_read_as_python_reads_them() {
        for (text, expected) in VALUES {
            assert_eq!(value(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused_with_its_line() {
        for (text, expected) in [
            ("key = 1\nkey = 2", "3: key was set before, in line 2"),
            ("key = 1\nKEY = 2", "3: KEY was set before, in line 2"),
            ("key = 1\n[s]", "3: section [s] was there before"),
            ("key", "2: expected NAME = VALUE"),
            ("= 1", "2: expected NAME = VALUE"),
            ("[]", "2: expected NAME = VALUE"),
            (
                "key = 5%",
                "2: a percent sign is written %%, a reference %(name)s",
            ),
            (
                "key = %s",
                "2: a percent sign is written %%, a reference %(name)s",
            ),
            ("key = %(a", "2: a reference is written %(name)s"),
            ("key = %(a)", "2: a reference is written %(name)s"),
            ("key = %()s", "2: a reference is written %(name)s"),
            (
                "key = %(a)s",
                "2: %(a)s refers to an option that is not there",
            ),
            ("key = %(key)s", "2: references are nested too deep"),
        ] {
            assert_eq!(value(text), Err(expected.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn every_error_is_reported() {
        let (_, errors) = ConfigFile::parse("outside = 1\n[s]\nx\nkey = 1\ny\nkey = 2\n[s]\n");
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 3, 5, 6, 7]);
        assert_eq!(
            errors[0].message,
            "expected a section header such as [server]"
        );
    }

    #[test]
    fn options_are_listed_as_written_and_without_the_defaults() {
        let (file, _) =
            ConfigFile::parse("[DEFAULT]\nd = 1\n[s]\nOne = 1\n\ntwo = 2\n[t]\nthree = 3");
        assert_eq!(
            file.options("s").collect::<Vec<_>>(),
            [("One", 4), ("two", 6)]
        );
        assert_eq!(file.options("none").count(), 0);
        assert!(file.get("s", "d").is_some());
        assert!(file.get("s", "three").is_none());
        assert!(file.get("none", "d").is_none());
    }

    #[test]
    fn sections_are_listed_with_their_lines() {
        let (file, _) = ConfigFile::parse("[DEFAULT]\nd = 1\n[t]\n[S]\n[t]");
        assert_eq!(file.sections().collect::<Vec<_>>(), [("S", 4), ("t", 3)]);
        assert_eq!(file.defaults().collect::<Vec<_>>(), [("d", 2)]);
    }

    #[test]
    fn a_byte_order_mark_does_not_matter() {
        let (file, errors) = ConfigFile::parse("\u{feff}[s]\nkey = 1");
        assert_eq!(errors, []);
        assert!(file.get("s", "key").is_some());
    }

    /// As the Python server does with its own options and their defaults.
    #[test]
    fn values_refer_to_options_that_the_program_knows() {
        let text = "[DEFAULT]\nport = 5\n[s]\nkey = %(Port)s-%(Age)s-%(Name)s\nAge = %(Typed)s";
        let (mut file, _) = ConfigFile::parse(text);
        file.know("Port", None, "24441");
        file.know("Age", None, "10");
        file.know("Name", None, "");
        file.know("Typed", Some("100%"), "1");
        let value = |key| file.get("s", key).map(|value| value.unwrap().text);
        assert_eq!(value("key").as_deref(), Some("24441-100%-"));
        assert_eq!(value("port"), None, "[DEFAULT] does not reach it");
    }

    /// Each level refers twice to the next: Python would take 2^10 steps for ten levels, and hangs with longer lines.
    #[test]
    fn expansion_is_bounded() {
        use std::fmt::Write;
        let mut text = "key = %(a1)s".to_owned();
        for level in 1..9 {
            let reference = format!("%(a{})s", level + 1);
            write!(text, "\na{level} = {}", reference.repeat(20)).unwrap();
        }
        text.push_str("\na9 = x");
        assert_eq!(
            value(&text),
            Err("2: the value has too many references".to_owned())
        );
        let long = "x".repeat(10_000);
        let text = format!("key = {}\na = {long}", "%(a)s".repeat(100));
        assert_eq!(
            value(&text),
            Err("2: the value has too many references".to_owned())
        );
    }
}
