//! What a run found, in the form in which it is kept: everything to repeat it, to compute its figures again and to
//! compare it with another. The JSON file is this struct.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::Kind;
use super::counts::Counts;
use super::device::DeviceReport;
use crate::encoded;
use crate::host::{Host, Storage};
use crate::report::{Percentiles, Report};
use crate::send::Measured;
use crate::series::Series;

/// Names this layout of the JSON file; the number changes with a meaning, not with an addition.
pub(crate) const SCHEMA: &str = "ringmq-bench-flush/1";

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) schema: &'static str,
    /// The words of the command line.
    pub(crate) command: Vec<String>,
    /// When it began, milliseconds since 1970, and how long it took.
    pub(crate) began_ms: u64,
    pub(crate) took_seconds: f64,
    /// It ended before everything was measured; the findings say why.
    pub(crate) is_partial: bool,
    pub(crate) host: Host,
    /// `None` when the brokers run elsewhere.
    pub(crate) storage: Option<Storage>,
    pub(crate) setup: Setup,
    pub(crate) device: Option<DeviceReport>,
    pub(crate) modes: Vec<Mode>,
    pub(crate) rounds: Vec<Round>,
    /// Things that must not be; empty when the run has passed.
    pub(crate) findings: Vec<String>,
    /// Why the figures are the generator's own and not the brokers'.
    pub(crate) rejected: Vec<String>,
    /// Things to know when reading the figures.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setup {
    pub(crate) rate: f64,
    pub(crate) size: u32,
    pub(crate) queues: u32,
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
    pub(crate) header: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    pub(crate) closed_seconds: f64,
    pub(crate) topic: String,
    pub(crate) broker_cpus: Option<Vec<usize>>,
    pub(crate) load_cpus: Option<Vec<usize>>,
    /// Whether the load polls without sleeping, at the rate.
    pub(crate) spins: bool,
    /// The command lines of the servers that were started.
    pub(crate) servers: Vec<String>,
    /// Of the brokers, as the user gave it.
    pub(crate) config: Option<String>,
}

/// One of the two that are compared, over all its rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Mode {
    /// ASYNC_FLUSH and SYNC_FLUSH, or the brokers' addresses.
    pub(crate) label: String,
    /// The same as part of a file name.
    pub(crate) key: String,
    pub(crate) broker: String,
    pub(crate) open: Option<Summary>,
    pub(crate) closed: Option<Summary>,
    pub(crate) single: Option<Summary>,
}

impl Mode {
    pub(crate) fn summary(&self, kind: Kind) -> Option<&Summary> {
        match kind {
            Kind::Open => self.open.as_ref(),
            Kind::Closed => self.closed.as_ref(),
            Kind::Single => self.single.as_ref(),
        }
    }
}

/// The rounds of one kind taken together.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) rounds: usize,
    pub(crate) messages: u64,
    pub(crate) messages_per_second: f64,
    pub(crate) latency_us: Percentiles,
    /// HdrHistogram V2, deflated, base64; nanoseconds.
    pub(crate) histogram: String,
    /// Quantile and microseconds.
    pub(crate) curve: Vec<(f64, f64)>,
    pub(crate) generator_lateness_us: Option<Percentiles>,
    /// Of a broker on this machine.
    pub(crate) broker_cpu_us_per_message: Option<f64>,
    /// `None` from a broker that does not report it.
    pub(crate) flush: Option<FlushSummary>,
    #[serde(skip)]
    pub(crate) latency: Histogram<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FlushSummary {
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) flushes_per_second: f64,
    pub(crate) messages_per_flush: Option<f64>,
    pub(crate) writes_per_second: f64,
    pub(crate) messages_per_write: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Round {
    /// Which of the modes.
    pub(crate) mode: usize,
    pub(crate) kind: Kind,
    /// The round as a command, with the address that the broker had then.
    pub(crate) command: String,
    /// When its measured time began, milliseconds since 1970.
    pub(crate) measured_from_ms: u64,
    pub(crate) report: Report,
    /// Of the whole round, warm-up and end included, like `load_seconds`.
    pub(crate) flush: Option<Counts>,
    pub(crate) load_seconds: f64,
    #[serde(skip)]
    pub(crate) latency: Histogram<u64>,
    #[serde(skip)]
    pub(crate) lateness: Histogram<u64>,
    #[serde(skip)]
    pub(crate) series: Option<Series>,
}

impl Round {
    pub(crate) fn new(
        mode: usize,
        kind: Kind,
        command: String,
        measured: Measured,
        flush: Option<Counts>,
        load_seconds: f64,
    ) -> Round {
        let Measured { report, tally, measured_from_ms } = measured;
        let (latency, lateness, series) = (tally.latency, tally.lateness, tally.series);
        Round { mode, kind, command, measured_from_ms, report, flush, load_seconds, latency, lateness, series }
    }
}

impl Summary {
    /// `None` without a round that measured anything.
    pub(crate) fn of(rounds: &[Round], mode: usize, kind: Kind) -> anyhow::Result<Option<Summary>> {
        let ours =
            || rounds.iter().filter(|round| round.mode == mode && round.kind == kind && !round.latency.is_empty());
        let Some(first) = ours().next() else { return Ok(None) };
        let mut latency = Histogram::new_from(&first.latency);
        let mut lateness = Histogram::new_from(&first.lateness);
        for round in ours() {
            latency.add(&round.latency)?;
            lateness.add(&round.lateness)?;
        }
        let sum = |of: &dyn Fn(&Round) -> f64| ours().map(of).sum::<f64>();
        let per_second = sum(&|round| round.report.messages_per_second);
        let count = ours().count();
        let cpu: Option<Vec<f64>> = ours().map(|round| round.report.watched_cpu_us_per_message).collect();
        Ok(Some(Summary {
            rounds: count,
            messages: latency.len(),
            messages_per_second: per_second / count as f64,
            latency_us: Percentiles::of(&latency),
            histogram: encoded::encode(&latency)?,
            curve: encoded::curve(&latency),
            generator_lateness_us: (!lateness.is_empty()).then(|| Percentiles::of(&lateness)),
            broker_cpu_us_per_message: cpu.map(|all| all.iter().sum::<f64>() / count as f64),
            flush: FlushSummary::of(ours),
            latency,
        }))
    }
}

impl FlushSummary {
    fn of<'a, I: Iterator<Item = &'a Round>>(rounds: impl Fn() -> I) -> Option<FlushSummary> {
        let mut counts = Counts::default();
        for round in rounds() {
            counts = counts.plus(round.flush.as_ref()?)?;
        }
        let seconds: f64 = rounds().map(|round| round.load_seconds).sum();
        let messages: u64 = rounds().map(|round| round.report.successes).sum();
        let each = |times: u64| (times > 0).then(|| messages as f64 / times as f64);
        Some(FlushSummary {
            flushes_per_second: counts.flushes as f64 / seconds,
            messages_per_flush: each(counts.flushes),
            writes_per_second: counts.writes as f64 / seconds,
            messages_per_write: each(counts.writes),
            counts,
        })
    }
}
