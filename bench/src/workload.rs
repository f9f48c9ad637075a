//! Workload files: TOML with the field names of the OpenMessaging Benchmark's `Workload`. Every field here has a
//! meaning in this program; one that has none is an error with its name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Topics have so many keys when a workload wants keys; the OpenMessaging Benchmark's own number.
const KEYS: u32 = 10_000;

/// In minutes; the longest run.
const WEEK: f64 = 7.0 * 1440.0;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Workload {
    /// For people.
    name: Option<String>,
    pub(crate) topics: Option<u32>,
    pub(crate) partitions_per_topic: Option<u32>,
    key_distributor: Option<KeyDistributor>,
    pub(crate) message_size: Option<u32>,
    /// Relative to the workload file.
    pub(crate) payload_file: Option<PathBuf>,
    pub(crate) subscriptions_per_topic: Option<u32>,
    pub(crate) producers_per_topic: Option<u32>,
    pub(crate) consumer_per_subscription: Option<u32>,
    /// Messages a second over all topics; 0 is the search for the highest rate.
    pub(crate) producer_rate: Option<u32>,
    #[serde(rename = "consumerBacklogSizeGB")]
    pub(crate) consumer_backlog_size_gb: Option<u64>,
    pub(crate) backlog_drain_ratio: Option<f64>,
    pub(crate) test_duration_minutes: Option<f64>,
    pub(crate) warmup_duration_minutes: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum KeyDistributor {
    NoKey,
    KeyRoundRobin,
    RandomNano,
}

impl Workload {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Workload> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut workload = Workload::parse(&text).with_context(|| format!("workload {}", path.display()))?;
        workload.check().with_context(|| format!("workload {}", path.display()))?;
        if let (Some(payload), Some(folder)) = (&mut workload.payload_file, path.parent()) {
            *payload = folder.join(&payload);
        }
        Ok(workload)
    }

    fn parse(text: &str) -> anyhow::Result<Workload> {
        Ok(toml::from_str(text)?)
    }

    /// The bounds that the flags have too.
    fn check(&self) -> anyhow::Result<()> {
        for (name, value, from, to) in [
            ("topics", self.topics, 1, 50_000),
            ("partitionsPerTopic", self.partitions_per_topic, 1, 65_536),
            ("messageSize", self.message_size, 1, 4 << 20),
            ("subscriptionsPerTopic", self.subscriptions_per_topic, 0, 1_000),
            ("producersPerTopic", self.producers_per_topic, 1, 20_000),
            ("consumerPerSubscription", self.consumer_per_subscription, 0, 20_000),
            ("producerRate", self.producer_rate, 0, 1_000_000_000),
        ] {
            if let Some(value) = value {
                ensure!((from..=to).contains(&value), "{name} = {value}: it must be from {from} to {to}");
            }
        }
        for (name, value, above, to) in [
            ("testDurationMinutes", self.test_duration_minutes, 0.0, WEEK),
            ("warmupDurationMinutes", self.warmup_duration_minutes, -f64::MIN_POSITIVE, WEEK),
            ("backlogDrainRatio", self.backlog_drain_ratio, 0.0, 1.0),
        ] {
            if let Some(value) = value {
                ensure!(
                    value > above && value <= to,
                    "{name} = {value}: it must be above {:.0}, at most {to}",
                    above.abs()
                );
            }
        }
        Ok(())
    }

    /// How many keys the messages have.
    pub(crate) fn keys(&self) -> Option<u32> {
        match self.key_distributor? {
            KeyDistributor::NoKey => None,
            KeyDistributor::KeyRoundRobin | KeyDistributor::RandomNano => Some(KEYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_beside_the_source_is_understood() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let workload = Workload::read(&file.unwrap().path()).unwrap();
            assert!(workload.test_duration_minutes.is_some());
            count += 1;
        }
        assert!(count >= 4);
    }

    #[test]
    fn a_field_that_has_no_meaning_here_is_named() {
        let error = format!("{:#}", Workload::parse("topics = 1\nrandomBytesRatio = 0.5").unwrap_err());
        assert!(error.contains("unknown field `randomBytesRatio`"), "{error}");
        let error = format!("{:#}", Workload::parse("keyDistributor = \"SOME\"").unwrap_err());
        assert!(error.contains("SOME"), "{error}");
        assert_eq!(Workload::parse("keyDistributor = \"RANDOM_NANO\"").unwrap().keys(), Some(KEYS));
        for wrong in ["topics = 0", "messageSize = 5000000", "testDurationMinutes = 0", "warmupDurationMinutes = -1"] {
            let error = Workload::parse(wrong).unwrap().check().unwrap_err().to_string();
            assert!(error.starts_with(wrong), "{error}");
        }
        assert!(Workload::parse("warmupDurationMinutes = 0").unwrap().check().is_ok());
        assert_eq!(Workload::parse("consumerBacklogSizeGB = 2").unwrap().consumer_backlog_size_gb, Some(2));
    }
}
