//! What a run has shown: printed for people, written as JSON for programs. The verdict is a list of sentences, each
//! naming one thing that must not be; a run with an empty list has passed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::encoded;
use crate::options::LoadArgs;
use crate::series::{Interval, Series};
use crate::tally::Tally;
use crate::watch::Usage;

/// Names this layout of the JSON file.
pub(crate) const SCHEMA: &str = "ringmq-bench/1";

/// A generator that is itself this late at its 99th percentile has measured itself, not the broker.
pub(crate) const LATENESS_MAX_NS: u64 = 100_000;
/// A closed loop whose threads never wait shows what the generator can do, not what the broker can.
const BUSY_MAX: f64 = 0.97;

/// Microseconds, from a histogram of nanoseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) p9999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    pub(crate) fn of<T: Counter>(histogram: &Histogram<T>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// One interval of the measured time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IntervalReport {
    /// Since the measured time began.
    pub(crate) from_seconds: f64,
    pub(crate) messages: u64,
    pub(crate) latency_us: Percentiles,
    /// HdrHistogram V2, deflated, base64; nanoseconds.
    pub(crate) histogram: String,
}

impl IntervalReport {
    fn all(series: &Series) -> anyhow::Result<Vec<IntervalReport>> {
        let length = series.interval().as_secs_f64();
        let of = |(i, one): (usize, &Interval)| {
            Ok(IntervalReport {
                from_seconds: i as f64 * length,
                messages: one.messages,
                latency_us: Percentiles::of(&one.latency),
                histogram: encoded::encode(&one.latency)?,
            })
        };
        series.intervals().iter().enumerate().map(of).collect()
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct RefusalReport {
    pub(crate) count: u64,
    pub(crate) first_remark: String,
}

/// How the load was set up, so that a run can be repeated from its JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) brokers: Vec<String>,
    pub(crate) topic: String,
    pub(crate) connections: u32,
    pub(crate) in_flight: u32,
    pub(crate) header: String,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) spins: bool,
    /// What only one kind of run has: rate, size, batch.
    pub(crate) more: BTreeMap<&'static str, serde_json::Value>,
}

