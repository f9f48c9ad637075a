//! Recorded hosts: one text file each, unpacked into a temporary folder that stands for `/`.
//!
//! A line is `path = text` for a file of one line, `path -> target` for a link, or `path <<` for a file whose lines
//! follow up to one that is `>>`. Lines that begin with `#` say something about the host.

use std::fs;
use std::path::{Path, PathBuf};

use ringmq_tuning::Root;
use ringmq_tuning::advise::{self, Finding, Purpose, Verdict, advise};
use ringmq_tuning::facts::Facts;
use tempfile::TempDir;

/// An unpacked host.
pub(crate) struct Host {
    folder: TempDir,
}

impl Host {
    pub(crate) fn unpack(name: &str) -> Host {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.host"));
        let text = fs::read_to_string(&recorded).unwrap();
        let host = Host { folder: tempfile::tempdir().unwrap() };
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((path, target)) = line.split_once(" -> ") {
                let link = host.at(path);
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(target, link).unwrap();
            } else if let Some((path, value)) = line.split_once(" = ") {
                host.write(path, &format!("{value}\n"));
            } else {
                let path = line.strip_suffix(" <<").unwrap_or_else(|| panic!("{name}: {line}"));
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != ">>").collect();
                host.write(path, &format!("{}\n", body.join("\n")));
            }
        }
        host
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.folder.path())
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().at(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        self.root().text(path)
    }

    /// The host with a store in `/data`.
    pub(crate) fn facts(&self) -> Facts {
        // The store's path is one of the recorded host: its mount table decides, not this machine's.
        Facts::read(&self.root(), advise::names(), Some(Path::new("/data"))).unwrap()
    }

    pub(crate) fn findings(&self, purpose: &Purpose) -> Vec<Finding> {
        advise(&self.facts(), purpose)
    }

    /// What is off, as `name: now -> wanted`.
    pub(crate) fn off(&self, purpose: &Purpose) -> Vec<String> {
        let findings = self.findings(purpose);
        let off = findings.iter().filter(|finding| finding.verdict == Verdict::Off);
        off.map(|one| format!("{}: {} -> {}", one.name, one.now.as_deref().unwrap_or("?"), one.wanted)).collect()
    }
}

/// The finding of this name.
pub(crate) fn named<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no {name} in {findings:#?}"))
}
