//! `bench send`: sets the lanes up, lets them run, merges what they counted and judges it.

pub(crate) mod lane;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::json;

use self::lane::{Lane, Sender, Span};
use crate::audit::Audit;
use crate::link::Link;
use crate::options::{PropertiesLike, SendArgs};
use crate::pace::Clock;
use crate::report::{Report, Setup};
use crate::schedule::Schedule;
use crate::tally::Tally;
use crate::target::{Range, Target};
use crate::watch::{Sample, Usage};
use crate::wire::{SendShape, SendTemplates};

const PRODUCER_GROUP: &str = "RingMQBenchProducer";
const TAG: &str = "TagA";

const SECONDS_MAX: f64 = 7.0 * 86_400.0;

pub(crate) fn run(args: &SendArgs) -> anyhow::Result<ExitCode> {
    measure(args)?.report.finish(args.load.json.as_deref())
}

/// A load that has run, with the verdict over it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) report: Report,
    pub(crate) tally: Tally,
    /// When the measured time began, milliseconds since 1970.
    pub(crate) measured_from_ms: u64,
}

/// Sends, measures and audits without a word. An error is a load that could not begin or could not go on; what was
/// wrong with one that ran is in its report.
pub(crate) fn measure(args: &SendArgs) -> anyhow::Result<Measured> {
    check(args)?;
    let load = &args.load;
    let target = Target::for_sends(load, args.queues)?;
    let before = target.ranges()?;
    let cpus = load.cpus()?;
    let lanes = cpus.as_ref().map_or(1, Vec::len);
    let body = body(args.size);
    let senders = connect(args, &target, &body, lanes)?;

    let clock = Clock::start();
    let span = span(args)?;
    let outcome = drive(args, senders, cpus.as_deref(), clock, span)?;

    let mut setup = Setup::new(load, target.labels(), args.rate.is_some())?;
    setup.more.insert("queues", json!(args.queues));
    setup.more.insert("size", json!(args.size));
    setup.more.insert("loop", json!(if args.rate.is_some() { "open" } else { "closed" }));
    if let Some(rate) = args.rate {
        setup.more.insert("rate", json!(rate));
    }
    setup.more.insert("warmup", json!(args.warmup));
    let mut tally = outcome.tally;
    tally.measured_bytes = tally.measured_messages * u64::from(args.size);
    let mut report = Report::new("send", setup, &tally, args.seconds, outcome.watched)?;
    if let Err(error) = judge(args, &target, &before, &tally, &outcome.audit, &mut report) {
        report.finding(format!("the audit is incomplete, the offsets cannot be asked for: {error:#}"));
    }
    Ok(Measured { report, tally, measured_from_ms: clock.wall_ms(span.measure_from) })
}

fn check(args: &SendArgs) -> anyhow::Result<()> {
    ensure!(args.seconds > 0.0 && args.seconds <= SECONDS_MAX, "--seconds must be above zero, at most a week");
    ensure!((0.0..=SECONDS_MAX).contains(&args.warmup), "--warmup must not be negative, at most a week");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0 && rate <= 1e9), "--rate must be above zero, at most 1e9");
    Ok(())
}

/// The same bytes in every run, and none that a compressing layer could shorten.
fn body(size: u32) -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn span(args: &SendArgs) -> anyhow::Result<Span> {
    let measure_from = (args.warmup * 1e9) as u64;
    let send_until = measure_from + (args.seconds * 1e9) as u64;
    let patience = args.load.patience()?.as_nanos() as u64;
    let overtime_until = send_until + patience / 2;
    Ok(Span { measure_from, send_until, overtime_until, give_up: send_until + patience })
}

/// Opens the connections, dealt to brokers in turn and then to lanes in turn.
fn connect(args: &SendArgs, target: &Target, body: &[u8], lanes: usize) -> anyhow::Result<Vec<Vec<Sender>>> {
    let load = &args.load;
    ensure!(
        load.connections as usize >= target.brokers.len().max(lanes),
        "--connections {}: at least one for each of {} brokers and {lanes} load threads is needed",
        load.connections,
        target.brokers.len()
    );
    let mut by_lane: Vec<Vec<Sender>> = (0..lanes).map(|_| Vec::new()).collect();
    for i in 0..load.connections {
        let place = i as usize % target.brokers.len();
        let broker = &target.brokers[place];
        let shape = SendShape {
            kind: load.header,
            java_properties: args.properties_like == PropertiesLike::Java,
            group: PRODUCER_GROUP,
            topic: &load.topic,
            tag: TAG,
            connection_id: i,
            body,
        };
        let link = Link::open(broker.socket).with_context(|| format!("cannot connect to {}", broker.addr))?;
        let templates = SendTemplates::new(&shape, broker.queues);
        let sender = Sender::new(link, templates, place as u16, broker.queues, i, load.in_flight);
        by_lane[i as usize % lanes].push(sender);
    }
    Ok(by_lane)
}

