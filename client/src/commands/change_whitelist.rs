//! The commands that change the local whitelist.

use serde::Serialize;

use super::Runner;
use crate::error::Error;
use crate::local_whitelist::LockedWhitelist;
use crate::output::json_line;

/// What became of a digest.
#[derive(Serialize)]
struct Json<'a> {
    digest: std::borrow::Cow<'a, str>,
    locally_whitelisted: bool,
    changed: bool,
}

impl Runner<'_> {
    /// Adds each digest of standard input to the local whitelist, or removes it. One that is there already, or is not, is told
    /// and no failure, as in the reference.
    pub(super) fn change_whitelist(&mut self, adds: bool) -> Result<bool, Error> {
        let config = self.config;
        let Some(path) = &config.local_whitelist else {
            return Err(Error::NoWhitelist);
        };
        let mut digests = Vec::new();
        let is_success = self.for_each_digest(|_, _, digest| {
            digests.push(digest.clone());
            Ok(())
        })?;
        let mut file = LockedWhitelist::open(path)?;
        let mut lines = String::new();
        for digest in digests {
            let changed = if adds {
                file.add(&digest)
            } else {
                file.remove(&digest)
            };
            let digest = String::from_utf8_lossy(digest.as_bytes());
            if !changed {
                let state = if adds { "already" } else { "not" };
                let told = format!("{digest} is {state} in the local whitelist");
                self.log.critical(&told);
            }
            if config.json {
                lines += &json_line(&Json {
                    digest,
                    locally_whitelisted: adds,
                    changed,
                });
            }
        }
        file.save()?;
        self.printer.print(lines.as_bytes())?;
        Ok(is_success)
    }
}
