//! What reviewers would otherwise have to watch: which crate may know which, where `unsafe` may stand, that the code
//! maps name every file, and the like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::programs::workspace;

/// The only arrows between crates, by their directories: each may depend on these. `tests` sees all.
const ARROWS: [(&str, &[&str]); 6] = [
    ("protocol", &[]),
    ("storage", &["protocol"]),
    ("server", &["protocol", "storage"]),
    ("client", &["protocol"]),
    ("loadgen", &["protocol"]),
    ("tests", &["protocol", "storage", "server", "client"]),
];

/// Where `unsafe` may stand.
const UNSAFE_PLACES: [&str; 3] = [
    "server/src/datapath/uring/",
    "server/src/datapath/mmsg/",
    "loadgen/src/socket.rs",
];

/// No source file is longer, in lines.
const MAX_FILE_LINES: usize = 700;

/// Directories that hold no text of ours.
const FOREIGN_DIRECTORIES: [&str; 5] = ["target", ".git", "corpus", "artifacts", "runs"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

/// Leftovers of work in progress; in pieces here, so that this file holds none of them.
const LEFTOVERS: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("dbg", "!("),
];

#[test]
fn crates_know_only_whom_they_may() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let directories: BTreeMap<&str, String> = packages
        .iter()
        .map(|package| (package["name"].as_str().unwrap(), directory_of(package)))
        .collect();
    let arrows: BTreeMap<String, BTreeSet<String>> = packages
        .iter()
        .map(|package| {
            let known = package["dependencies"].as_array().unwrap().iter();
            let known = known.filter_map(|dependency| {
                directories
                    .get(dependency["name"].as_str().unwrap())
                    .cloned()
            });
            (directory_of(package), known.collect())
        })
        .collect();
    assert_eq!(arrows.len(), ARROWS.len(), "{arrows:?}");
    for (name, allowed) in ARROWS {
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        let known = &arrows[name];
        assert!(known.is_subset(&allowed), "{name} depends on {known:?}");
    }
}

#[test]
fn every_package_takes_the_workspaces_lints() {
    for (name, _) in ARROWS {
        let manifest = fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{name}");
    }
}

#[test]
fn unsafe_stays_where_it_may() {
    // The workspace denies unsafe code, so only a file that lifts this can hold any.
    let lifts = files("rs").into_iter().filter(|file| {
        let text = read(file);
        ["allow(unsafe_code", "expect(unsafe_code"]
            .iter()
            .any(|lift| text.contains(&format!("#![{lift}")) || text.contains(&format!("#[{lift}")))
    });
    for file in lifts {
        let name = shown(&file);
        // This file names the attributes without using them.
        let is_allowed = UNSAFE_PLACES.iter().any(|place| name.starts_with(place));
        assert!(
            is_allowed || name == "tests/tidy.rs",
            "{name} allows unsafe code"
        );
    }
}

