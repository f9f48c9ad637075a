//! Loads that send and read at once, in one process and on one clock: `bench e2e` and `bench mixed`, and the drain of
//! `bench backlog`. Each load thread does both.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::audit::Audit;
use crate::consume::{Consumer, Extent, Stretch};
use crate::crew::{Crew, lanes};
use crate::lane::{Span, Work};
use crate::options::{BesideArgs, Command, E2eArgs, MixedArgs, SendArgs};
use crate::pace::Clock;
use crate::random::Random;
use crate::report::{Compound, Report};
use crate::send::Producer;
use crate::target::{ByQueue, Target};

/// How the reading of a duo goes.
pub(crate) struct Reads<'r> {
    pub(crate) extent: Extent,
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    /// The bodies are stamped with this number of the run.
    pub(crate) run: Option<u64>,
    pub(crate) stretches: &'r dyn Fn(&Consumer<'_>) -> Vec<Stretch>,
    /// The sending ends with the reading.
    pub(crate) stop_after_reading: bool,
}

/// The reports of the two halves.
#[derive(Debug)]
pub(crate) struct Halves {
    pub(crate) sent: Report,
    pub(crate) read: Report,
}

/// Sends and reads. `before` are the queues' ends when it begins.
pub(crate) fn run_both(
    send: &SendArgs,
    beside: &BesideArgs,
    target: &Target,
    before: &ByQueue<u64>,
    span: Span,
    reads: &Reads<'_>,
) -> anyhow::Result<Halves> {
    let load = &send.load;
    let lanes = lanes(load)?;
    let producer = Producer::new(send, target, reads.run)?;
    let consumer = Consumer::new(load, &beside.read, beside.consumers(), target, reads.run);
    let senders = producer.connect(lanes)?;
    let readers = consumer.connect(&(reads.stretches)(&consumer), lanes)?;
    let clock = Clock::start();
    let sendings = producer.sendings(senders, clock, span)?;
    let readings = consumer.readings(readers, reads.extent, reads.rate, span)?;
    let goals = |audit: &Audit| goals(target, before, audit, send.one_way);
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
    let (tally, audit) = outcome.sent.context("no load thread has handed over what it sent")?;
    let sent = producer.report("send", before, &tally, &audit, outcome.watched)?;
    let (tally, faults) = outcome.read.context("no load thread has handed over what it read")?;
    let read = consumer.report("receive", &tally, &faults, outcome.watched)?;
    Ok(Halves { sent, read })
}

/// Up to where each queue must be read: what was acknowledged. Without answers, what arrived.
fn goals(target: &Target, before: &ByQueue<u64>, audit: &Audit, one_way: bool) -> anyhow::Result<ByQueue<u64>> {
    if one_way {
        return target.ends();
    }
    let mut goals = before.clone();
    for found in audit.findings() {
        let queues = goals.get_mut(usize::from(found.key.0)).context("an offset of a broker that is not in the run")?;
        let goal = queues.get_mut(found.key.1 as usize).context("an offset of a queue that is not in the run")?;
        *goal = found.last + 1;
    }
    Ok(goals)
}

/// A number that no other run has, to tell our messages from those of others.
fn run_number(seed: u64) -> u64 {
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
        run: Some(run_number(send.seed)),
        stretches: &|consumer| consumer.open_ended(&before),
        stop_after_reading: false,
    };
    let Halves { sent, read } = run_both(send, &args.beside, &target, &before, span, &reads)?;
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
        run: None,
        stretches: &|consumer| consumer.stretches(&ranges, 1),
        stop_after_reading: false,
    };
    let Halves { sent, read } = run_both(send, &args.beside, &target, &before, span, &reads)?;
    let json = send.load.json.clone();
    let mut report = Compound::new("mixed", Command::Mixed(args));
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
