//! What a run leaves behind: the page, the JSON, and the latency at the rate in HdrHistogram's two formats, for its
//! plotter and for its log tools.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::args::Kind;
use super::outcome::{Mode, Outcome};
use crate::page;

/// HdrHistogram's own number of lines for each halving of what is above.
const TICKS_PER_HALF: u32 = 5;
/// The files' unit is the microsecond.
const NS_PER_UNIT: f64 = 1e3;

/// Makes the folder and sees that something can be written there, before a minute is spent.
pub(super) fn prepare(out: &Path) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be written: choose another folder with --out", out.display());
    fs::create_dir_all(out).with_context(cannot)?;
    tempfile::tempfile_in(out).with_context(cannot)?;
    Ok(())
}

/// Writes everything and says so.
pub(super) fn write(out: &Path, outcome: &Outcome) -> anyhow::Result<String> {
    let mut names = vec!["flush.html".to_owned(), "flush.json".to_owned()];
    let json = serde_json::to_string(outcome)?;
    to_file(out, "flush.json", |file| {
        file.write_all(json.as_bytes())?;
        Ok(file.write_all(b"\n")?)
    })?;
    to_file(out, "flush.html", |file| Ok(file.write_all(page::render(outcome, &json).as_bytes())?))?;
    for (i, mode) in outcome.modes.iter().enumerate() {
        let Some(open) = mode.summary(Kind::Open) else { continue };
        let (hgrm, hlog) = (format!("flush-{}.hgrm", mode.key), format!("flush-{}.hlog", mode.key));
        to_file(out, &hgrm, |file| percentiles(&open.latency, file))?;
        to_file(out, &hlog, |file| interval_log(outcome, i, mode, file))?;
        names.extend([hgrm, hlog]);
    }
    Ok(format!("written to {}: {}\n", out.display(), names.join(", ")))
}

fn to_file(
    out: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let path = out.join(name);
    let write = || {
        let mut file = BufWriter::new(File::create(&path)?);
        fill(&mut file)?;
        Ok::<(), anyhow::Error>(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The percentile table that HdrHistogram prints and its plotter reads, microseconds.
fn percentiles(histogram: &Histogram<u64>, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut seen = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        seen += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / NS_PER_UNIT, step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:12.3} {quantile:2.12} {seen:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {seen:10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_UNIT, histogram.stdev() / NS_PER_UNIT);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    let (max, count) = (histogram.max() as f64 / NS_PER_UNIT, histogram.len());
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {count:12}]")?;
    let (buckets, sub_buckets) = (histogram.buckets(), histogram.distinct_values());
    writeln!(out, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]")?;
    Ok(())
}

/// One line an interval, nanoseconds; the tag is the round.
fn interval_log(outcome: &Outcome, place: usize, mode: &Mode, out: &mut impl Write) -> anyhow::Result<()> {
    let base = UNIX_EPOCH + Duration::from_millis(outcome.began_ms);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("[ringmq {} bench flush, {}, latency in ns]", outcome.host.ringmq, mode.label))
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(1e6)
        .begin_log_with(out, &mut serializer)?;
    let rounds = outcome.rounds.iter().filter(|round| round.mode == place && round.kind == Kind::Open);
    for (number, round) in rounds.enumerate() {
        let Some(series) = &round.series else { continue };
        let from = Duration::from_millis(round.measured_from_ms.saturating_sub(outcome.began_ms));
        let name = format!("round-{}", number + 1);
        for (i, interval) in series.intervals().iter().enumerate() {
            let at = from + series.interval() * u32::try_from(i)?;
            log.write_histogram(&interval.latency, at, series.interval(), Tag::new(&name))?;
        }
    }
    Ok(())
}
