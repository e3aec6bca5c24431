//! `genkey`: a key for the accounts file, from a passphrase and chance.

use std::io::{self, Write as _};

use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use sha1::{Digest as _, Sha1};

use super::Runner;
use crate::error::Error;
use crate::output::json_line;
use crate::passphrase;

/// Bytes of chance in a salt and in a key: as many as a SHA-1 can carry.
const RANDOM_BYTES: usize = 20;

/// Which line belongs into which file.
const WHAT_GOES_WHERE: &str = "\
the client's accounts file takes salt and key:  HOST : PORT : USER : SALT,KEY
the server's pyzord.passwd takes the key alone: USER : KEY
HOST and PORT are those of the servers file, and USER is the same in both; keep both files to yourself
";

/// Salt and key, as hexadecimal digits.
#[derive(Serialize)]
struct SaltAndKey {
    salt: String,
    key: String,
}

impl Runner<'_> {
    /// Asks for a passphrase twice and prints a salt and a key made from it.
    pub(super) fn genkey(&mut self) -> Result<bool, Error> {
        let passphrase = passphrase::ask("Enter passphrase: ")?;
        if passphrase::ask("Enter passphrase again: ")? != passphrase {
            return Err(Error::PassphrasesDiffer);
        }
        let made = generate(&passphrase)?;
        let text = if self.config.json {
            json_line(&made)
        } else {
            format!("salt,key:\n{},{}\n", made.salt, made.key)
        };
        self.printer.print(text.as_bytes())?;
        self.printer.flush()?;
        // Who redirects the key does not want it on the terminal: this names it, and scripts read the other stream.
        let _ = io::stderr().write_all(WHAT_GOES_WHERE.as_bytes());
        Ok(true)
    }
}

/// The passphrase goes into the key together with chance, so that the same one never gives the same key twice.
fn generate(passphrase: &[u8]) -> Result<SaltAndKey, Error> {
    let mut key = Sha1::new();
    key.update(Sha1::digest(random()?));
    key.update(passphrase);
    Ok(SaltAndKey {
        salt: hex::encode(Sha1::digest(random()?)),
        key: hex::encode(key.finalize()),
    })
}

fn random() -> Result<[u8; RANDOM_BYTES], Error> {
    let mut bytes = [0; RANDOM_BYTES];
    // So few bytes come whole or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(Error::system("get random bytes from the system"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same() {
        let (first, second) = (generate(b"x").unwrap(), generate(b"x").unwrap());
        assert_ne!(first.salt, second.salt);
        assert_ne!(first.key, second.key);
        for digits in [first.salt, first.key] {
            assert_eq!(digits.len(), 40);
            assert_eq!(digits, digits.to_lowercase());
        }
    }
}
