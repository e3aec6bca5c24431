//! The client's accounts file: `host : port : user : salt,key` on each line.

use crate::account::AccountKey;
use crate::line_problem::{LineProblem, Problem};
use crate::text::{lines, trim};

/// One line of the file. Its host and port are as they stand in a servers file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAccount<'t> {
    /// The server's name or address; an IPv6 address with its brackets.
    pub host: &'t str,
    /// The server's port.
    pub port: u16,
    /// Who asks there.
    pub user: &'t [u8],
    /// What they sign with.
    pub key: AccountKey,
}

/// The file's accounts, in order, and what is wrong with its other lines. White space round fields, empty lines and those
/// that begin with `#` do not matter.
pub fn client_accounts(
    text: &[u8],
) -> impl Iterator<Item = Result<ClientAccount<'_>, LineProblem>> {
    lines(text)
        .map(trim)
        .zip(1..)
        .filter(|(line, _)| !line.is_empty() && !line.starts_with(b"#"))
        .map(|(text, line)| {
            account(text).ok_or(LineProblem {
                line,
                problem: Problem::NotAClientAccount,
            })
        })
}

/// Read from the end, because an IPv6 host has colons of its own.
fn account(line: &[u8]) -> Option<ClientAccount<'_>> {
    let mut fields = line.rsplitn(4, |&byte| byte == b':').map(trim);
    let (secret, user, port, host) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let host = str::from_utf8(host).ok().filter(|host| is_host(host))?;
    let port = str::from_utf8(port).ok()?.parse().ok()?;
    let key = AccountKey::new(user, key(secret)?);
    (!user.is_empty()).then_some(ClientAccount {
        host,
        port,
        user,
        key,
    })
}

fn is_host(host: &str) -> bool {
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty() && (is_bracketed || !host.contains(':'))
}

/// What follows the only comma. Keys are hexadecimal, and so may not hold another; the salt alone is a key that is empty.
fn key(secret: &[u8]) -> Option<&[u8]> {
    let comma = secret.iter().position(|&byte| byte == b',')?;
    let (salt, key) = (&secret[..comma], &secret[comma + 1..]);
    let is_empty = salt.is_empty() && key.is_empty();
    (!is_empty && !key.contains(&b',')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_in_order() {
        let text =
            b"\xef\xbb\xbf# hosts\n\nmirror.example : 24441 : bob : aa,0011\n [::1] : 24441 : alice : ,0022 \n\
              127.0.0.1:1:Bob Q:bb,\r# more\r\xe2\x80\xa8host:\xc2\xa01 : eve\xc2\xa0: ,33\xe2\x80\xa8\r\n";
        let accounts: Result<Vec<_>, _> = client_accounts(text).collect();
        let account = |host, port, user: &'static [u8], key: &[u8]| ClientAccount {
            host,
            port,
            user,
            key: AccountKey::new(user, key),
        };
        assert_eq!(
            accounts,
            Ok(vec![
                account("mirror.example", 24441, b"bob", b"0011"),
                account("[::1]", 24441, b"alice", b"0022"),
                account("127.0.0.1", 1, b"Bob Q", b""),
                account("host", 1, b"eve", b"33"),
            ])
        );
        assert!(!format!("{accounts:?}").contains("0011"));
    }

    #[test]
    fn a_line_that_is_no_account_is_named_by_its_number_only() {
        for (text, line) in [
            ("host : 1 : bob", 1),
            ("# fine\nhost : 1 : bob : nocomma", 2),
            ("host : 1 : bob : a,b,c", 1),
            ("host : 1 : bob : ,", 1),
            ("host : port : bob : a,b", 1),
            ("\n\nhost : 1 : : a,b", 3),
            ("host : 1 : bob : a,b : c", 1),
            ("::1 : 1 : bob : a,b", 1),
            (": 1 : bob : a,b", 1),
        ] {
            let problem = client_accounts(text.as_bytes()).find_map(Result::err);
            assert_eq!(
                problem.map(|problem| problem.to_string()),
                Some(format!(
                    "line {line}: expected `host : port : user : salt,key`; skipped"
                )),
                "{text:?}"
            );
        }
    }
}
