//! The workspace's binaries, built once a test process and copied aside, so that a build that runs meanwhile does not
//! swap the program between a kill and a restart.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The built program `name`, for example `pyzord`.
pub(crate) fn program(name: &str) -> &'static Path {
    static PROGRAMS: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS
        .get_or_init(build)
        .get(name)
        .unwrap_or_else(|| panic!("the workspace has no program {name}"))
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
}

/// Cargo's target directory.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's tmp lies in its target directory")
}

/// The library of Debian's `faketime` for programs of many threads, to be preloaded.
pub(crate) fn faketime() -> Option<PathBuf> {
    let mut architectures = fs::read_dir("/usr/lib").ok()?;
    architectures.find_map(|directory| {
        let library = directory.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    })
}

fn build() -> HashMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(workspace())
        .args(["build", "--workspace", "--bins", "--message-format=json"])
        .arg("--target-dir")
        .arg(target())
        .stderr(Stdio::piped());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "the workspace's programs do not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(executable)
        .map(|built| copy_aside(&built))
        .collect()
}

/// The path of the executable that one line of cargo's JSON messages announces.
fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

fn copy_aside(built: &Path) -> (String, PathBuf) {
    let name = built.file_name().expect("a program has a name");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let copy = directory.join(name);
    let partial = directory.join(format!("{}.{}", name.display(), std::process::id()));
    fs::copy(built, &partial).expect("a built program can be copied");
    fs::rename(&partial, &copy).expect("a copy can be renamed");
    (name.display().to_string(), copy)
}
