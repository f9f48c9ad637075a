//! `bench send`, and the sending part of every other load: what is made before a run, and the verdict after it.

mod sender;
mod sending;
mod then;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;

pub(crate) use self::sender::{Order, Sender};
pub(crate) use self::sending::{Recipe, Requests, Sending};
pub(crate) use self::then::{Due, Then};
use crate::audit::{Audit, Ledger};
use crate::backlog::Limit;
use crate::crew::{Crew, Outcome, lanes};
use crate::lane::{Span, Work};
use crate::link::Link;
use crate::options::{Command, PropertiesLike, SendArgs};
use crate::pace::Clock;
use crate::random::Random;
use crate::report::{Report, Setup};
use crate::schedule::{Schedule, Share};
use crate::shape::{Bodies, BodyShape};
use crate::tally::Tally;
use crate::target::{ByQueue, Target};
use crate::watch::Usage;
use crate::wire::{Properties, PropertiesShape, SendShape, SendTemplates};

const PRODUCER_GROUP: &str = "RingMQBenchProducer";

/// The stream of random numbers that keys come from; those of arrivals are numbered by lane.
const KEY_STREAM: u64 = 1 << 32;

pub(crate) fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let mut report = measure(&args)?.report;
    let json = args.load.json.clone();
    report.run = Some(Command::Send(args));
    report.finish(json.as_deref())
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
    let target = Target::for_sends(&args.load, args.queues())?;
    let span = Span::new(args.warmup(), args.seconds(), args.load.patience()?);
    send(args, &target, span, None)
}

/// What a load does with its messages beside sending them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) then: Then,
    /// Bodies are stamped with this number of the run.
    pub(crate) run: Option<u64>,
    /// So many messages and no more.
    pub(crate) limit: Option<Limit>,
}

impl Purpose {
    pub(crate) fn plain() -> Purpose {
        Purpose { then: Then::Read, run: None, limit: None }
    }
}

/// As [`measure`], to a target that is there already, and of a limited number of messages if one is given.
pub(crate) fn send(args: &SendArgs, target: &Target, span: Span, limit: Option<Limit>) -> anyhow::Result<Measured> {
    let producer = Producer::new(args, target, Purpose { limit, ..Purpose::plain() })?;
    let before = target.ends()?;
    let (clock, outcome) = producer.run(span)?;
    let (tally, ledger) = outcome.sent.context("no load thread has handed its counts over")?;
    let report = producer.report("send", &before, &tally, &ledger, outcome.watched)?;
    Ok(Measured { report, tally, measured_from_ms: clock.wall_ms(span.measure_from) })
}

/// Everything that sends of a run have in common.
#[derive(Debug)]
pub(crate) struct Producer<'a> {
    args: &'a SendArgs,
    target: &'a Target,
    properties: Properties,
    bodies: Bodies,
    purpose: Purpose,
}

