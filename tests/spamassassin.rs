//! Debian's `SpamAssassin` against a started server: its own Perl client, and its plugin with that client, with the
//! reference's command and with ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::programs::program;
use crate::harness::reference::{self, finish, fresh_mail};
use crate::harness::{Io, Request, Server, eventually, random_digest};

both_io!(
    the_perl_client_reports_and_checks,
    the_plugin_hits_what_the_references_command_reported,
    the_plugin_hits_what_our_command_reported,
    the_plugin_hits_by_its_perl_client,
);

/// How long a machine may be busy.
const MANY_TRIES: Duration = Duration::from_secs(120);

/// Reports and checks a digest as the plugin does, and prints what it learns.
const PERL_CLIENT: &str = r#"
use strict; use warnings FATAL => 'all';
use Mail::SpamAssassin::Pyzor::Client;
my ($host, $port, $digest) = @ARGV;
my $client = Mail::SpamAssassin::Pyzor::Client->new(server_host => $host, server_port => $port);
sub show { my ($r, @names) = @_; print join(' ', map { $r->{$_} } 'Code', 'Diag', @names), "\n" }
show($client->check($digest), 'Count', 'WL-Count');
show($client->report($digest));
show($client->report($digest));
show($client->check($digest), 'Count', 'WL-Count');
"#;

fn the_perl_client_reports_and_checks(io: Io) {
    needs!(SpamAssassin);
    let server = Server::start(io);
    let address = server.address();
    let mut perl = Command::new("/usr/bin/perl");
    perl.args(["-e", PERL_CLIENT, &address.ip().to_string()]);
    perl.args([address.port().to_string(), random_digest()]);
    let finished = finish(&mut perl, b"");
    assert_eq!(finished.stderr, "");
    assert_eq!(finished.stdout, "200 OK 0 0\n200 OK\n200 OK\n200 OK 2 0\n");
}

fn the_plugin_hits_what_the_references_command_reported(io: Io) {
    needs!(SpamAssassin, Reference);
    hits_what_the_command_reported(io, &reference::program("pyzor"));
}

fn the_plugin_hits_what_our_command_reported(io: Io) {
    needs!(SpamAssassin);
    hits_what_the_command_reported(io, program("pyzor"));
}

/// A site that runs `command`.
fn site_of_command(server: &Server, command: &Path) -> Site {
    Site::new(server, |site| {
        format!(
            "pyzor_path {}\npyzor_options --homedir {}\n",
            command.display(),
            site.home().display()
        )
    })
}

/// It waits for the command as long as the command for servers by default, and takes nothing of one that was not done by then.
#[test]
fn a_dead_server_does_not_hide_what_the_others_know() {
    needs!(SpamAssassin);
    let [alive, dead] = [Server::start(Io::Mmsg), Server::start(Io::Mmsg)];
    dead.hold_up();
    let site = site_of_command(&alive, program("pyzor"));
    let spam = fresh_mail();
    let digest = pyzor::digester::digest_of(spam.as_bytes()).to_string();
    let report = Request::new("report").digest(&digest);
    assert_eq!(alive.client().ask(&report).code(), 200);
    let servers = format!("{}\n{}\n", dead.address(), alive.address());
    fs::write(site.home().join("servers"), servers).unwrap();
    // A machine that is busy just then may take longer to start the command than is reserved for that.
    let hits = eventually(MANY_TRIES, || site.tests_hit_by(&spam) == "PYZOR_CHECK");
    assert!(hits);
}

fn hits_what_the_command_reported(io: Io, command: &Path) {
    let server = Server::start(io);
    let site = site_of_command(&server, command);
    let (spam, ham) = (fresh_mail(), fresh_mail());
    assert_eq!(site.tests_hit_by(&spam), "none");
    let report = finish(site.spamassassin().arg("-r"), spam.as_bytes());
    assert_eq!(report.status, Some(0), "{report:?}");
    assert_eq!(site.tests_hit_by(&spam), "PYZOR_CHECK");
    assert_eq!(site.tests_hit_by(&ham), "none");
}

fn the_plugin_hits_by_its_perl_client(io: Io) {
    needs!(SpamAssassin, Reference);
    let server = Server::start(io);
    let site = Site::new(&server, |site| {
        let servers = site.home().join("servers");
        format!("pyzor_perl 1\npyzor_server_file {}\n", servers.display())
    });
    let (spam, ham) = (fresh_mail(), fresh_mail());
    assert_eq!(site.tests_hit_by(&spam), "none");
    // The plugin's Perl way to report names another digest than its way to check, so the report is ours.
    let digest = finish(
        reference::client(&site.home()).arg("digest"),
        spam.as_bytes(),
    );
    let report = Request::new("report").digest(digest.stdout.trim());
    assert_eq!(server.client().ask(&report).code(), 200);
    assert_eq!(site.tests_hit_by(&spam), "PYZOR_CHECK");
    assert_eq!(site.tests_hit_by(&ham), "none");
}

/// A configuration of `SpamAssassin` that has no rule but Pyzor's.
struct Site(TempDir);

impl Site {
    fn new(server: &Server, settings: impl FnOnce(&Self) -> String) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for directory in ["site", "rules", "home"] {
            fs::create_dir(site.path(directory)).unwrap();
        }
        fs::write(
            site.home().join("servers"),
            format!("{}\n", server.address()),
        )
        .unwrap();
        fs::write(site.path("site/local.pre"), PLUGINS).unwrap();
        let rules = format!("{RULES}{}", settings(&site));
        fs::write(site.path("rules/10_pyzor.cf"), rules).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn spamassassin(&self) -> Command {
        let mut command = Command::new("spamassassin");
        command.env("HOME", self.home()).arg("-x");
        command.arg(format!("--siteconfigpath={}", self.path("site").display()));
        command.arg(format!("--configpath={}", self.path("rules").display()));
        command
    }

    /// The names of the rules that `mail` hits.
    fn tests_hit_by(&self, mail: &str) -> String {
        let finished = finish(self.spamassassin().arg("-t"), mail.as_bytes());
        finished
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("X-Spam-Status: tests="))
            .unwrap_or_else(|| panic!("no result in {finished:?}"))
            .to_owned()
    }
}

const PLUGINS: &str = "
loadplugin Mail::SpamAssassin::Plugin::Check
loadplugin Mail::SpamAssassin::Plugin::Pyzor
";

const RULES: &str = "
full PYZOR_CHECK eval:check_pyzor()
describe PYZOR_CHECK Listed in Pyzor
tflags PYZOR_CHECK net
score PYZOR_CHECK 3.0
add_header all Status tests=_TESTS_
use_pyzor 1
pyzor_fork 0
pyzor_timeout 5
pyzor_count_min 1
use_bayes 0
bayes_learn_during_report 0
dns_available no
util_rb_tld com org
";
