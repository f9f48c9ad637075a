//! The results to compare, read back from the JSON files of `bench flush` and of the single loads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::encoded;
use crate::flush::outcome::SCHEMA as FLUSH_SCHEMA;
use crate::report::SCHEMA as LOAD_SCHEMA;

/// What was loaded how, over all runs of one side.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) is_open_loop: bool,
    pub(super) rounds: Vec<Round>,
    /// Every latency that occurs, nanoseconds, ascending.
    pub(super) values: Rc<[u64]>,
}

#[derive(Debug)]
pub(super) struct Round {
    pub(super) intervals: Vec<Interval>,
}

#[derive(Debug)]
pub(super) struct Interval {
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// Place in the load's values, and how often.
    pub(super) latency: Vec<(u32, u64)>,
}

/// All runs of one side.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) loads: BTreeMap<String, Load>,
    /// What must be equal on both sides, by name.
    facts: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
struct FlushFile {
    is_partial: bool,
    findings: Vec<String>,
    rejected: Vec<String>,
    host: Value,
    setup: Value,
    modes: Vec<ModeFile>,
    rounds: Vec<RoundFile>,
}

#[derive(Debug, Deserialize)]
struct ModeFile {
    label: String,
}

#[derive(Debug, Deserialize)]
struct RoundFile {
    mode: usize,
    kind: String,
    report: LoadFile,
}

#[derive(Debug, Deserialize)]
struct LoadFile {
    #[serde(default)]
    command: String,
    setup: Value,
    findings: Vec<String>,
    #[serde(default)]
    rejected: Vec<String>,
    #[serde(default)]
    partial: bool,
    measured_seconds: f64,
    generator_lateness_us: Option<Value>,
    interval_seconds: Option<f64>,
    #[serde(default)]
    intervals: Vec<IntervalFile>,
}

#[derive(Debug, Deserialize)]
struct IntervalFile {
    from_seconds: f64,
    messages: u64,
    histogram: String,
}

/// A round whose latencies have no places yet.
type Raw = Vec<(u64, f64, Vec<(u64, u64)>)>;

#[derive(Debug, Default)]
struct Collected {
    loads: BTreeMap<String, (bool, Vec<Raw>)>,
    facts: BTreeMap<String, BTreeSet<String>>,
}

impl Runs {
    pub(super) fn read(path: &Path) -> anyhow::Result<Runs> {
        let mut collected = Collected::default();
        for file in files(path)? {
            collected.file(&file).with_context(|| file.display().to_string())?;
        }
        let loads = collected.loads.into_iter().map(|(name, (is_open_loop, rounds))| {
            let values: BTreeSet<u64> =
                rounds.iter().flatten().flat_map(|interval| interval.2.iter().map(|pair| pair.0)).collect();
            let values: Rc<[u64]> = values.into_iter().collect();
            let place = |value: &u64| values.binary_search(value).unwrap_or(0) as u32;
            let interval = |(messages, seconds, latency): &(u64, f64, Vec<(u64, u64)>)| Interval {
                messages: *messages,
                seconds: *seconds,
                latency: latency.iter().map(|(value, count)| (place(value), *count)).collect(),
            };
            let rounds = rounds.iter().map(|raw| Round { intervals: raw.iter().map(interval).collect() }).collect();
            (name, Load { is_open_loop, rounds, values: Rc::clone(&values) })
        });
        Ok(Runs { loads: loads.collect(), facts: collected.facts })
    }

    pub(super) fn names(&self) -> String {
        self.loads.keys().cloned().collect::<Vec<_>>().join(", ")
    }

    /// What one side measured otherwise than the other, a sentence each.
    pub(super) fn differences(&self, other: &Runs) -> Vec<String> {
        let said = |runs: &Runs, name: &String| {
            let values: Vec<String> = runs.facts.get(name).into_iter().flatten().cloned().collect();
            values.join(" and ")
        };
        let names: BTreeSet<&String> = self.facts.keys().chain(other.facts.keys()).collect();
        let differ = names.into_iter().filter(|name| self.facts.get(*name) != other.facts.get(*name));
        differ.map(|name| format!("{name} is {} in A and {} in B", said(self, name), said(other, name))).collect()
    }
}

