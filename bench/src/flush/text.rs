//! The outcome as a person reads it in a terminal: both side by side, and what lies between them.

use std::fmt::Write as _;

use super::args::Kind;
use super::outcome::{Mode, Outcome, Summary};
use crate::host::Storage;

const NAME: usize = 34;
const COLUMN: usize = 16;

/// A row of figures: its name, how to find it, how many decimals, and whether the larger one is the worse.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) figure: fn(&Summary) -> Option<f64>,
    pub(crate) decimals: usize,
}

const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// The groups of rows, with a title each; the page has the same.
pub(crate) fn rows(outcome: &Outcome) -> Vec<(String, Vec<Row>)> {
    let setup = &outcome.setup;
    let latency: [fn(&Summary) -> Option<f64>; 6] = [
        |s| Some(s.latency_us.p50),
        |s| Some(s.latency_us.p90),
        |s| Some(s.latency_us.p99),
        // Fewer values than that say nothing about it.
        |s| (s.messages >= 1_000).then_some(s.latency_us.p999),
        |s| (s.messages >= 10_000).then_some(s.latency_us.p9999),
        |s| Some(s.latency_us.max),
    ];
    let percentiles = |kind, which: &[usize]| -> Vec<Row> {
        let row = |i: &usize| Row { name: PERCENTILES[*i].to_owned(), kind, figure: latency[*i], decimals: 1 };
        which.iter().map(row).collect()
    };
    let row = |name: &str, kind, decimals, figure| Row { name: name.to_owned(), kind, figure, decimals };
    let mut rate = percentiles(Kind::Open, &[0, 1, 2, 3, 4, 5]);
    rate.extend([
        row("messages a second", Kind::Open, 0, |s| Some(s.messages_per_second)),
        row("flushes a second", Kind::Open, 1, |s| s.flush.as_ref().map(|flush| flush.flushes_per_second)),
        row("messages a flush", Kind::Open, 1, |s| s.flush.as_ref().and_then(|flush| flush.messages_per_flush)),
        row("broker CPU, us a message", Kind::Open, 2, |s| s.broker_cpu_us_per_message),
    ]);
    let window = u64::from(setup.connections) * u64::from(setup.in_flight);
    let mut closed = vec![row("messages a second", Kind::Closed, 0, |s| Some(s.messages_per_second))];
    closed.extend(percentiles(Kind::Closed, &[0, 2]));
    closed.extend([
        row("flushes a second", Kind::Closed, 1, |s| s.flush.as_ref().map(|flush| flush.flushes_per_second)),
        row("messages a flush", Kind::Closed, 1, |s| s.flush.as_ref().and_then(|flush| flush.messages_per_flush)),
    ]);
    let mut single = percentiles(Kind::Single, &[0, 2]);
    single.push(row("messages a second", Kind::Single, 0, |s| Some(s.messages_per_second)));
    let mut groups = vec![(format!("at {} messages a second, latency in us", grouped(setup.rate, 0)), rate)];
    if setup.closed_seconds > 0.0 {
        groups.push((format!("as fast as it goes, {} under way", grouped(window as f64, 0)), closed));
        groups.push(("one sender that waits for each answer".to_owned(), single));
    }
    groups
}

impl Row {
    /// The figure of one mode as text, with what stands for one that is not there.
    pub(crate) fn text(&self, mode: &Mode) -> String {
        match mode.summary(self.kind) {
            None => "not measured".to_owned(),
            Some(summary) => match (self.figure)(summary) {
                Some(value) => grouped(value, self.decimals),
                None if self.name.contains("flush") => "not reported".to_owned(),
                None => "too few".to_owned(),
            },
        }
    }

    /// The second as a multiple of the first.
    pub(crate) fn ratio(&self, modes: &[Mode]) -> Option<f64> {
        let figure = |mode: &Mode| mode.summary(self.kind).and_then(self.figure);
        let [one, two] = modes else { return None };
        let (one, two) = (figure(one)?, figure(two)?);
        (one > 0.0).then(|| two / one)
    }
}

pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "what durability costs{}", if outcome.is_partial { " (PARTIAL)" } else { "" });
    let _ = writeln!(text, "  {}", load_line(outcome));
    let _ = writeln!(text, "  {}\n", host_line(outcome));
    let _ = write!(text, "{:NAME$}", "");
    for mode in &outcome.modes {
        let _ = write!(text, "{:>COLUMN$}", mode.label);
    }
    let _ = writeln!(text, "{:>10}", "ratio");
    for (title, rows) in rows(outcome) {
        let _ = writeln!(text, "{title}");
        for row in rows {
            let _ = write!(text, "  {:<width$}", row.name, width = NAME - 2);
            for mode in &outcome.modes {
                let _ = write!(text, "{:>COLUMN$}", row.text(mode));
            }
            let _ = writeln!(text, "{:>10}", row.ratio(&outcome.modes).map_or_else(String::new, ratio));
        }
    }
    if !outcome.modes.iter().any(|mode| mode.open.as_ref().is_some_and(|open| open.flush.is_some())) {
        let _ = writeln!(text, "flushes and their sizes: not reported by this broker");
    }
    if let Some(device) = &outcome.device {
        let durable = &device.durable_write_us;
        let _ = writeln!(text, "the disk itself");
        let _ = writeln!(
            text,
            "  one durable write of 4 KiB, us    p50 {}  p99 {}  p99.9 {}  max {}",
            grouped(durable.p50, 1),
            grouped(durable.p99, 1),
            grouped(durable.p999, 1),
            grouped(durable.max, 1)
        );
        let _ = writeln!(
            text,
            "  sequential writes                 {} MB/s (128 KiB, {} under way)",
            grouped(device.sequential_bytes_per_second / 1e6, 0),
            device.sequential_depth
        );
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for (word, sentences) in [("REJECTED", &outcome.rejected), ("FAILED", &outcome.findings)] {
        for sentence in sentences {
            let _ = writeln!(text, "{word}: {sentence}");
        }
    }
    if outcome.findings.is_empty() {
        let _ = writeln!(text, "audit: every message is there, once, in order");
    }
    text
}

pub(crate) fn load_line(outcome: &Outcome) -> String {
    let setup = &outcome.setup;
    format!(
        "{} bytes, {} queues, {} connections x {} in flight, {} headers, {} rounds of {} s each in turns",
        setup.size, setup.queues, setup.connections, setup.in_flight, setup.header, setup.rounds, setup.seconds
    )
}

pub(crate) fn host_line(outcome: &Outcome) -> String {
    let host = &outcome.host;
    let virtual_machine = if host.virtual_machine { ", virtual machine" } else { "" };
    let storage = outcome.storage.as_ref().map_or_else(String::new, |storage| format!(", {}", storage_line(storage)));
    format!("{} x {}{virtual_machine}, {}{storage}", host.cpus, host.cpu, host.kernel)
}

pub(crate) fn storage_line(storage: &Storage) -> String {
    let Some(device) = &storage.device else { return storage.file_system.clone() };
    let mut line = format!("{} on {}", storage.file_system, device.name);
    if let Some(model) = &device.model {
        let _ = write!(line, " {model}");
    }
    if let Some(cache) = &device.write_cache {
        let _ = write!(line, " ({cache}{})", if device.fua == Some(false) { ", no FUA" } else { "" });
    }
    line
}

/// A ratio as people say it.
pub(crate) fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 99.5 => format!("{}x", grouped(ratio, 0)),
        // Two decimals would say nothing.
        ratio if ratio < 0.095 && ratio > 0.0 => format!("1/{}", grouped(1.0 / ratio, 0)),
        ratio => format!("{ratio:.2}x"),
    }
}

/// `12,345.6`
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped() {
        assert_eq!(grouped(1_234_567.891, 1), "1,234,567.9");
        assert_eq!((grouped(999.0, 0), grouped(0.25, 2)), ("999".to_owned(), "0.25".to_owned()));
        assert_eq!([ratio(5.123), ratio(1234.0), ratio(0.001)], ["5.12x", "1,234x", "1/1,000"]);
    }
}
