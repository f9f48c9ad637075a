//! What a configuration key is, and how a name found in a file is matched to one.
//!
//! The keys themselves are rows of `table`; this file holds their type, the spelling rules (exact, alias, letter
//! case, environment name) and the edit distance behind "did you mean". It holds no values.

use super::table;

/// Which program reads the file: the same name may have another default there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Broker,
    Namesrv,
}

/// What a value has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`, in any letter case.
    Bool,
    /// A whole number; outside the range is an error.
    Int { min: i64, max: i64 },
    /// A whole number; outside the range it is moved to the nearest bound, with a notice, as RocketMQ does.
    Clamped { min: i64, max: i64 },
    /// Bytes, plain or with one of the suffixes K, M, G (powers of 1024).
    Size { min: i64, max: i64 },
    /// Percent: `90`, or the fraction `0.90` that 4.9 takes as a system property; clamped like `Clamped`.
    Percent { min: i64, max: i64 },
    /// One of these words, in any letter case.
    Choice(&'static [&'static str]),
    /// A word that is also used as a topic name.
    Name,
    /// A host name or an address, without port.
    Host,
    /// An address to bind.
    Ip,
    /// `host:port;host:port`.
    Addresses,
    /// A path of this machine; `~` is not expanded.
    Path,
    /// Cores: `0-3,8`.
    Cpus,
    /// Hours of the day.
    Hours,
    /// Anything.
    Text,
}

/// Whether the running program obeys the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// In force.
    Honoured,
    /// In force as long as it names this folder below `storePathRootDir`; another place is not built.
    UnderRoot(&'static str),
    /// Has nothing to act on here, and never will: the reason.
    NoOp(&'static str),
    /// RocketMQ obeys it, this version does not yet: what is missing.
    NotBuilt(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The default as text; in angle brackets when it is taken from the host and not a value to write.
    pub(crate) default: &'static str,
    pub(crate) class: Class,
    /// Whether a misread value can lose messages.
    pub(crate) durability: bool,
    /// One sentence, with the unit.
    pub(crate) meaning: &'static str,
}

impl Key {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        class: Class,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, default, class, durability: false, meaning }
    }

    pub(crate) const fn durable(mut self) -> Self {
        self.durability = true;
        self
    }

    /// The default as a value, or nothing where the host decides.
    pub(crate) fn preset(&self) -> Option<&'static str> {
        (!self.default.is_empty() && !self.default.starts_with('<')).then_some(self.default)
    }

    /// The name without its prefix, as it is written in the environment: `FLUSH_DISK_TYPE`.
    pub(crate) fn env_suffix(&self) -> String {
        upper_snake(self.name)
    }

    pub(crate) fn aliases(&self) -> impl Iterator<Item = &'static str> {
        table::ALIASES.iter().filter(|alias| alias.right == self.name).map(|alias| alias.wrong)
    }
}

/// Another spelling of a key that is met in files, and applied with a warning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alias {
    pub(crate) wrong: &'static str,
    pub(crate) right: &'static str,
}

/// How a name was matched to its key; the better match wins inside one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spelling {
    Case,
    Alias,
    Exact,
}

/// What a name means to a program.
#[derive(Debug)]
pub(crate) enum Match {
    Key(&'static Key, Spelling),
    /// No key of this program. `near` is the nearest within two edits; `durability` is set if one of the keys
    /// that near decides what survives a crash.
    Unknown {
        near: Option<&'static Key>,
        durability: Option<&'static Key>,
    },
}

/// All keys that a program reads.
pub(crate) fn keys(program: Program) -> impl Iterator<Item = &'static Key> {
    let tables: &[&[Key]] = match program {
        Program::Broker => &[table::BROKER, table::POP, table::STORE, table::STORE_IGNORED, table::NET, table::OURS],
        Program::Namesrv => &[table::NAMESRV, table::NET],
    };
    tables.iter().flat_map(|rows| rows.iter())
}

/// Whether the other program would have read this name, which is worth saying when this one does not.
pub(crate) fn belongs_elsewhere(program: Program, name: &str) -> bool {
    let other = match program {
        Program::Broker => Program::Namesrv,
        Program::Namesrv => Program::Broker,
    };
    keys(other).any(|key| key.name == name)
}

pub(crate) fn find(program: Program, name: &str) -> Match {
    if let Some(key) = keys(program).find(|key| key.name == name) {
        return Match::Key(key, Spelling::Exact);
    }
    let alias = table::ALIASES.iter().find(|alias| alias.wrong.eq_ignore_ascii_case(name));
    if let Some(key) = alias.and_then(|alias| keys(program).find(|key| key.name == alias.right)) {
        return Match::Key(key, Spelling::Alias);
    }
    if let Some(key) = keys(program).find(|key| key.name.eq_ignore_ascii_case(name)) {
        return Match::Key(key, Spelling::Case);
    }
    nearest(program, name)
}

/// The key that an environment variable's suffix names: `FLUSH_DISK_TYPE`, underscores anywhere or nowhere.
pub(crate) fn find_env(program: Program, suffix: &str) -> Match {
    let plain = suffix.replace('_', "").to_ascii_lowercase();
    match keys(program).find(|key| key.name.eq_ignore_ascii_case(&plain)) {
        Some(key) => Match::Key(key, Spelling::Exact),
        None => match find(program, &plain) {
            Match::Key(key, _) => Match::Key(key, Spelling::Alias),
            unknown @ Match::Unknown { .. } => unknown,
        },
    }
}

