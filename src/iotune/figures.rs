//! What was measured, cell by cell, as it is written down and shown.

use std::fmt;

use hdrhistogram::Histogram;
use ringmq_rt::CommitMethod;
use serde::{Deserialize, Serialize};

/// What the cores did beside the disk's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Cores {
    /// Nothing.
    Idle,
    /// Each was kept busy all the time, as by a loaded shard or a load generator.
    Busy,
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cores::Idle => "cores idle",
            Cores::Busy => "every core busy",
        })
    }
}

/// A distribution, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// Of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

/// Batches of one size made durable by one method, one in flight on each core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitFigure {
    #[serde(with = "method")]
    pub(crate) method: CommitMethod,
    /// Bytes of a batch.
    pub(crate) bytes: u32,
    pub(crate) cores: Cores,
    pub(crate) latency: Latency,
    /// CPU of this process a commit, in microseconds; only with idle cores, where nothing else runs.
    pub(crate) cpu_us: Option<f64>,
}

/// Pieces of one size, written or read in order, so many in flight on one core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StreamFigure {
    /// Bytes of a piece.
    pub(crate) bytes: u32,
    pub(crate) depth: u32,
    /// Of 1,000,000 bytes.
    pub(crate) mb_per_second: f64,
    pub(crate) latency: Latency,
}

/// A method by its name.
pub(crate) mod method {
    use ringmq_rt::CommitMethod;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(method: &CommitMethod, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(method.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<CommitMethod, D::Error> {
        let name = String::deserialize(from)?;
        CommitMethod::named(&name).ok_or_else(|| D::Error::custom(format_args!("`{name}` is no commit method")))
    }
}
