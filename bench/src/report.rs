//! What a run has shown: printed for people, written as JSON for programs. The verdict is two lists of sentences: things
//! that must not be, and reasons why the figures say nothing because the generator could not keep up. A run with two
//! empty lists has passed.

mod compound;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

pub(crate) use self::compound::Compound;
use crate::encoded;
use crate::options::{Command, LoadArgs};
use crate::series::{Interval, Series};
use crate::tally::Tally;
use crate::watch::{Moment, Usage};

/// Names this layout of the JSON file.
pub(crate) const SCHEMA: &str = "ringmq-bench/1";

/// The exit code of a run whose generator could not keep up.
const EXIT_REJECTED: u8 = 5;

/// A generator that is itself this late at its 99th percentile, and by more than a part of the latency that it
/// measured, has measured itself and not the broker.
const LATENESS_MAX_NS: u64 = 100_000;
const LATENESS_PART: u64 = 10;
/// The answer of a broker that is asked for too much.
const SYSTEM_BUSY: i32 = 2;
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
    /// By what the remarks begin with, in brackets.
    pub(crate) causes: BTreeMap<String, u64>,
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
    /// The broker is asked for more than it can, and that it says so is no fault.
    #[serde(skip)]
    pub(crate) expects_refusals: bool,
    /// What only one kind of run has: rate, size, batch.
    pub(crate) more: BTreeMap<&'static str, serde_json::Value>,
}

