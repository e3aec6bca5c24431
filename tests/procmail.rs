//! Debian's procmail with the recipe in `ops/mail/procmail/`, which acts on the exit status of `pyzor check`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::programs::{program, workspace};
use crate::harness::reference::{finish, fresh_mail};
use crate::harness::scan_socket::client_home;
use crate::harness::{Io, Request, Server};

#[test]
fn listed_mail_goes_to_its_own_folder() {
    needs!(Procmail);
    let server = Server::start(Io::Mmsg);
    let home = client_home(&[server.address()]);
    let (spam, ham) = (fresh_mail(), fresh_mail());
    let digest = pyzor::digester::digest_of(spam.as_bytes()).to_string();
    let report = Request::new("report").digest(&digest);
    assert_eq!(server.client().ask(&report).code(), 200);
    deliver(home.path(), &spam);
    assert_eq!((listed(home.path()), inbox(home.path())), (1, 0));
    deliver(home.path(), &ham);
    assert_eq!((listed(home.path()), inbox(home.path())), (1, 1));
}

#[test]
fn mail_is_kept_where_no_server_answers() {
    needs!(Procmail);
    let home = client_home(&["127.0.0.1:9".parse().unwrap()]);
    fs::write(home.path().join("config"), "[client]\nTimeout = 1\n").unwrap();
    deliver(home.path(), &fresh_mail());
    assert_eq!((listed(home.path()), inbox(home.path())), (0, 1));
}

/// Has procmail deliver `mail` into folders in the client's home directory.
fn deliver(home: &Path, mail: &str) {
    let configuration = home.join("procmailrc");
    let place = home.display();
    let text = format!(
        "MAILDIR={place}\nDEFAULT={place}/inbox/\nLOGFILE={place}/log\nPYZOR=\"{} --homedir {place}\"\nINCLUDERC={}\n",
        program("pyzor").display(),
        workspace().join("ops/mail/procmail/pyzor.rc").display()
    );
    fs::write(&configuration, text).unwrap();
    let finished = finish(
        Command::new("procmail").arg("-m").arg(&configuration),
        mail.as_bytes(),
    );
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    assert_eq!(finished.status, Some(0), "{finished:?}\n{log}");
    assert!(!log.contains("failure"), "{log}");
}

fn listed(home: &Path) -> usize {
    messages(&home.join("listed-by-pyzor"))
}

fn inbox(home: &Path) -> usize {
    messages(&home.join("inbox"))
}

/// How many messages lie in a maildir.
fn messages(folder: &Path) -> usize {
    fs::read_dir(folder.join("new")).map_or(0, Iterator::count)
}
