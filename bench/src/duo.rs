//! Loads that send and read at once, in one process and on one clock: `bench e2e` and `bench mixed`, and the drain of
//! `bench backlog`. Each load thread does both.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::audit::{Audit, Ledger, QueueFindings};
use crate::consume::{Consumer, Extent, Since, Stamped, Stretch};
use crate::crew::{Crew, lanes};
use crate::lane::{Span, Work};
use crate::options::{BesideArgs, Command, E2eArgs, MixedArgs, SendArgs};
use crate::pace::Clock;
use crate::random::Random;
use crate::report::{Compound, Report};
use crate::send::{Producer, Purpose, Then};
use crate::tally::Tally;
use crate::target::{ByQueue, Target};

/// Below this share of the rate that was asked for, reading is worth a word.
const READ_KEPT: f64 = 0.95;

/// How the reading of a duo goes.
pub(crate) struct Reads<'r> {
    pub(crate) extent: Extent,
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    /// What the stamps of the bodies are read for.
    pub(crate) since: Since,
    pub(crate) stretches: &'r dyn Fn(&Consumer<'_>) -> Vec<Stretch>,
    /// The sending ends with the reading.
    pub(crate) stop_after_reading: bool,
}

/// The reports of the two halves, and what they know of the messages.
#[derive(Debug)]
pub(crate) struct Halves {
    pub(crate) sent: Report,
    pub(crate) read: Report,
    pub(crate) sent_tally: Tally,
    pub(crate) ledger: Ledger,
    pub(crate) seen: Audit,
}

/// Sends and reads. `before` are the queues' ends when it begins.
pub(crate) fn run_both(
    send: &SendArgs,
    purpose: Purpose,
    beside: &BesideArgs,
    target: &Target,
    before: &ByQueue<u64>,
    span: Span,
    reads: &Reads<'_>,
) -> anyhow::Result<Halves> {
    let load = &send.load;
    let lanes = lanes(load)?;
    let producer = Producer::new(send, target, purpose)?;
    let stamped = purpose.run.map(|run| Stamped { run, since: reads.since });
    let consumer = Consumer::new(load, &beside.read, beside.consumers(), target, stamped);
    let senders = producer.connect(lanes)?;
    let readers = consumer.connect(&(reads.stretches)(&consumer), lanes)?;
    let clock = Clock::start();
    let sendings = producer.sendings(senders, clock, span)?;
    let readings = consumer.readings(readers, reads.extent, reads.rate, span)?;
    let goals = |audit: &Audit| match (purpose.then, send.one_way) {
        // Nobody knows their offsets beforehand, but each brings its queue on by one.
        (Then::Due(_), _) => goals(before, audit, |before, found| before + found.count),
        (_, true) => target.ends(),
        _ => goals(before, audit, |_, found| found.last + 1),
    };
    let crew = Crew {
        load,
        spins: load.spins(send.rate().is_some()),
        clock,
        span,
        goals: Some(&goals),
        stop_after_reading: reads.stop_after_reading,
    };
    let work = sendings.into_iter().zip(readings);
    let work = work.map(|(sending, reading)| Work { sending: Some(sending), reading: Some(reading) }).collect();
    let outcome = crew.run(work)?;
    let (sent_tally, ledger) = outcome.sent.context("no load thread has handed over what it sent")?;
    let sent = producer.report("send", before, &sent_tally, &ledger, outcome.watched.clone())?;
    let (tally, faults, seen) = outcome.read.context("no load thread has handed over what it read")?;
    let read = consumer.report("receive", &tally, &faults, outcome.watched)?;
    Ok(Halves { sent, read, sent_tally, ledger, seen })
}

/// Up to where each queue must be read.
fn goals(
    before: &ByQueue<u64>,
    audit: &Audit,
    goal_of: impl Fn(u64, &QueueFindings) -> u64,
) -> anyhow::Result<ByQueue<u64>> {
    let mut goals = before.clone();
    for found in audit.findings() {
        let queues = goals.get_mut(usize::from(found.key.0)).context("an offset of a broker that is not in the run")?;
        let goal = queues.get_mut(found.key.1 as usize).context("an offset of a queue that is not in the run")?;
        *goal = goal_of(*goal, &found);
    }
    Ok(goals)
}