/// The file, or the JSON files of the folder.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let named = || path.display().to_string();
    if !fs::metadata(path).with_context(named)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(named)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "json") {
            found.push(file);
        }
    }
    ensure!(!found.is_empty(), "{} holds no .json file", path.display());
    found.sort_unstable();
    Ok(found)
}

impl Collected {
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(path)?;
        let value: Value = serde_json::from_slice(&bytes).context("it is no JSON")?;
        match value.get("schema").and_then(Value::as_str) {
            Some(schema) if schema == FLUSH_SCHEMA => self.flush(serde_json::from_value(value)?),
            Some(schema) if schema == LOAD_SCHEMA => {
                let load: LoadFile = serde_json::from_value(value)?;
                sound(&load.findings, &load.rejected, load.partial)?;
                self.facts(&load.setup, &LOAD_FACTS);
                if let Some(more) = load.setup.get("more") {
                    self.facts(more, &["queues", "size", "rate", "loop", "arrivals", "batch", "topics"]);
                }
                let name = load.command.clone();
                self.load(name, load)
            }
            Some(schema) => {
                bail!("its schema is {schema}; this version compares {FLUSH_SCHEMA} and {LOAD_SCHEMA}")
            }
            None => bail!("it is no result of ringmq bench: it names no schema"),
        }
    }

    fn flush(&mut self, file: FlushFile) -> anyhow::Result<()> {
        sound(&file.findings, &file.rejected, file.is_partial)?;
        self.facts(&file.setup, &["rate", "size", "queues", "broker_cpus", "load_cpus"]);
        self.facts(&file.setup, &LOAD_FACTS);
        self.facts(&file.host, &["cpu", "cpus", "debug_build"]);
        for round in file.rounds {
            let mode = file.modes.get(round.mode).context("a round of a mode that is not there")?;
            self.load(format!("{} {}", mode.label, round.kind), round.report)?;
        }
        Ok(())
    }

    fn facts(&mut self, of: &Value, names: &[&str]) {
        for name in names {
            let value = of.get(name).filter(|value| !value.is_null()).map_or("not set".to_owned(), Value::to_string);
            self.facts.entry((*name).to_owned()).or_default().insert(value);
        }
    }

    fn load(&mut self, name: String, load: LoadFile) -> anyhow::Result<()> {
        let length =
            load.interval_seconds.context("it has no intervals: a load of unknown length cannot be compared")?;
        ensure!(!load.intervals.is_empty(), "it has no intervals");
        let mut round = Raw::new();
        for interval in load.intervals {
            let histogram = encoded::decode(&interval.histogram).context("an interval's histogram")?;
            let values = histogram
                .iter_recorded()
                .map(|step| (histogram.median_equivalent(step.value_iterated_to()), step.count_since_last_iteration()));
            let seconds = length.min(load.measured_seconds - interval.from_seconds).max(0.0);
            round.push((interval.messages, seconds, values.collect()));
        }
        let is_open_loop = load.generator_lateness_us.is_some();
        self.loads.entry(name).or_insert_with(|| (is_open_loop, Vec::new())).1.push(round);
        Ok(())
    }
}

/// What a load must have in common with another to be compared with it.
const LOAD_FACTS: [&str; 3] = ["connections", "in_flight", "header"];

fn sound(findings: &[String], rejected: &[String], is_partial: bool) -> anyhow::Result<()> {
    ensure!(!is_partial, "it is the report of a partial run; run it again");
    match (findings, rejected) {
        ([], []) => Ok(()),
        ([first, ..], _) => bail!("that run failed, its figures prove nothing: {first}"),
        ([], [first, ..]) => bail!("that run was rejected, its figures are partly the generator's: {first}"),
    }
}
