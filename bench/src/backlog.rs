//! `bench backlog`: messages that nobody has read, and what reading them costs the producer that goes on meanwhile.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::consume::{Extent, Since};
use crate::duo::{Halves, Reads, run_both};
use crate::lane::Span;
use crate::options::{BacklogArgs, Command, SendArgs};
use crate::report::{Compound, say};
use crate::send::{Purpose, measure, send};
use crate::target::{ByQueue, Range, Target};

pub(crate) fn run(args: BacklogArgs) -> anyhow::Result<ExitCode> {
    let patience = args.send.load.patience()?;
    let target = Target::for_sends(&args.send.load, args.send.queues())?;
    let begun = target.ends()?;
    let builder = SendArgs { rate: None, closed: Some(args.send.load.in_flight), ..args.send.clone() };
    let limit = args.backlog.map_or(Limit::Bytes(args.backlog_bytes.unwrap_or_default()), Limit::Messages);
    say("building the backlog")?;
    let built = send(&builder, &target, Span::open(patience), Some(limit))?.report;
    let messages = built.successes * u64::from(args.send.batch);
    let backlog = backlog(&begun, &target.ends()?, args.drain_ratio.unwrap_or(1.0))?;

    say(&format!("{messages} messages are there; the producer alone"))?;
    let before = measure(&args.send)?.report;

    say("the producer, and readers of the backlog")?;
    let ends = target.ends()?;
    let to_read: u64 = backlog.iter().flatten().map(|range| range.max - range.min).sum();
    let reads = Reads {
        extent: Extent::Once,
        rate: None,
        since: Since::Sent,
        stretches: &|consumer| consumer.stretches(&backlog, 1),
        stop_after_reading: true,
    };
    let Halves { sent: during, read, .. } =
        run_both(&args.send, Purpose::plain(), &args.beside, &target, &ends, Span::open(patience), &reads)?;

    let json = args.send.load.json.clone();
    let mut report = Compound::new("backlog", Command::Backlog(args));
    let (alone, beside) = (before.latency_us.p99, during.latency_us.p99);
    let growth = beside / alone.max(f64::MIN_POSITIVE);
    report.figure("backlog_messages", messages);
    report.figure("read_messages", to_read);
    report.figure("drain_messages_per_second", read.messages_per_second);
    report.figure("drain_bytes_per_second", read.bytes_per_second);
    report.figure("producer_p99_us_before", alone);
    report.figure("producer_p99_us_during", beside);
    report.figure("producer_p99_growth", growth);
    report.line(
        "drain",
        &format!(
            "{to_read} messages in {:.2} s: {:.0} messages/s, {:.1} MB/s of bodies",
            read.measured_seconds,
            read.messages_per_second,
            read.bytes_per_second / 1e6
        ),
    );
    report.line("producer", &format!("p99 {alone:.1} us alone, {beside:.1} us during the drain: x {growth:.2}"));
    // Building it is a closed loop as fast as it goes; that the generator was busy then says nothing of the rest.
    let failed = !built.findings.is_empty();
    built.findings.iter().for_each(|finding| report.finding(format!("build: {finding}")));
    report.detail("build", built);
    report.part("before", before);
    report.part("during", during);
    // As fast as it goes as well: a lower bound, which a note says.
    read.findings.iter().for_each(|finding| report.finding(format!("drain: {finding}")));
    read.rejected.iter().for_each(|reason| report.note(format!("drain: {reason}")));
    report.detail("drain", read);
    if failed {
        report.note(
            "the backlog was not built as it should be: the other figures are not of the size that was asked for",
        );
    }
    report.finish(json.as_deref(), true)
}

/// How much a load sends before it stops.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    Messages(u64),
    Bytes(u64),
}

impl Limit {
    /// In requests of one load thread of `lanes`.
    pub(crate) fn requests(self, messages: u64, bytes: f64, lanes: usize) -> u64 {
        let all = match self {
            Limit::Messages(limit) => limit.div_ceil(messages),
            Limit::Bytes(limit) => (limit as f64 / bytes).ceil() as u64,
        };
        all.div_ceil(lanes as u64)
    }
}

/// What has come between two moments, or a share of it.
fn backlog(begun: &ByQueue<u64>, ends: &ByQueue<u64>, share: f64) -> anyhow::Result<ByQueue<Range>> {
    let of_queue = |(from, to): (&u64, &u64)| {
        let len = to.checked_sub(*from).context("a queue became shorter while the backlog was built")?;
        Ok(Range { min: *from, max: from + (len as f64 * share).ceil() as u64 })
    };
    begun.iter().zip(ends).map(|(from, to)| from.iter().zip(to).map(of_queue).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shared_by_the_lanes_and_never_below_what_was_asked_for() {
        assert_eq!(Limit::Messages(1000).requests(1, 10.0, 3), 334);
        assert_eq!(Limit::Messages(1000).requests(7, 70.0, 1), 143);
        assert_eq!(Limit::Bytes(1000).requests(1, 300.0, 2), 2);
    }

    #[test]
    fn a_share_of_a_backlog_begins_where_it_begins() {
        let range = |share| backlog(&vec![vec![10]], &vec![vec![110]], share).unwrap()[0][0];
        assert_eq!(range(1.0), Range { min: 10, max: 110 });
        assert_eq!(range(0.5), Range { min: 10, max: 60 });
        assert!(backlog(&vec![vec![10]], &vec![vec![9]], 1.0).is_err());
    }
}