/// What became of messages that were told from each other by their numbers.
pub(crate) fn judge_numbers(report: &mut Compound, tally: &Tally, ledger: &Ledger, seen: &Audit) {
    let promised = ledger.kept.compare(seen);
    let withdrawn = ledger.withdrawn.compare(seen);
    // Of messages without an answer nobody knows what was to become.
    let unknown = tally.unanswered > 0 || tally.stray_replies > 0 || !tally.refusals.is_empty();
    let extra = seen.count() - promised.common - withdrawn.common;
    for (count, what) in [
        (promised.only_here, "messages that were promised to consumers did not come"),
        (seen.duplicates(), "messages came more than once"),
        (withdrawn.common, "messages that were rolled back came"),
        (if unknown { 0 } else { extra }, "messages came that were never acknowledged"),
    ] {
        if count > 0 {
            report.finding(format!("{count} {what}"));
        }
    }
}

/// A number that no other run has, to tell our messages from those of others.
pub(crate) fn run_number(seed: u64) -> u64 {
    let now = Clock::start().wall_ms(0);
    Random::new(seed ^ now, u64::from(std::process::id())).next()
}

pub(crate) fn run_e2e(args: E2eArgs) -> anyhow::Result<ExitCode> {
    let send = &args.send;
    let span = Span::new(send.warmup(), send.seconds(), send.load.patience()?);
    let target = Target::for_sends(&send.load, send.queues())?;
    let before = target.ends()?;
    let reads = Reads {
        extent: Extent::Follow,
        rate: None,
        since: Since::Sent,
        stretches: &|consumer| consumer.open_ended(&before),
        stop_after_reading: false,
    };
    let purpose = Purpose { run: Some(run_number(send.seed)), ..Purpose::plain() };
    let Halves { sent, read, .. } = run_both(send, purpose, &args.beside, &target, &before, span, &reads)?;
    let json = send.load.json.clone();
    let mut report = Compound::new("e2e", Command::E2e(args));
    let latency = read.latency_us;
    report.figure("latency_us", serde_json::to_value(latency)?);
    report.figure("messages_per_second", read.messages_per_second);
    report.line(
        "end to end",
        &format!(
            "us from the intended send to the receipt: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        ),
    );
    report.part("send", sent);
    report.part("receive", read);
    report.finish(json.as_deref(), true)
}

pub(crate) fn run_mixed(args: MixedArgs) -> anyhow::Result<ExitCode> {
    let send = &args.send;
    let span = Span::new(send.warmup(), send.seconds(), send.load.patience()?);
    let target = Target::for_sends(&send.load, send.queues())?;
    let ranges = target.ranges()?;
    let before: ByQueue<u64> = ranges.iter().map(|queues| queues.iter().map(|range| range.max).collect()).collect();
    ensure!(
        ranges.iter().flatten().any(|range| range.max > range.min),
        "topic {} holds no message that could be read: `ringmq bench send` puts some there",
        send.load.topic
    );
    let reads = Reads {
        extent: Extent::Until(span.send_until),
        rate: Some(args.read_rate),
        since: Since::Sent,
        stretches: &|consumer| consumer.stretches(&ranges, 1),
        stop_after_reading: false,
    };
    let Halves { sent, read, .. } = run_both(send, Purpose::plain(), &args.beside, &target, &before, span, &reads)?;
    let (json, read_rate) = (send.load.json.clone(), args.read_rate);
    let mut report = Compound::new("mixed", Command::Mixed(args));
    if read.messages_per_second < read_rate * READ_KEPT {
        report.note(
            "pulls brought fewer messages than --pull-batch: a broker caps them (maxTransferCountOnMessageInMemory)",
        );
    }
    report.figure("sent_per_second", sent.messages_per_second);
    report.figure("read_per_second", read.messages_per_second);
    report.line(
        "rates",
        &format!("{:.0} messages/s sent, {:.0} read", sent.messages_per_second, read.messages_per_second),
    );
    report.part("send", sent);
    report.part("receive", read);
    report.finish(json.as_deref(), true)
}