struct Outcome {
    tally: Tally,
    audit: Audit,
    watched: Option<Usage>,
}

fn drive(
    args: &SendArgs,
    senders: Vec<Vec<Sender>>,
    cpus: Option<&[usize]>,
    clock: Clock,
    span: Span,
) -> anyhow::Result<Outcome> {
    let lanes = senders.len();
    let spins = args.load.spins(args.rate.is_some());
    thread::scope(|scope| {
        let (ended, endings) = mpsc::channel::<()>();
        let mut running = Vec::new();
        for (i, senders) in senders.into_iter().enumerate() {
            let ended = ended.clone();
            let cpu = cpus.map(|cpus| cpus[i]);
            let schedule = args.rate.map(|rate| Schedule::constant(rate, i, lanes));
            running.push(scope.spawn(move || {
                // Dropped when the lane ends, however it ends.
                let _ended = ended;
                pin(cpu)?;
                Lane::new(senders, schedule, spins, clock, span)?.run()
            }));
        }
        drop(ended);
        let watched = watch(args.load.watch_pid, clock, span, &endings);
        let mut outcome = Outcome { tally: Tally::cut(span.cut())?, audit: Audit::default(), watched: None };
        for lane in running {
            let (tally, audit) = lane.join().map_err(|_| anyhow!("a load thread panicked"))??;
            outcome.tally.merge(&tally)?;
            outcome.audit.merge(&audit);
        }
        outcome.watched = watched?;
        Ok(outcome)
    })
}

pub(crate) fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    if let Some(id) = cpu {
        ensure!(core_affinity::set_for_current(core_affinity::CoreId { id }), "cannot run on CPU {id}");
    }
    Ok(())
}

/// Samples the watched process at both ends of the measured time. The channel ends with the last lane, so a run that
/// breaks off is not waited for.
fn watch(pid: Option<u32>, clock: Clock, span: Span, endings: &mpsc::Receiver<()>) -> anyhow::Result<Option<Usage>> {
    let Some(pid) = pid else { return Ok(None) };
    let _ = endings.recv_timeout(clock.until(span.measure_from));
    let first = Sample::take(pid)?;
    let _ = endings.recv_timeout(clock.until(span.send_until));
    Ok(Some(first.until(&Sample::take(pid)?)))
}

/// Compares the offsets that were given out with each other and with what the broker says it has.
fn judge(
    args: &SendArgs,
    target: &Target,
    before: &[Vec<Range>],
    tally: &Tally,
    audit: &Audit,
    report: &mut Report,
) -> anyhow::Result<()> {
    if audit.duplicates() > 0 {
        report.finding(format!("{} queue offsets were given out twice", audit.duplicates()));
    }
    let settled_by = Instant::now() + args.load.patience()?;
    for found in audit.findings() {
        let (place, queue) = (usize::from(found.key.0), found.key.1);
        let label = format!("queue {queue} on {}", target.brokers[place].addr);
        let start = before[place][queue as usize].max;
        if found.first < start {
            report.finding(format!("{label} gave out offset {}, but {start} were taken before", found.first));
        }
        let max = target.settled_max(place, queue, found.last + 1, settled_by)?;
        if max <= found.last {
            report.finding(format!("{label} acknowledged offset {}, but has only {max} messages", found.last));
        }
        // Requests whose outcome is unknown may have been stored, and others may be sending.
        if args.shared_topic || tally.unanswered > 0 || tally.stray_replies > 0 {
            continue;
        }
        if found.first > start || found.gaps() > 0 {
            let gaps = found.gaps() + (found.first.saturating_sub(start));
            report.finding(format!("{label} left {gaps} offsets out (--shared-topic if others send to the topic)"));
        }
        if max > found.last + 1 {
            let extra = max - found.last - 1;
            report.finding(format!("{label} has {extra} messages more than were acknowledged"));
        }
    }
    Ok(())
}