impl Setup {
    pub(crate) fn new(load: &LoadArgs, brokers: Vec<String>, open_loop: bool) -> anyhow::Result<Setup> {
        Ok(Setup {
            brokers,
            topic: load.topic.clone(),
            connections: load.connections(),
            in_flight: load.in_flight,
            header: load.header.to_string(),
            cpus: load.cpus()?,
            spins: load.spins(open_loop),
            expects_refusals: false,
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
    /// One-way: `successes` counts nothing.
    pub(crate) asks_for_no_answer: bool,
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
    /// The run broke off: its figures are of the time until then.
    pub(crate) partial: bool,
    /// Things that must not be; empty when the run has passed.
    pub(crate) findings: Vec<String>,
    /// Why the figures are the generator's own and not the broker's.
    pub(crate) rejected: Vec<String>,
    /// Things to know when reading the figures.
    pub(crate) notes: Vec<String>,
    /// The command with every value that was used, from which it can be run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Command>,
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
        // A run can break off before its measured time.
        let seconds = measured_seconds.max(1e-9);
        let cpu_us = |usage: &Usage| {
            let per_second = tally.measured_messages as f64 / seconds;
            (per_second > 0.0).then(|| usage.cpu_seconds() / usage.seconds / per_second * 1e6)
        };
        let mut report = Report {
            schema: SCHEMA,
            command,
            setup,
            measured_seconds,
            requests: tally.requests,
            successes: tally.successes,
            asks_for_no_answer: tally.one_way > 0,
            messages_per_second: tally.measured_messages as f64 / seconds,
            bytes_per_second: tally.measured_bytes as f64 / seconds,
            latency_us: Percentiles::of(&tally.latency),
            generator_lateness_us: open_loop.then(|| Percentiles::of(&tally.lateness)),
            generator_busy_share: tally.busy_share(),
            generator_cpu_us_per_request: tally.cpu_ns as f64 / 1e3 / (tally.requests as f64).max(1.0),
            refused: BTreeMap::new(),
            stray_replies: tally.stray_replies,
            unanswered: tally.unanswered,
            unsent: tally.unsent,
            lost_connections: tally.lost_connections,
            watched_cpu_us_per_message: watched.as_ref().and_then(cpu_us),
            watched,
            interval_seconds: tally.series.as_ref().map(|series| series.interval().as_secs_f64()),
            intervals: tally.series.as_ref().map_or(Ok(Vec::new()), IntervalReport::all)?,
            partial: tally.first_loss.is_some(),
            findings: Vec::new(),
            rejected: Vec::new(),
            notes: Vec::new(),
            run: None,
        };
        report.judge(tally);
        Ok(report)
    }

    fn judge(&mut self, tally: &Tally) {
        for (code, refusals) in &tally.refusals {
            let refusal = RefusalReport {
                count: refusals.count,
                first_remark: refusals.first_remark.clone(),
                causes: refusals.causes.clone(),
            };
            if self.setup.expects_refusals && *code == SYSTEM_BUSY && !refusal.causes.contains_key("") {
                self.refused.insert(*code, refusal);
                continue;
            }
            self.finding(format!(
                "{} replies were refusals or doubtful: code {code} {}{}",
                refusal.count,
                if refusal.first_remark.is_empty() { "without a remark" } else { &refusal.first_remark },
                next_step(*code)
            ));
            self.refused.insert(*code, refusal);
        }
        if tally.stray_replies > 0 {
            self.finding(format!("{} replies match no request or contradict it", tally.stray_replies));
        }
        if tally.disordered > 0 {
            self.finding(format!("{} messages have a lower offset than an earlier one of their key", tally.disordered));
        }
        if tally.unanswered > 0 {
            self.finding(format!("{} requests were never answered", tally.unanswered));
        }
        if tally.unsent > 0 && self.setup.expects_refusals {
            self.notes.push(format!(
                "{} more requests were due, for which no connection had room: --in-flight and --connections bound what \
                 is offered at once",
                tally.unsent
            ));
        } else if tally.unsent > 0 {
            self.finding(format!(
                "{} requests that were due were never sent: the rate could not be kept",
                tally.unsent
            ));
        }
        if let Some(why) = &tally.first_loss {
            let lost = tally.lost_connections;
            self.finding(format!(
                "{lost} connections broke ({why}); the figures are those of a partial run: see the broker's log, and \
                 run this again when it is there"
            ));
        }
        if tally.successes == 0 && tally.one_way == 0 {
            self.finding("no request succeeded".to_owned());
        }
        let late = tally.lateness.value_at_quantile(0.99);
        if is_late(late, tally.latency.value_at_quantile(0.99)) && !self.setup.expects_refusals {
            self.rejected.push(format!(
                "the generator itself was {} us late at its p99: lower the rate, or give it CPUs of its own (--cpu)",
                late / 1000
            ));
        }
        if tally.lateness.is_empty() && self.generator_busy_share > BUSY_MAX {
            self.rejected.push(
                "the generator's threads never waited, the broker may be faster than this shows: give it more CPUs (--cpu)"
                    .to_owned(),
            );
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
        Ok(exit_code(&self.findings, &self.rejected))
    }

    fn text(&self) -> String {
        let mut text = self.figures();
        verdict(&mut text, &self.findings, &self.rejected, &self.notes);
        text
    }

    /// Everything but the verdict.
    fn figures(&self) -> String {
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
        if self.latency_us.count > 0 {
            percentile_line(&mut text, "latency", &self.latency_us);
        }
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
        for (code, refusal) in &self.refused {
            let causes: Vec<String> =
                refusal.causes.iter().map(|(cause, count)| format!("[{cause}] {count}")).collect();
            let _ = writeln!(text, "  refused     code {code}: {}", causes.join(", "));
        }
        let partial = if self.partial { ", PARTIAL RUN" } else { "" };
        let answered = if self.asks_for_no_answer {
            "none asks for an answer".to_owned()
        } else {
            format!("{} succeeded", self.successes)
        };
        let _ = writeln!(text, "  requests    {} sent, {answered}{partial}", self.requests);
        text
    }
}

/// Whether a generator that was so late at its 99th percentile has measured itself; nanoseconds.
pub(crate) fn is_late(lateness_p99: u64, latency_p99: u64) -> bool {
    lateness_p99 > LATENESS_MAX_NS && lateness_p99 > latency_p99 / LATENESS_PART
}

/// What somebody can do about a refusal, where the remark does not say it.
fn next_step(code: i32) -> &'static str {
    match code {
        2 => ": the broker is busy, lower the rate or the requests in flight",
        13 => ": see --size, --property and the broker's maxMessageSize",
        16 => ": give the topic the permission (`mqadmin updateTopicPerm`), or choose another --topic",
        17 => ": create the topic, or choose another --topic",
        14 => ": the broker is shutting down, or its disk is full",
        _ => "",
    }
}

/// Lines for everything that there is to say about a run.
fn verdict(text: &mut String, findings: &[String], rejected: &[String], notes: &[String]) {
    for (word, sentences) in [("note", notes), ("REJECTED", rejected), ("FAILED", findings)] {
        for sentence in sentences {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {word:<10}  {sentence}");
        }
    }
    if findings.is_empty() {
        let _ = writeln!(text, "  audit       clean");
    }
}

pub(crate) fn exit_code(findings: &[String], rejected: &[String]) -> ExitCode {
    match (findings.is_empty(), rejected.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(EXIT_REJECTED),
        (true, true) => ExitCode::SUCCESS,
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
        "  watched     {:.2}% of a CPU (user {:.2} s, system {:.2} s in {:.2} s), {:.1} MiB resident, {:.1} MB written, {} sleeps, {} preemptions",
        usage.cpu_percent,
        usage.user_seconds,
        usage.system_seconds,
        usage.seconds,
        usage.rss_bytes as f64 / 1048576.0,
        usage.written_bytes as f64 / 1e6,
        usage.voluntary_switches,
        usage.involuntary_switches
    );
    if let Some(us) = us_per_message {
        let _ = write!(text, ", {us:.2} us of CPU a message");
    }
    let resident = |one: &Moment| one.rss_bytes;
    if let (Some(least), Some(most)) =
        (usage.moments.iter().map(resident).min(), usage.moments.iter().map(resident).max())
    {
        let mib = |bytes: u64| bytes as f64 / 1048576.0;
        let _ = write!(text, ", {:.1} to {:.1} MiB resident meanwhile", mib(least), mib(most));
    }
    text.push('\n');
}

/// A line for whoever watches the command at work; the report does not have it.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{line}")?)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush().with_context(|| format!("cannot write {}", path.display()))
}
