//! The house's own rules, held by a test: who may import whom, how long a file may be, where unsafe code and the
//! runtime's crates may be named.
//!
//! A rule changes by changing its table here in the same commit.
#![expect(clippy::expect_used, reason = "a test says what failed by failing")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// A crate of the workspace, its layer, and which of the others it may import. Imports point strictly downwards; two
/// crates of one layer never see each other.
struct Place {
    name: &'static str,
    layer: u8,
    may_import: &'static [&'static str],
}

const PLACES: &[Place] = &[
    Place { name: "ringmq-protocol", layer: 0, may_import: &[] },
    Place { name: "ringmq-rt", layer: 0, may_import: &[] },
    Place { name: "ringmq-tuning", layer: 0, may_import: &[] },
    Place { name: "ringmq-client", layer: 1, may_import: &["ringmq-protocol", "ringmq-rt"] },
    Place { name: "ringmq-engine", layer: 1, may_import: &["ringmq-protocol", "ringmq-rt"] },
    Place { name: "ringmq-net", layer: 1, may_import: &["ringmq-protocol", "ringmq-rt"] },
    Place { name: "ringmq-namesrv", layer: 2, may_import: &["ringmq-net", "ringmq-protocol", "ringmq-rt"] },
    Place { name: "ringmq-bench", layer: 2, may_import: &["ringmq-client", "ringmq-protocol"] },
    Place {
        name: "ringmq-broker",
        layer: 3,
        may_import: &["ringmq-engine", "ringmq-net", "ringmq-protocol", "ringmq-rt"],
    },
    Place {
        name: "ringmq",
        layer: 4,
        may_import: &[
            "ringmq-bench",
            "ringmq-broker",
            "ringmq-client",
            "ringmq-engine",
            "ringmq-namesrv",
            "ringmq-net",
            "ringmq-protocol",
            "ringmq-rt",
            "ringmq-tuning",
        ],
    },
];

/// The only crate that may know what the runtime is made of.
const RUNTIME: &str = "ringmq-rt";
const RUNTIME_FOLDER: &str = "engine/rt/";
const RUNTIME_CRATES: [&str; 2] = ["glommio", "io-uring"];

const LINES_MAX: usize = 800;

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata answers")
}

fn place(name: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.name == name)
}

/// Every Rust file that is in the repository or about to be, with its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are text");
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    let found: BTreeMap<String, String> = paths
        // A deleted file is listed until its deletion is staged.
        .filter(|path| root.join(path).is_file())
        .map(|path| {
            let text = fs::read_to_string(root.join(&path)).expect("a source file is text");
            (path.to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(found.len() > PLACES.len(), "the sources were not found: {found:?}");
    found.into_iter().collect()
}

/// A line's code: without a line comment and without what stands in double quotes.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => out.push(c),
            _ => {}
        }
    }
    out
}

/// Whether `line`'s code has the whole word `word`.
fn names(line: &str, word: &str) -> bool {
    code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// Where `word` is used outside the files that `permitted` names, as `file:line`.
fn uses(word: &str, permitted: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if permitted(&path, &text) {
            continue;
        }
        let lines = text.lines().enumerate().filter(|(_, line)| names(line, word));
        found.extend(lines.map(|(number, _)| format!("{path}:{}", number + 1)));
    }
    found
}

#[test]
fn imports_point_strictly_down() {
    for place in PLACES {
        for import in place.may_import {
            let below = self::place(import).expect("the table knows what it permits");
            assert!(below.layer < place.layer, "the table lets {} import {import}", place.name);
        }
    }
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let Some(place) = place(&package.name) else {
            wrong.push(format!("{} has no place in the table", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(other) = self::place(&dependency.name) else { continue };
            // Tests may look sideways, at a peer to talk to, but never up.
            let fine = match dependency.kind {
                DependencyKind::Development => other.layer <= place.layer,
                _ => place.may_import.contains(&other.name),
            };
            if !fine {
                wrong.push(format!("{} imports {}", place.name, other.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dependency_comes_from_the_registry_or_the_workspace() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        for dependency in &package.dependencies {
            let source = dependency.source.as_ref().map(ToString::to_string);
            let fine = match &source {
                Some(source) => source.starts_with("registry+"),
                None => dependency.path.is_some(),
            };
            if !fine {
                wrong.push(format!("{} takes {} from {source:?}", package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_runtime_seam_knows_the_runtime() {
    let mut wrong = Vec::new();
    for package in metadata().packages.iter().filter(|package| *package.name != RUNTIME) {
        let known = package.dependencies.iter().filter(|one| RUNTIME_CRATES.contains(&&*one.name));
        wrong.extend(known.map(|one| format!("{} depends on {}", package.name, one.name)));
    }
    for word in RUNTIME_CRATES.map(|name| name.replace('-', "_")) {
        wrong.extend(uses(&word, |path, _| path.starts_with(RUNTIME_FOLDER)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_lives_in_the_runtime_seam() {
    let wrong = uses("unsafe", |path, text| {
        // A test that counts allocations has to be an allocator.
        let counts = path.contains("tests/") && text.contains("GlobalAlloc");
        path.starts_with(RUNTIME_FOLDER) || counts
    });
    assert!(wrong.is_empty(), "unsafe outside {RUNTIME_FOLDER}: {wrong:#?}");
}

/// What cargo would build of the whole workspace, with the features of each crate.
fn features_built(edges: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "--format", "{p} [{f}]"]);
    let tree = cargo.args(["--edges", edges]).current_dir(root).output().expect("cargo tree runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).expect("crates have names of text")
}

/// The steps at which a test can end a broker are no code in what is released.
#[test]
fn only_tests_are_built_with_hooks() {
    let has_hooks = |tree: &str| {
        let mut lines = tree.lines().filter(|line| line.starts_with(&format!("{RUNTIME} ")));
        assert!(lines.clone().next().is_some(), "{RUNTIME} is not in the tree:\n{tree}");
        lines.any(|line| line.contains("test-hooks"))
    };
    assert!(has_hooks(&features_built("normal,build,dev")), "the tests cannot end a broker at a step");
    assert!(!has_hooks(&features_built("normal,build")), "a release would have the hooks of tests");
}

#[test]
fn lints_are_expected_and_never_allowed() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().enumerate();
        let allowed = lines.filter(|(_, line)| {
            let code = code(line);
            let code = code.trim_start();
            code.starts_with("#[allow(") || code.starts_with("#![allow(")
        });
        wrong.extend(allowed.map(|(number, _)| format!("{path}:{}", number + 1)));
    }
    assert!(wrong.is_empty(), "use #[expect(lint, reason = ..)]: {wrong:#?}");
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        // A module's unit tests are explained by the module.
        .filter(|(path, _)| !path.ends_with("/tests.rs"))
        .filter(|(_, text)| !text.lines().take(5).any(|line| line.starts_with("//!")))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` paragraph at the top: {silent:#?}");
}

#[test]
fn the_rules_see_code_and_not_prose() {
    assert!(names("use glommio::io;", "glommio"));
    assert!(names("    unsafe { call() } // SAFETY: ..", "unsafe"));
    assert!(!names("// glommio parks here", "glommio"));
    assert!(!names("println!(\"io_uring \\\" is forbidden\");", "io_uring"));
    assert!(!names("#![deny(unsafe_code)]", "unsafe"));
}