#[test]
fn code_maps_name_every_module() {
    let mut missing = Vec::new();
    for (name, _) in ARROWS.iter().filter(|(name, _)| *name != "tests") {
        for root in crate_roots(&workspace().join(name).join("src")) {
            check_map(&root, &mut missing);
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn code_maps_name_nothing_else() {
    let mut stale = Vec::new();
    for file in files("rs") {
        let parent = file.parent().unwrap();
        for name in mapped_names(&read(&file)) {
            let place = parent.join(name.trim_end_matches('/'));
            let exists = place.with_extension("rs").exists() || place.is_dir();
            if !exists {
                stale.push(format!("{} maps {name}, which is not there", shown(&file)));
            }
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn every_test_module_is_declared_below_its_comment() {
    let main = read(&workspace().join("tests/main.rs"));
    let lines: Vec<&str> = main.lines().collect();
    for file in fs::read_dir(workspace().join("tests")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs") else {
            continue;
        };
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let declaration = lines
            .iter()
            .position(|line| *line == format!("mod {module};"));
        let at = declaration.unwrap_or_else(|| panic!("tests/main.rs lacks {module}"));
        assert!(lines[at - 1].starts_with("// "), "{module} has no comment");
    }
}

#[test]
fn files_are_tidy() {
    let mut complaints = Vec::new();
    for extension in ["rs", "md", "toml", "sh", "json", "jsonl"] {
        for file in files(extension) {
            let complaint = complaint(&file, &read(&file));
            complaints.extend(complaint.map(|what| format!("{}: {what}", shown(&file))));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn recorded_runs_do_not_tell_where_their_author_keeps_things() {
    let mut places = Vec::new();
    for file in files_below(&workspace().join("ops/runs"), &[]) {
        // Pictures are no text.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let words = text.split(|c: char| c.is_whitespace() || "\"'`()[]<>|,=".contains(c));
        let paths = words.filter(|word| is_absolute_path(word));
        places.extend(paths.map(|path| format!("{}: {path}", shown(&file))));
    }
    assert!(places.is_empty(), "{}", places.join("\n"));
}

/// Device files are the same everywhere; HTML ends its elements with a slash.
fn is_absolute_path(word: &str) -> bool {
    let is_path = word.starts_with('/') && word[1..].starts_with(char::is_alphanumeric);
    is_path && !word.starts_with("/dev/") && word[1..].contains('/')
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in files("md") {
        let text = read(&file);
        for target in text.split("](").skip(1) {
            let target = target.split([')', '#']).next().unwrap();
            let is_elsewhere = target.is_empty() || target.contains("://");
            let place = file.parent().unwrap().join(target);
            assert!(
                is_elsewhere || place.exists(),
                "{} links to {target}, which is not there",
                shown(&file)
            );
        }
    }
}

fn complaint(file: &Path, text: &str) -> Option<&'static str> {
    let is_source = file.extension().is_some_and(|extension| extension == "rs");
    let stem = file.file_stem().unwrap().to_str().unwrap();
    if !text.ends_with('\n') || text.ends_with("\n\n") {
        Some("does not end with one line end")
    } else if text.lines().any(|line| line.ends_with([' ', '\t', '\r'])) {
        Some("has white space at the end of a line")
    } else if LEFTOVERS.iter().any(|word| text.contains(word)) {
        Some("has leftovers of unfinished work")
    } else if is_source && text.lines().count() > MAX_FILE_LINES {
        Some("is too long")
    } else if is_source && EMPTY_NAMES.contains(&stem) {
        Some("has a name that says nothing")
    } else {
        None
    }
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// The directory of a package, below the workspace.
fn directory_of(package: &Value) -> String {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    shown(manifest.parent().unwrap())
}

fn shown(path: &Path) -> String {
    let path = path.strip_prefix(workspace()).unwrap_or(path);
    path.display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every file of ours with this extension.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut files = files_below(workspace(), &FOREIGN_DIRECTORIES);
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

fn files_below(root: &Path, left_out: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !path.is_dir() {
                found.push(path);
            } else if !left_out.contains(&name) {
                directories.push(path);
            }
        }
    }
    found
}

/// The roots of a package's crates: its library, or else its program; and its further programs.
fn crate_roots(source: &Path) -> Vec<PathBuf> {
    let library = source.join("lib.rs");
    let root = if library.exists() {
        library
    } else {
        source.join("main.rs")
    };
    let programs = fs::read_dir(source.join("bin")).into_iter().flatten();
    let programs = programs.map(|program| program.unwrap().path().join("main.rs"));
    std::iter::once(root)
        .chain(programs.filter(|program| program.exists()))
        .collect()
}

/// Checks that the documentation of the module file `root` names the modules beside it, and theirs the ones below.
fn check_map(root: &Path, missing: &mut Vec<String>) {
    let text = read(root);
    let map: String = text
        .lines()
        .filter(|line| line.starts_with("//!"))
        .collect();
    for (name, file) in modules_below(root) {
        let is_named = map
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == name);
        if !is_named {
            missing.push(format!("{} does not name {name}", shown(root)));
        }
        if file.ends_with("mod.rs") {
            check_map(&file, missing);
        }
    }
}

/// Names and files of the modules in the directory of `root`. Tests beside a module explain themselves.
fn modules_below(root: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(root.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter_map(|path| {
            let file = if path.is_dir() {
                path.join("mod.rs")
            } else {
                path.clone()
            };
            let is_module = file.exists() && file.extension().is_some_and(|kind| kind == "rs");
            let name = path.file_stem()?.to_str()?.to_owned();
            let is_root = ["lib", "main", "mod", "tests"].contains(&name.as_str());
            (is_module && !is_root).then_some((name, file))
        })
        .collect()
}

/// The modules in the first column of the tables in a file's documentation whose first heading is `file`.
fn mapped_names(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut rows = rows.skip_while(|row| !row.starts_with("file |"));
    rows.next();
    rows.filter_map(|row| row.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.split("::").next().unwrap().to_owned())
        .collect()
}