fn nearest(program: Program, name: &str) -> Match {
    let name = name.to_lowercase();
    let mut near: Option<(usize, &'static Key)> = None;
    let mut durability: Option<(usize, &'static Key)> = None;
    for key in keys(program) {
        let Some(edits) = edits_within(&name, &key.name.to_lowercase(), edits_allowed(key.name)) else { continue };
        if near.is_none_or(|(best, _)| edits < best) {
            near = Some((edits, key));
        }
        if key.durability && durability.is_none_or(|(best, _)| edits < best) {
            durability = Some((edits, key));
        }
    }
    Match::Unknown { near: near.map(|(_, key)| key), durability: durability.map(|(_, key)| key) }
}

/// Two edits turn any short word into any other, so a short key allows fewer.
fn edits_allowed(name: &str) -> usize {
    if name.len() < 7 { 1 } else { 2 }
}

/// Levenshtein distance of two words, or nothing when it is greater than `limit`.
fn edits_within(left: &str, right: &str, limit: usize) -> Option<usize> {
    let right: Vec<char> = right.chars().collect();
    let left_len = left.chars().count();
    if left_len.abs_diff(right.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|edits| *edits <= limit)
}

fn upper_snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (i, letter) in letters.iter().enumerate() {
        let previous = i.checked_sub(1).map(|p| letters[p]);
        let after_small = previous.is_some_and(|p| p.is_ascii_lowercase() || p.is_ascii_digit());
        let ends_capitals = previous.is_some_and(|p| p.is_ascii_uppercase())
            && letters.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && (after_small || ends_capitals) {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn spelled(name: &str) -> Option<(&'static str, Spelling)> {
        match find(Program::Broker, name) {
            Match::Key(key, spelling) => Some((key.name, spelling)),
            Match::Unknown { .. } => None,
        }
    }

    #[test]
    fn names_are_unique_within_a_program() {
        for program in [Program::Broker, Program::Namesrv] {
            let mut seen = BTreeSet::new();
            for key in keys(program) {
                assert!(seen.insert(key.name.to_ascii_lowercase()), "{} is in the table twice", key.name);
                assert!(key.meaning.ends_with('.'), "{}: the meaning is a sentence", key.name);
                assert!(!key.default.is_empty(), "{}: a default is a value or <what the host gives>", key.name);
            }
        }
    }

    #[test]
    fn an_alias_leads_to_a_key_and_is_none_itself() {
        let all: BTreeSet<_> = keys(Program::Broker).chain(keys(Program::Namesrv)).map(|key| key.name).collect();
        for alias in table::ALIASES {
            assert!(all.contains(alias.right), "{} leads to {}, which is no key", alias.wrong, alias.right);
            assert!(!all.contains(alias.wrong), "{} is a key and an alias", alias.wrong);
        }
    }

    #[test]
    fn spellings() {
        assert_eq!(spelled("flushDiskType"), Some(("flushDiskType", Spelling::Exact)));
        assert_eq!(spelled("flushDiskTyp"), Some(("flushDiskType", Spelling::Alias)));
        assert_eq!(spelled("flushDisktype"), Some(("flushDiskType", Spelling::Case)));
        assert_eq!(spelled("mapedFileSizeCommitLog"), Some(("mappedFileSizeCommitLog", Spelling::Alias)));
        assert_eq!(spelled("enableDledgerCommitLog"), Some(("enableDLegerCommitLog", Spelling::Alias)));
        assert_eq!(spelled("brokerip1"), Some(("brokerIP1", Spelling::Case)));
        assert_eq!(spelled("brokerIP"), Some(("brokerIP1", Spelling::Alias)));
        assert_eq!(spelled("namesrv.addr"), Some(("namesrvAddr", Spelling::Alias)));
        assert_eq!(spelled("nothingLikeThis"), None);
    }

    #[test]
    fn did_you_mean_reaches_two_edits_and_marks_durability() {
        let check = |name: &str, near: Option<&str>, durability: Option<&str>| {
            let Match::Unknown { near: n, durability: d } = find(Program::Broker, name) else {
                panic!("{name} is a key");
            };
            assert_eq!(n.map(|key| key.name), near, "{name}");
            assert_eq!(d.map(|key| key.name), durability, "{name}");
        };
        check("flushDiskTpye", Some("flushDiskType"), Some("flushDiskType"));
        check("brokerRoles", Some("brokerRole"), Some("brokerRole"));
        check("inSyncReplica", Some("inSyncReplicas"), Some("inSyncReplicas"));
        check("defaultTopicQueueNum", Some("defaultTopicQueueNums"), None);
        check("flushDiskTXXX", None, None);
        check("x", None, None);
    }

    #[test]
    fn environment_names() {
        assert_eq!(upper_snake("flushDiskType"), "FLUSH_DISK_TYPE");
        assert_eq!(upper_snake("brokerIP1"), "BROKER_IP1");
        assert_eq!(upper_snake("dLegerPeers"), "D_LEGER_PEERS");
        assert_eq!(upper_snake("checkCRCOnRecover"), "CHECK_CRC_ON_RECOVER");
        for key in keys(Program::Broker) {
            match find_env(Program::Broker, &key.env_suffix()) {
                Match::Key(found, Spelling::Exact) => assert_eq!(found.name, key.name),
                other => panic!("{}: {other:?}", key.name),
            }
        }
    }

    #[test]
    fn edit_distance() {
        assert_eq!(edits_within("abc", "abc", 2), Some(0));
        assert_eq!(edits_within("abc", "acb", 2), Some(2));
        assert_eq!(edits_within("abc", "abcde", 2), Some(2));
        assert_eq!(edits_within("abc", "abcdef", 2), None);
        assert_eq!(edits_within("abcd", "wxyz", 2), None);
        assert_eq!(edits_within("", "ab", 2), Some(2));
    }
}