impl Setup {
    pub(crate) fn new(load: &LoadArgs, brokers: Vec<String>, open_loop: bool) -> anyhow::Result<Setup> {
        Ok(Setup {
            brokers,
            topic: load.topic.clone(),
            connections: load.connections,
            in_flight: load.in_flight,
            header: load.header.to_string(),
            cpus: load.cpus()?,
            spins: load.spins(open_loop),
            more: BTreeMap::new(),
        })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) command: &'static str,
    pub(crate) setup: Setup,
    pub(crate) measured_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) successes: u64,
    pub(crate) messages_per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) latency_us: Percentiles,
    /// How late the generator itself was, open loop only.
    pub(crate) generator_lateness_us: Option<Percentiles>,
    pub(crate) generator_busy_share: f64,
    /// Of the load threads, per request, the whole run. Says little when they spin.
    pub(crate) generator_cpu_us_per_request: f64,
    pub(crate) refused: BTreeMap<i32, RefusalReport>,
    pub(crate) stray_replies: u64,
    pub(crate) unanswered: u64,
    pub(crate) unsent: u64,
    pub(crate) lost_connections: u64,
    pub(crate) watched: Option<Usage>,
    pub(crate) watched_cpu_us_per_message: Option<f64>,
    /// How the figures moved; the last interval may be shorter than the others.
    pub(crate) intervals: Vec<IntervalReport>,
    pub(crate) interval_seconds: Option<f64>,
    /// Things that must not be; empty when the run has passed.
    pub(crate) findings: Vec<String>,
    /// Things to know when reading the figures.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        command: &'static str,
        setup: Setup,
        tally: &Tally,
        measured_seconds: f64,
        watched: Option<Usage>,
    ) -> anyhow::Result<Report> {
        let open_loop = !tally.lateness.is_empty();
        let cpu_us = |usage: Usage| {
            let per_second = tally.measured_messages as f64 / measured_seconds;
            (per_second > 0.0).then(|| usage.cpu_seconds() / usage.seconds / per_second * 1e6)
        };
        let mut report = Report {
            schema: SCHEMA,
            command,
            setup,
            measured_seconds,
            requests: tally.requests,
            successes: tally.successes,
            messages_per_second: tally.measured_messages as f64 / measured_seconds,
            bytes_per_second: tally.measured_bytes as f64 / measured_seconds,
            latency_us: Percentiles::of(&tally.latency),
            generator_lateness_us: open_loop.then(|| Percentiles::of(&tally.lateness)),
            generator_busy_share: tally.busy_share(),
            generator_cpu_us_per_request: tally.cpu_ns as f64 / 1e3 / (tally.requests as f64).max(1.0),
            refused: BTreeMap::new(),
            stray_replies: tally.stray_replies,
            unanswered: tally.unanswered,
            unsent: tally.unsent,
            lost_connections: tally.lost_connections,
            watched,
            watched_cpu_us_per_message: watched.and_then(cpu_us),
            interval_seconds: tally.series.as_ref().map(|series| series.interval().as_secs_f64()),
            intervals: tally.series.as_ref().map_or(Ok(Vec::new()), IntervalReport::all)?,
            findings: Vec::new(),
            notes: Vec::new(),
        };
        report.judge(tally);
        Ok(report)
    }

    fn judge(&mut self, tally: &Tally) {
        for (code, refusals) in &tally.refusals {
            let refusal = RefusalReport { count: refusals.count, first_remark: refusals.first_remark.clone() };
            self.finding(format!(
                "{} replies were refusals or doubtful: code {code} {}",
                refusal.count,
                if refusal.first_remark.is_empty() { "without a remark" } else { &refusal.first_remark }
            ));
            self.refused.insert(*code, refusal);
        }
        if tally.stray_replies > 0 {
            self.finding(format!("{} replies match no request or contradict it", tally.stray_replies));
        }
        if tally.unanswered > 0 {
            self.finding(format!("{} requests were never answered", tally.unanswered));
        }
        if tally.unsent > 0 {
            self.finding(format!(
                "{} requests that were due were never sent: the rate could not be kept",
                tally.unsent
            ));
        }
        if let Some(why) = &tally.first_loss {
            let lost = tally.lost_connections;
            self.finding(format!("{lost} connections broke ({why}); the figures are those of a partial run"));
        }
        if tally.successes == 0 {
            self.finding("no request succeeded".to_owned());
        }
        if tally.lateness.value_at_quantile(0.99) > LATENESS_MAX_NS {
            self.note("the generator itself was late (p99 above 100 us): lower the rate or give it CPUs of its own");
        }
        if tally.lateness.is_empty() && self.generator_busy_share > BUSY_MAX && !self.setup.spins {
            self.note("the generator's threads never waited: the broker may be faster than this shows");
        }
    }

    pub(crate) fn finding(&mut self, sentence: String) {
        self.findings.push(sentence);
    }

    pub(crate) fn note(&mut self, sentence: &str) {
        self.notes.push(sentence.to_owned());
    }

    /// Prints, writes the JSON file when one is wanted, and says how the process shall end.
    pub(crate) fn finish(&self, json: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        out.write_all(self.text().as_bytes())?;
        if let Some(path) = json {
            write_json(path, self)?;
        }
        Ok(if self.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let setup = &self.setup;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} on {}", self.command, setup.topic, setup.brokers.join(", "));
        let more: Vec<String> = setup.more.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = writeln!(
            text,
            "  load        {} connections x {} in flight, {} headers, {}",
            setup.connections,
            setup.in_flight,
            setup.header,
            more.join(", ")
        );
        let _ = writeln!(
            text,
            "  throughput  {:.0} messages/s, {:.1} MB/s of bodies, over {:.2} s",
            self.messages_per_second,
            self.bytes_per_second / 1e6,
            self.measured_seconds
        );
        percentile_line(&mut text, "latency", &self.latency_us);
        if let Some(lateness) = &self.generator_lateness_us {
            percentile_line(&mut text, "lateness", lateness);
        }
        let _ = writeln!(
            text,
            "  generator   busy {:.0}% of the time, {:.2} us of CPU a request",
            self.generator_busy_share * 100.0,
            self.generator_cpu_us_per_request
        );
        if let Some(usage) = &self.watched {
            usage_line(&mut text, usage, self.watched_cpu_us_per_message);
        }
        let _ = writeln!(text, "  requests    {} sent, {} succeeded", self.requests, self.successes);
        for note in &self.notes {
            let _ = writeln!(text, "  note        {note}");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "  FAILED      {finding}");
        }
        if self.findings.is_empty() {
            let _ = writeln!(text, "  audit       clean");
        }
        text
    }
}

fn percentile_line(text: &mut String, name: &str, p: &Percentiles) {
    let _ = writeln!(
        text,
        "  {name:<10}  us: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}  mean {:.1}",
        p.p50, p.p90, p.p99, p.p999, p.p9999, p.max, p.mean
    );
}

pub(crate) fn usage_line(text: &mut String, usage: &Usage, us_per_message: Option<f64>) {
    let _ = write!(
        text,
        "  watched     {:.2}% of a CPU (user {:.2} s, system {:.2} s in {:.2} s), {:.1} MiB resident, {} sleeps, {} preemptions",
        usage.cpu_percent,
        usage.user_seconds,
        usage.system_seconds,
        usage.seconds,
        usage.rss_bytes as f64 / 1048576.0,
        usage.voluntary_switches,
        usage.involuntary_switches
    );
    if let Some(us) = us_per_message {
        let _ = write!(text, ", {us:.2} us of CPU a message");
    }
    text.push('\n');
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush().with_context(|| format!("cannot write {}", path.display()))
}
