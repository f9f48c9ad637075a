//! The recorded files, the table of known differences, and how a run is held against both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::PAIRS;
use super::support::root;

/// What a run showed: each line's name and its members.
type Seen = [(String, Value)];

/// One scenario's recorded file.
pub(crate) struct Golden<'a> {
    pub(crate) server: &'a str,
    pub(crate) client: &'a str,
    pub(crate) scenario: &'a str,
}

/// Something in which RingMQ differs and is meant to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// The scenario, or `*` for every one.
    pub(crate) scenario: String,
    /// The server's version; absent for both.
    pub(crate) server: Option<String>,
    /// The lines; every one when there are none.
    #[serde(default)]
    pub(crate) lines: Vec<String>,
    /// Only where both answers are refusals.
    #[serde(default)]
    pub(crate) refused: bool,
    /// The members: paths with dots between the names, `*.` and how a path ends, or `*` for any. None for a line that only
    /// one of both has.
    #[serde(default)]
    pub(crate) members: Vec<String>,
    /// What the recorded text begins with; absent for any value.
    pub(crate) apache: Option<String>,
    /// Another server's version whose recorded value is RingMQ's, too. Without members, any member and whole lines.
    pub(crate) like: Option<String>,
    /// What differs, in the words of `docs/COMPATIBILITY.md`.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    difference: Vec<Difference>,
}

fn folder() -> PathBuf {
    root().join("tests/fixtures/golden")
}

pub(crate) fn recording() -> bool {
    match std::env::var("RINGMQ_GOLDEN").as_deref() {
        Ok("record") => true,
        Ok(other) => panic!("RINGMQ_GOLDEN is `{other}`; it can only be `record`"),
        Err(_) => false,
    }
}

/// The names of all recorded scenarios.
pub(crate) fn scenarios() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for server in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in fs::read_dir(server).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            names.insert(file.split('.').next().unwrap().to_owned());
        }
    }
    names
}

/// The heading in `docs/COMPATIBILITY.md` over the table that says the same as `differences.toml`.
const HEADING: &str = "## Answers that differ";

/// The rows of that table: what differs, and why.
pub(crate) fn documented() -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).unwrap();
    let section = text.split_once(HEADING).unwrap_or_else(|| panic!("no `{HEADING}`")).1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells =
        rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells.map(|cells| (cells[0].clone(), cells[1].clone())).collect()
}

/// The table of known differences.
pub(crate) fn differences() -> Vec<Difference> {
    let text = fs::read_to_string(folder().join("differences.toml")).unwrap();
    let table: Table = toml::from_str(&text).unwrap_or_else(|e| panic!("differences.toml: {e}"));
    table.difference
}

/// A line as the file has it: its name first.
fn line(name: &str, members: &Value) -> String {
    let members = members.to_string();
    let rest = members.strip_prefix('{').unwrap();
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"what\":{}{comma}{rest}", Value::from(name))
}

/// Every leaf of `value` by its path.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    collect("", value, &mut out);
    out
}

fn collect(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    let dot = if path.is_empty() { "" } else { "." };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                collect(&format!("{path}{dot}{name}"), value, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                collect(&format!("{path}{dot}{at}"), value, out);
            }
        }
        _ => drop(out.insert(path.to_owned(), value.clone())),
    }
}

