//! Facts and a purpose become findings. Pure: nothing is read and nothing is changed here.
//!
//! A finding is one setting: what it is, what it should be, and why. A value that is better than the advice is right as
//! it is. The tables of what is advised are in `sysctl`, `disk` and `host`.

mod disk;
mod host;
mod rule;
mod sysctl;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::rule::Rule;
pub use self::sysctl::{LEFT, Left, SETTINGS, Sysctl, names};
use crate::facts::{Facts, sysctl_path};

/// What the host is for.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// The user that the broker runs as.
    pub user: String,
    /// The cores that the broker runs on; `None` is all of them.
    pub cpus: Option<Vec<usize>>,
}

impl Default for Purpose {
    fn default() -> Purpose {
        Purpose { user: USER.to_owned(), cpus: None }
    }
}

/// The user of the shipped files.
pub const USER: &str = "ringmq";

/// Where a setting is made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A name below `/proc/sys`.
    Sysctl(String),
    /// A file of a disk's request queue.
    Queue {
        /// `nvme0n1`
        disk: String,
        /// `scheduler`
        file: String,
    },
    /// A switch below `/sys` that is not of a disk.
    Switch(String),
    /// The cores of an interrupt.
    Irq(u32),
}

impl Place {
    /// The file on the host.
    pub fn path(&self) -> PathBuf {
        match self {
            Place::Sysctl(name) => sysctl_path(name),
            Place::Queue { disk, file } => PathBuf::from(format!("/sys/block/{disk}/queue/{file}")),
            Place::Switch(path) => PathBuf::from(path),
            Place::Irq(number) => PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list")),
        }
    }

    /// The command that a person would type.
    pub fn command(&self, value: &str) -> String {
        match self {
            Place::Sysctl(name) => format!("sysctl -w {name}='{value}'"),
            other => format!("echo {value} > {}", other.path().display()),
        }
    }
}

/// What a setting is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As advised, or better.
    Right,
    /// Not as advised, and can be set.
    Off,
    /// It cannot be had here, for this reason.
    Absent(&'static str),
    /// Advised by RocketMQ's `os.sh` and not by us, for the reason that the finding gives.
    Left,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What a person calls it.
    pub name: String,
    pub place: Place,
    /// The value in force.
    pub now: Option<String>,
    /// The value to set.
    pub wanted: String,
    pub verdict: Verdict,
    pub why: String,
    /// What brings the value of before back, where that is not the value itself: another place and its value.
    pub back: Option<(Place, String)>,
    /// Places like this one that are off as well and are set with it, with the values in force there.
    pub alike: Vec<(Place, String)>,
}

impl Finding {
    fn new(name: impl Into<String>, place: Place, wanted: impl Into<String>, why: impl Into<String>) -> Finding {
        let (name, wanted, why) = (name.into(), wanted.into(), why.into());
        Finding {
            name,
            place,
            now: None,
            wanted,
            verdict: Verdict::Absent(NO_SUCH_SETTING),
            why,
            back: None,
            alike: Vec::new(),
        }
    }

    /// The verdict of a rule on the value in force.
    fn judged(mut self, now: Option<&str>, rule: &Rule) -> Finding {
        let Some(now) = now else { return self };
        self.now = Some(now.to_owned());
        self.verdict = if rule.holds(now) { Verdict::Right } else { Verdict::Off };
        if let Some(wanted) = rule.wanted(now) {
            self.wanted = wanted;
        }
        self
    }

    fn absent(mut self, why: &'static str) -> Finding {
        self.verdict = Verdict::Absent(why);
        self
    }
}

const NO_SUCH_SETTING: &str = "the kernel has no such setting, or hides it from a container";

/// Every setting that can be made while the host runs.
pub fn advise(facts: &Facts, purpose: &Purpose) -> Vec<Finding> {
    let mut findings = sysctl::findings(facts);
    findings.extend(host::findings(facts, purpose));
    findings.extend(disk::findings(facts, purpose));
    findings
}
