//! One line of `doctor`: what was looked at, what was found, and what mends it.

use std::fmt;

use serde::Serialize;

use crate::advise::{self, Finding};
use crate::facts::Facts;

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// To be mended.
    Wrong,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It could not be looked at, or this host does not have it.
    Unknown,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    /// What is found.
    pub now: String,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command, or the act, that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, verdict: Verdict, now: impl Into<String>) -> Check {
        Check { name: name.into(), verdict, now: now.into(), wanted: None, why: None, mend: None }
    }

    /// All is well.
    pub fn fine(name: impl Into<String>, now: impl Into<String>) -> Check {
        Check::new(name, Verdict::Fine, now)
    }

    /// Something to mend.
    pub fn wrong(
        name: impl Into<String>,
        now: impl Into<String>,
        wanted: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        let more = Check::new(name, Verdict::Wrong, now);
        Check { wanted: Some(wanted.into()), why: Some(why.into()), mend: Some(mend.into()), ..more }
    }

    /// Something to know.
    pub fn note(name: impl Into<String>, now: impl Into<String>, why: impl Into<String>) -> Check {
        Check { why: Some(why.into()), ..Check::new(name, Verdict::Note, now) }
    }

    /// Nothing could be found out.
    pub fn unknown(name: impl Into<String>, why: impl Into<String>) -> Check {
        Check { why: Some(why.into()), ..Check::new(name, Verdict::Unknown, "unknown") }
    }

    /// A setting that `tune` knows. `tune` is the command that sets it.
    pub fn setting(finding: &Finding, facts: &Facts, tune: &str) -> Check {
        let now = finding.now.clone().unwrap_or_else(|| "not there".to_owned());
        let name = finding.name.clone();
        match &finding.verdict {
            advise::Verdict::Right => Check::fine(name, now),
            advise::Verdict::Left => Check::note(name, now, &finding.why),
            advise::Verdict::Absent(why) => Check { now, ..Check::unknown(name, *why) },
            advise::Verdict::Off => {
                let read_only = match finding.place {
                    advise::Place::Sysctl(_) | advise::Place::Irq(_) => facts.sysctl_read_only,
                    advise::Place::Queue { .. } | advise::Place::Switch(_) => facts.sys_read_only,
                };
                let command = finding.place.command(&finding.wanted);
                let mend = if read_only { format!("on the host: {command}") } else { tune.to_owned() };
                let why = match overridden(finding, facts) {
                    Some(file) => format!("{}; {file} sets it, and is read at boot after ours", finding.why),
                    None => finding.why.clone(),
                };
                Check::wrong(name, now, &finding.wanted, why, mend)
            }
        }
    }
}

/// The file that sets a sysctl to something else after ours has been read.
fn overridden<'a>(finding: &Finding, facts: &'a Facts) -> Option<&'a str> {
    let advise::Place::Sysctl(name) = &finding.place else { return None };
    let ours = facts.sysctl_files.iter().position(|(path, _)| path == crate::render::Kind::Sysctl.path())?;
    let later = facts.sysctl_files.get(ours + 1..).unwrap_or_default();
    let contradicts = |values: &std::collections::BTreeMap<String, String>| {
        values.get(name).is_some_and(|value| *value != finding.wanted)
    };
    later.iter().rfind(|(_, values)| contradicts(values)).map(|(path, _)| path.as_str())
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "fine",
            Verdict::Wrong => "WRONG",
            Verdict::Note => "note",
            Verdict::Unknown => "-",
        };
        write!(f, "{verdict:<6}{}: {}", self.name, self.now)?;
        if let Some(wanted) = &self.wanted {
            write!(f, ", wanted {wanted}")?;
        }
        if let Some(why) = &self.why {
            write!(f, " ({why})")?;
        }
        if let Some(mend) = &self.mend {
            write!(f, " => {mend}")?;
        }
        Ok(())
    }
}
