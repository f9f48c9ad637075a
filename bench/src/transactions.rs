//! `bench transactions`: halves and their ends, and afterwards a look at the topic, in which every committed message is
//! there once and no other.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;

use crate::consume::{Consumer, Extent, Since, Stamped};
use crate::crew::{Crew, lanes};
use crate::duo::{judge_numbers, run_number};
use crate::lane::{Span, Work};
use crate::options::{Command, TransactionsArgs};
use crate::pace::Clock;
use crate::report::{Compound, Percentiles};
use crate::send::{Producer, Purpose, Then};
use crate::target::{ByQueue, Range, Target};

pub(crate) fn run(args: TransactionsArgs) -> anyhow::Result<ExitCode> {
    let send = &args.send;
    let load = &send.load;
    let target = Target::for_sends(load, send.queues())?;
    let before = target.ends()?;
    let run = run_number(send.seed);
    let purpose = Purpose { then: Then::End { roll_back: args.roll_back }, run: Some(run), ..Purpose::plain() };
    let producer = Producer::new(send, &target, purpose)?;
    let (_, outcome) = producer.run(Span::new(send.warmup(), send.seconds(), load.patience()?))?;
    let (tally, ledger) = outcome.sent.context("no load thread has handed its counts over")?;
    let sent = producer.report("send", &before, &tally, &ledger, outcome.watched)?;

    // What was committed may be counted a moment later.
    let mut ranges: ByQueue<Range> =
        before.iter().map(|queues| queues.iter().map(|end| Range { min: *end, max: *end }).collect()).collect();
    let settled_by = Instant::now() + load.patience()?;
    for found in ledger.kept.findings() {
        let (broker, queue) = (usize::from(found.key.0), found.key.1 as usize);
        let range = &mut ranges[broker][queue];
        range.max = target.settled_max(broker, queue, range.min + found.count, settled_by)?;
    }
    let stamped = Stamped { run, since: Since::Never };
    let consumer = Consumer::new(load, &args.beside.read, args.beside.consumers(), &target, Some(stamped));
    let readers = consumer.connect(&consumer.stretches(&ranges, 1), lanes(load)?)?;
    let span = Span::open(load.patience()?);
    let readings = consumer.readings(readers, Extent::Once, None, span)?;
    let crew =
        Crew { load, spins: load.spins(false), clock: Clock::start(), span, goals: None, stop_after_reading: false };
    let outcome = crew.run(readings.into_iter().map(|one| Work { sending: None, reading: Some(one) }).collect())?;
    let (read_tally, faults, seen) = outcome.read.context("no load thread has handed over what it read")?;
    let read = consumer.report("look", &read_tally, &faults, None)?;

    let json = load.json.clone();
    let mut report = Compound::new("transactions", Command::Transactions(args));
    let whole = sent.latency_us;
    report.figure("transactions_per_second", sent.messages_per_second);
    report.figure("latency_us", serde_json::to_value(whole)?);
    report.line("rate", &format!("{:.0} transactions/s", sent.messages_per_second));
    report.line("whole", &in_words(&whole));
    if let Some(steps) = &tally.steps {
        for (name, figure, histogram) in [("half", "half_us", &steps.half), ("end", "end_us", &steps.end)] {
            let latency = Percentiles::of(histogram);
            report.figure(figure, serde_json::to_value(latency)?);
            report.line(name, &in_words(&latency));
        }
    }
    let (committed, rolled_back) = (ledger.kept.count(), ledger.withdrawn.count());
    report.figure("committed", committed);
    report.figure("rolled_back", rolled_back);
    report.figure("seen", seen.count());
    report.line("ends", &format!("{committed} committed, {rolled_back} rolled back, {} in the topic", seen.count()));
    judge_numbers(&mut report, &tally, &ledger, &seen);
    report.part("send", sent);
    if seen.count() > 0 || committed > 0 {
        // A look as fast as it goes: that the generator was busy then says nothing of the rest.
        read.findings.iter().for_each(|finding| report.finding(format!("look: {finding}")));
    }
    report.detail("look", read);
    report.finish(json.as_deref(), true)
}

fn in_words(latency: &Percentiles) -> String {
    format!(
        "us: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    )
}