impl Golden<'_> {
    fn path(&self) -> PathBuf {
        folder().join(self.server).join(format!("{}.{}.jsonl", self.scenario, self.client))
    }

    pub(crate) fn record(&self, seen: &Seen) {
        let path = self.path();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = seen.iter().map(|(name, members)| line(name, members) + "\n").collect();
        fs::write(path, text).unwrap();
    }

    fn recorded(&self) -> Vec<(String, Value)> {
        let path = self.path();
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: record it first", path.display()));
        let lines = text.lines().map(|line| {
            let mut members: Map<String, Value> = serde_json::from_str(line).unwrap();
            let name = members.remove("what").unwrap().as_str().unwrap().to_owned();
            (name, Value::Object(members))
        });
        lines.collect()
    }

    /// The same scenario, recorded with another server; empty where it is not.
    fn recorded_with(&self, server: &str) -> Vec<(String, Value)> {
        let client = PAIRS.into_iter().find(|(_, known)| *known == server).map(|(client, _)| client);
        let other = Golden { server, client: client.unwrap(), scenario: self.scenario };
        if other.path().exists() { other.recorded() } else { Vec::new() }
    }

    /// Fails with a list of every member in which `seen` and the recorded file differ, known differences apart.
    pub(crate) fn hold(&self, seen: &Seen, known: &[Difference]) {
        let golden = self.recorded();
        let others: BTreeMap<&str, Vec<(String, Value)>> = known
            .iter()
            .filter_map(|known| known.like.as_deref())
            .map(|like| (like, self.recorded_with(like)))
            .collect();
        // Which differences were met, and in which lines.
        let mut met: BTreeSet<(usize, String)> = BTreeSet::new();
        let mut wrong = Vec::new();
        let mut found =
            |spot: &Spot<'_>, told: String| match known.iter().position(|known| known.covers(self, spot, &others)) {
                Some(at) => drop(met.insert((at, spot.line.to_owned()))),
                None => wrong.push(told),
            };
        for (name, members) in seen {
            if line_of(&golden, name).is_none() {
                let spot = Spot { line: name, member: None, recorded: None, ours: Some(members), refused: false };
                found(&spot, format!("`{name}` is not recorded: {members}"));
            }
        }
        for (name, expected) in &golden {
            let Some(members) = line_of(seen, name) else {
                let spot = Spot { line: name, member: None, recorded: Some(expected), ours: None, refused: false };
                found(&spot, format!("`{name}` is missing: {expected}"));
                continue;
            };
            let refused = [expected, members].iter().all(|line| line["code"].as_i64().is_some_and(|code| code != 0));
            let (apache, ours) = (leaves(expected), leaves(members));
            let members: BTreeSet<&String> = apache.keys().chain(ours.keys()).collect();
            for member in members {
                let (recorded, ours) = (apache.get(member), ours.get(member));
                let spot = Spot { line: name, member: Some(member), recorded, ours, refused };
                if spot.recorded != spot.ours {
                    let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
                    let told = format!("`{name}`: {member} is {}, recorded is {}", show(ours), show(recorded));
                    found(&spot, told);
                }
            }
        }
        if shared(&golden, seen) != shared(seen, &golden) {
            wrong.push("the lines come in another order".to_owned());
        }
        // A difference that is gone must leave the table. Those of every scenario need not occur in each.
        for (at, known) in known.iter().enumerate().filter(|(_, known)| known.is_only_of(self)) {
            let gone = known.lines.iter().filter(|line| !met.contains(&(at, (*line).clone())));
            wrong.extend(
                gone.map(|line| format!("differences.toml names `{line}` for `{}`: nothing differs", known.what)),
            );
        }
        assert!(wrong.is_empty(), "{}\n{}", self.path().display(), wrong.join("\n"));
    }
}

/// A place in which a run differs from what is recorded.
struct Spot<'a> {
    line: &'a str,
    /// Absent where the whole line is only on one side.
    member: Option<&'a str>,
    recorded: Option<&'a Value>,
    ours: Option<&'a Value>,
    /// Whether both answers of the line are refusals.
    refused: bool,
}

fn line_of<'a>(lines: &'a Seen, name: &str) -> Option<&'a Value> {
    lines.iter().find(|(known, _)| known == name).map(|(_, members)| members)
}

/// The names of those of `lines` that `others` has too, in the order of `lines`.
fn shared<'a>(lines: &'a Seen, others: &Seen) -> Vec<&'a str> {
    lines.iter().map(|(name, _)| name.as_str()).filter(|name| line_of(others, name).is_some()).collect()
}

/// Whether the path `member` is what `known` says.
fn is_called(member: &str, known: &str) -> bool {
    match known.strip_prefix('*') {
        Some(end) => member.ends_with(end),
        None => member == known,
    }
}

impl Difference {
    fn is_of(&self, golden: &Golden<'_>) -> bool {
        (self.scenario == "*" || self.scenario == golden.scenario)
            && self.server.as_deref().is_none_or(|server| server == golden.server)
    }

    fn is_only_of(&self, golden: &Golden<'_>) -> bool {
        self.scenario != "*" && self.is_of(golden)
    }

    fn covers(&self, golden: &Golden<'_>, spot: &Spot<'_>, others: &BTreeMap<&str, Vec<(String, Value)>>) -> bool {
        let is_of_line = self.lines.is_empty() || self.lines.iter().any(|line| line == spot.line);
        if !self.is_of(golden) || !is_of_line || (self.refused && !spot.refused) {
            return false;
        }
        let is_of_member = spot.member.is_some_and(|member| self.members.iter().any(|known| is_called(member, known)));
        if let Some(like) = &self.like {
            let other = line_of(&others[&**like], spot.line);
            let is_like = match spot.member {
                Some(member) => other.is_some_and(|other| leaves(other).get(member) == spot.ours),
                None => other == spot.ours,
            };
            return is_like && (self.members.is_empty() || is_of_member);
        }
        let begins = |text: &String| spot.recorded.and_then(Value::as_str).is_some_and(|value| value.starts_with(text));
        self.apache.as_ref().is_none_or(begins)
            && if self.members.is_empty() { spot.member.is_none() } else { is_of_member }
    }

    /// Whether it says where it holds: in lines, or in members. One that holds everywhere would hide what nobody meant.
    pub(crate) fn is_named(&self) -> bool {
        !self.lines.is_empty() || self.members.iter().any(|member| member != "*")
    }
}
