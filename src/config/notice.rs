//! What is said about a configuration that loads: where a value came from, what was repaired, and the one warning
//! that names everything the files ask for and this version does not do.
//!
//! Each type here writes itself as a sentence. Logging it is the program's business.

use std::fmt;

use super::{key::Key, properties::Repair, value::Change};

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { name: String, line: u32 },
    Env(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that a person should know and that does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Notice {
    #[error("{name}: {repair}")]
    Repaired { name: String, repair: Repair },
    #[error("{origin}: `{found}` was read as {key}; write {key}")]
    Respelt { origin: Origin, found: String, key: &'static str },
    #[error("{later}: {key} = {used} replaces {key} = {dropped} ({earlier}); the last one counts")]
    Duplicate { key: &'static str, earlier: Origin, dropped: String, later: Origin, used: String },
    #[error("{origin}: `{found}` = {dropped} does not count beside {key} ({exact})")]
    Outranked { origin: Origin, found: String, dropped: String, key: &'static str, exact: Origin },
    #[error("{origin}: {key}: {change}")]
    Changed { origin: Origin, key: &'static str, change: Change },
    #[error("{origin}: {key} has no value; {default} stays")]
    Empty { origin: Origin, key: &'static str, default: &'static str },
    #[error("{origin}: namesrvAddr = {used} overrides {dropped} ({file}); RocketMQ would take the file's")]
    NamesrvOverride { origin: Origin, used: String, dropped: String, file: Origin },
    #[error("{origin}: no key has this name; did you mean {near}?")]
    EnvUnknown { origin: Origin, near: &'static str },
    #[error(
        "maxMessageSize = {bytes} ({origin}) is below the 4 MiB that clients allow themselves: larger messages will be refused"
    )]
    SmallMessages { bytes: i64, origin: Origin },
}

/// A name that is given and not in force.
#[derive(Debug, Clone)]
pub(crate) struct Idle {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) origin: Origin,
    /// The key, or nothing if the name is unknown.
    pub(crate) key: Option<&'static Key>,
    pub(crate) why: String,
}

/// The one warning. Names that share a reason share its sentence.
pub(crate) fn not_in_force(idle: &[Idle]) -> Option<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for item in idle {
        let name = format!("{} = {} ({})", item.name, item.text, item.origin);
        match reasons.iter_mut().find(|(why, _)| *why == item.why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&item.why, vec![name])),
        }
    }
    let sentences: Vec<String> = reasons.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    (!sentences.is_empty()).then(|| format!("given but not in force: {}", sentences.join("; ")))
}