impl<'a> Producer<'a> {
    pub(crate) fn new(args: &'a SendArgs, target: &'a Target, purpose: Purpose) -> anyhow::Result<Producer<'a>> {
        let mut more = args.property.clone();
        let mut push = |name: &str, value: &str| more.push((name.to_owned(), value.to_owned()));
        match purpose.then {
            Then::End { .. } => {
                push("TRAN_MSG", "true");
                push("PGROUP", PRODUCER_GROUP);
            }
            Then::Due(Due::Level { level, .. }) => push("DELAY", &level.to_string()),
            _ => {}
        }
        let properties = Properties::new(&PropertiesShape {
            java: args.properties_like == PropertiesLike::Java,
            keys: args.keys.is_some() || args.ordered,
            due: matches!(purpose.then, Then::Due(Due::At { .. })),
            more: &more,
        });
        let payload = args
            .payload
            .as_ref()
            .map(|path| std::fs::read(path).with_context(|| format!("cannot read the payload {}", path.display())));
        let payload = payload.transpose()?;
        let bodies = Bodies::new(&BodyShape {
            sizes: &args.size(),
            payload: payload.as_deref(),
            batch: args.batch,
            properties: &properties,
            compress: args.compress,
            stamped: purpose.run.is_some(),
            seed: args.seed,
        })?;
        let longest = bodies.longest();
        ensure!(
            longest > 0 && longest <= 4 << 20,
            "a request's body has {longest} bytes: 1 to 4194304 are possible (--size, --payload, --batch)"
        );
        Ok(Producer { args, target, properties, bodies, purpose })
    }

    /// Sends without reading. The clock is the run's.
    pub(crate) fn run(&self, span: Span) -> anyhow::Result<(Clock, Outcome)> {
        let load = &self.args.load;
        let senders = self.connect(lanes(load)?)?;
        let clock = Clock::start();
        let spins = load.spins(self.args.rate().is_some());
        let crew = Crew { load, spins, clock, span, goals: None, stop_after_reading: false };
        let sendings = self.sendings(senders, clock, span)?;
        let outcome = crew.run(sendings.into_iter().map(|one| Work { sending: Some(one), reading: None }).collect())?;
        Ok((clock, outcome))
    }

    /// Opens the connections, dealt to brokers in turn and then to lanes in turn.
    pub(crate) fn connect(&self, lanes: usize) -> anyhow::Result<Vec<Vec<Sender>>> {
        let (args, brokers) = (self.args, &self.target.brokers);
        let connections = args.load.connections();
        ensure!(
            connections as usize >= brokers.len().max(lanes),
            "--connections {connections}: at least one for each of {} brokers and {lanes} load threads is needed",
            brokers.len()
        );
        let mut by_lane: Vec<Vec<Sender>> = (0..lanes).map(|_| Vec::new()).collect();
        for i in 0..connections {
            let place = i as usize % brokers.len();
            let broker = &brokers[place];
            let link = Link::open(broker.socket).with_context(|| format!("cannot connect to {}", broker.addr))?;
            let queues = u32::try_from(broker.queues.len())?;
            let sender = Sender::new(link, place as u16, queues, (i, connections), args.window());
            by_lane[i as usize % lanes].push(sender);
        }
        Ok(by_lane)
    }

    pub(crate) fn sendings(
        &self,
        senders: Vec<Vec<Sender>>,
        clock: Clock,
        span: Span,
    ) -> anyhow::Result<Vec<Sending<'_>>> {
        let args = self.args;
        let lanes = senders.len();
        let shape = SendShape {
            kind: args.load.header,
            group: PRODUCER_GROUP,
            topic: &args.load.topic,
            topics: args.load.topics(),
            queues: args.queues(),
            batch: args.batch > 1,
            compressed: args.compress,
            one_way: args.one_way,
            half: matches!(self.purpose.then, Then::End { .. }),
            properties: &self.properties,
            tags: args.tags,
        };
        let of_lane = |(lane, senders): (usize, Vec<Sender>)| {
            let share = Share { lane, lanes };
            let recipe = Recipe {
                requests: Requests::Sends(SendTemplates::new(&shape)),
                then: self.purpose.then,
                kind: args.load.header,
                group: PRODUCER_GROUP,
                share,
                bodies: &self.bodies,
                queues: args.queues(),
                order: match (args.ordered, args.one_way) {
                    (true, _) => Order::Keys,
                    (_, true) => Order::OneWay,
                    _ => Order::Turns,
                },
                keys: args.keys,
                random: Random::new(args.seed, KEY_STREAM + lane as u64),
                run: self.purpose.run,
                punctual: args.overload,
            };
            let requests = |rate: f64| rate / f64::from(args.batch);
            let schedule = args.rate().map(|rate| Schedule::new(args.arrivals, requests(rate), args.seed, share));
            let mut sending = Sending::new(recipe, senders, schedule, clock, span)?;
            if let Some(limit) = self.purpose.limit {
                sending.limit(limit.requests(u64::from(args.batch), self.bodies.mean_stored(), lanes));
            }
            Ok(sending)
        };
        senders.into_iter().enumerate().map(of_lane).collect()
    }

    /// The figures of what was sent, and the verdict.
    pub(crate) fn report(
        &self,
        name: &'static str,
        before: &ByQueue<u64>,
        tally: &Tally,
        ledger: &Ledger,
        watched: Option<Usage>,
    ) -> anyhow::Result<Report> {
        let args = self.args;
        let mut setup = Setup::new(&args.load, self.target.labels(), args.rate().is_some())?;
        setup.connections = args.load.connections();
        setup.in_flight = args.window();
        setup.expects_refusals = args.overload;
        setup.more.insert("queues", json!(args.queues()));
        setup.more.insert("size", json!(args.size()));
        setup.more.insert("loop", json!(if args.rate().is_some() { "open" } else { "closed" }));
        if let Some(rate) = args.rate() {
            setup.more.insert("rate", json!(rate));
            setup.more.insert("arrivals", json!(args.arrivals));
        }
        setup.more.insert("warmup", json!(args.warmup()));
        for (name, value, plain) in [("topics", args.load.topics(), 1), ("batch", args.batch, 1)] {
            if value != plain {
                setup.more.insert(name, json!(value));
            }
        }
        for (name, set) in [
            ("ordered", args.ordered),
            ("one_way", args.one_way),
            ("compress", args.compress),
            ("overload", args.overload),
        ] {
            if set {
                setup.more.insert(name, json!(true));
            }
        }
        let mut report = Report::new(name, setup, tally, tally.measured_ns as f64 / 1e9, watched)?;
        let verdict = match self.purpose.then {
            Then::Read if args.one_way => self.judge_one_way(before, tally, &mut report),
            Then::Read => self.judge(before, tally, &ledger.kept, &mut report),
            // What becomes of the messages later is seen where they are read.
            _ => Ok(()),
        };
        if let Err(error) = verdict {
            report.finding(format!("the audit is incomplete, the offsets cannot be asked for: {error:#}"));
        }
        Ok(report)
    }

    /// Compares the offsets that were given out with each other and with what the broker says it has.
    fn judge(&self, before: &ByQueue<u64>, tally: &Tally, audit: &Audit, report: &mut Report) -> anyhow::Result<()> {
        if audit.duplicates() > 0 {
            report.finding(format!("{} queue offsets were given out twice", audit.duplicates()));
        }
        let settled_by = Instant::now() + self.args.load.patience()?;
        for found in audit.findings() {
            let (place, queue) = (usize::from(found.key.0), found.key.1 as usize);
            let label = self.target.label(place, queue);
            let start = before[place][queue];
            if found.first < start {
                report.finding(format!("{label} gave out offset {}, but {start} were taken before", found.first));
            }
            let max = self.target.settled_max(place, queue, found.last + 1, settled_by)?;
            if max <= found.last {
                report.finding(format!("{label} acknowledged offset {}, but has only {max} messages", found.last));
            }
            // Requests whose outcome is unknown may have been stored, and others may be sending.
            if self.args.load.shared_topic || tally.unanswered > 0 || tally.stray_replies > 0 {
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

    /// Without answers only the number of messages that the queues have gained tells what arrived.
    fn judge_one_way(&self, before: &ByQueue<u64>, tally: &Tally, report: &mut Report) -> anyhow::Result<()> {
        report.note("one-way: the throughput is what the sockets took, and a broker may drop what it cannot take");
        let begun: u64 = before.iter().flatten().sum();
        let settled_by = Instant::now() + self.args.load.patience()?;
        let mut gained = 0;
        while gained < tally.sent_messages {
            gained = self.target.ends()?.iter().flatten().sum::<u64>().saturating_sub(begun);
            if Instant::now() >= settled_by {
                break;
            }
        }
        if gained < tally.sent_messages {
            let lost = tally.sent_messages - gained;
            report.finding(format!("{lost} of {} one-way messages did not arrive", tally.sent_messages));
        }
        if gained > tally.sent_messages && !self.args.load.shared_topic {
            let extra = gained - tally.sent_messages;
            report.finding(format!("{extra} messages more arrived than were sent (--shared-topic if others send too)"));
        }
        Ok(())
    }
}
