//! How long digesting takes: reads the files named on standard input, then digests all of them once. Prints the digest of
//! each, and last the seconds that took. `ops/client.py` does the same with the reference's digester.

use std::io::{self, BufWriter, Write as _};
use std::time::Instant;
use std::{fs, hint};

use pyzor::digester;

fn main() -> io::Result<()> {
    let messages: Vec<Vec<u8>> = io::stdin()
        .lines()
        .map(|path| fs::read(path?))
        .collect::<io::Result<_>>()?;
    let start = Instant::now();
    let digests: Vec<_> = messages
        .iter()
        .map(|message| digester::digest_of(hint::black_box(message)))
        .collect();
    let seconds = start.elapsed().as_secs_f64();
    let mut output = BufWriter::new(io::stdout().lock());
    for digest in digests {
        writeln!(output, "{digest}")?;
    }
    writeln!(output, "{seconds:.6}")?;
    output.flush()
}
