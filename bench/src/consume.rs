//! `bench consume`, and the reading part of every other load: which stretches of which queues are read over which
//! connections, and the verdict over what came.

mod part;
mod reading;
mod records;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use ringmq_protocol::sql::SqlFilter;
use serde_json::json;

pub(crate) use self::part::{Faults, Since, Stamped, Stretch};
use self::part::{Filter, Part, PullShape};
use self::reading::Reader;
pub(crate) use self::reading::{Extent, Reading};
use crate::crew::{Crew, lanes};
use crate::lane::{Span, Work};
use crate::link::Link;
use crate::options::{Command, ConsumeArgs, LoadArgs, ReadArgs};
use crate::pace::Clock;
use crate::report::{Report, Setup};
use crate::schedule::{Arrivals, Schedule, Share};
use crate::tally::Tally;
use crate::target::{ByQueue, Range, Target};
use crate::watch::Usage;

pub(crate) fn run(args: ConsumeArgs) -> anyhow::Result<ExitCode> {
    let mut report = measure(&args)?;
    let json = args.load.json.clone();
    report.run = Some(Command::Consume(args));
    report.finish(json.as_deref())
}

fn measure(args: &ConsumeArgs) -> anyhow::Result<Report> {
    let load = &args.load;
    let target = Target::for_pulls(load)?;
    let mut ranges = target.ranges()?;
    if let Some(last) = args.last {
        ranges.iter_mut().flatten().for_each(|range| range.min = range.min.max(range.max.saturating_sub(last)));
    }
    let there: u64 = ranges.iter().flatten().map(|range| range.max - range.min).sum();
    ensure!(there > 0, "topic {} holds no message: `ringmq bench send` puts some there", load.topic);
    let mut consumer = Consumer::new(load, &args.read, load.connections(), &target, None);
    let filter =
        args.filter.as_ref().map(|expression| find_matching(expression, &mut consumer, &ranges)).transpose()?;
    let matching = filter.as_ref().and_then(|filter| Some(filter.matching.as_ref()?.count()));
    consumer.shape.filter = filter.as_ref();
    let readers = consumer.connect(&consumer.stretches(&ranges, args.parts), lanes(load)?)?;
    let span = match args.seconds {
        Some(seconds) => Span::new(0.0, seconds, load.patience()?),
        None => Span::open(load.patience()?),
    };
    let extent = if args.seconds.is_some() { Extent::Until(span.send_until) } else { Extent::Once };
    let readings = consumer.readings(readers, extent, None, span)?;
    let crew =
        Crew { load, spins: load.spins(false), clock: Clock::start(), span, goals: None, stop_after_reading: false };
    let outcome = crew.run(readings.into_iter().map(|one| Work { sending: None, reading: Some(one) }).collect())?;
    let (tally, faults, _) = outcome.read.context("no load thread has handed its counts over")?;
    let mut report = consumer.report("consume", &tally, &faults, outcome.watched)?;
    report.setup.more.insert("parts", json!(args.parts));
    report.setup.more.insert("messages", json!(there));
    if let Some(matching) = matching {
        report.setup.more.insert("filter", json!(args.filter));
        report.setup.more.insert("matching", json!(matching));
    }
    Ok(report)
}

/// Reads everything without the filter, to know what has to come with it.
fn find_matching(expression: &str, consumer: &mut Consumer<'_>, ranges: &ByQueue<Range>) -> anyhow::Result<Filter> {
    let compiled = SqlFilter::parse(expression).with_context(|| format!("--filter {expression}"))?;
    let mut filter = Filter { expression: expression.to_owned(), compiled, matching: None };
    let of_look = Consumer { shape: PullShape { filter: Some(&filter), ..consumer.shape.clone() }, ..*consumer };
    let load = of_look.load;
    let readers = of_look.connect(&of_look.stretches(ranges, 1), lanes(load)?)?;
    let span = Span::open(load.patience()?);
    let readings = of_look.readings(readers, Extent::Once, None, span)?;
    let crew =
        Crew { load, spins: load.spins(false), clock: Clock::start(), span, goals: None, stop_after_reading: false };
    let outcome = crew.run(readings.into_iter().map(|one| Work { sending: None, reading: Some(one) }).collect())?;
    let (tally, faults, seen) = outcome.read.context("no load thread has handed its counts over")?;
    let look = of_look.report("look", &tally, &faults, None)?;
    ensure!(look.findings.is_empty(), "the messages cannot be read without --filter: {}", look.findings.join("; "));
    filter.matching = Some(seen);
    Ok(filter)
}

/// Everything that pulls of a run have in common.
#[derive(Debug)]
pub(crate) struct Consumer<'a> {
    load: &'a LoadArgs,
    read: &'a ReadArgs,
    connections: u32,
    target: &'a Target,
    shape: PullShape<'a>,
}

impl<'a> Consumer<'a> {
    pub(crate) fn new(
        load: &'a LoadArgs,
        read: &'a ReadArgs,
        connections: u32,
        target: &'a Target,
        stamped: Option<Stamped>,
    ) -> Consumer<'a> {
        let groups = match read.subscriptions() {
            1 => vec![read.group.clone()],
            count => (0..count).map(|number| format!("{}-{number}", read.group)).collect(),
        };
        let shape = PullShape {
            kind: load.header,
            groups,
            topics: &target.topics,
            batch: read.pull_batch,
            verify_crc: read.verify_crc,
            stamped,
            filter: None,
        };
        Consumer { load, read, connections, target, shape }
    }

    /// Cuts every queue into `pieces` of nearly the same length, once for each group; empty ones are left out.
    pub(crate) fn stretches(&self, ranges: &ByQueue<Range>, pieces: u32) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = self.whole(ranges).flat_map(|whole| cut(whole, pieces)).collect();
        all.retain(|one| one.first < one.end);
        // Neighbouring connections read different queues.
        all.sort_by_key(|one| one.first);
        all
    }

    /// Every queue from where it is now, without an end.
    pub(crate) fn open_ended(&self, ends: &ByQueue<u64>) -> Vec<Stretch> {
        let open = |end: &u64| Range { min: *end, max: Stretch::ENDLESS };
        let ranges = ends.iter().map(|queues| queues.iter().map(open).collect()).collect();
        self.whole(&ranges).collect()
    }

    fn whole(&self, ranges: &ByQueue<Range>) -> impl Iterator<Item = Stretch> {
        let brokers = self.target.brokers.iter().zip(ranges).enumerate();
        let groups = self.shape.groups.len() as u32;
        brokers.flat_map(move |(broker, (known, ranges))| {
            let queues = known.queues.iter().zip(ranges).enumerate();
            queues.flat_map(move |(place, (queue, range))| {
                (0..groups).map(move |group| Stretch {
                    group,
                    topic: queue.topic,
                    queue: queue.queue,
                    place: (broker, place),
                    first: range.min,
                    end: range.max.max(range.min),
                })
            })
        })
    }

    /// Deals the stretches of each broker to its connections, and the connections to the lanes.
    pub(crate) fn connect(&self, stretches: &[Stretch], lanes: usize) -> anyhow::Result<Vec<Vec<Reader>>> {
        let brokers = self.target.brokers.len();
        ensure!(
            self.connections as usize >= brokers,
            "at least one connection for each of {brokers} brokers is needed (--connections, --consumers)"
        );
        let mut by_lane: Vec<Vec<Reader>> = (0..lanes).map(|_| Vec::new()).collect();
        let mut dealt = 0;
        for (place, broker) in self.target.brokers.iter().enumerate() {
            let own: Vec<&Stretch> = stretches.iter().filter(|one| one.place.0 == place).collect();
            // Connections that would have nothing to read are not opened.
            let share = (self.connections as usize).saturating_sub(place).div_ceil(brokers).min(own.len());
            let mut by_link: Vec<Vec<Part>> = (0..share).map(|_| Vec::new()).collect();
            for (i, stretch) in own.into_iter().enumerate() {
                by_link[i % share].push(Part::new(*stretch));
            }
            for parts in by_link {
                let link = Link::open(broker.socket).with_context(|| format!("cannot connect to {}", broker.addr))?;
                by_lane[dealt % lanes].push(Reader::new(link, parts, self.load.in_flight));
                dealt += 1;
            }
        }
        Ok(by_lane)
    }

    /// `rate` is of messages; without it a part is pulled again at once.
    pub(crate) fn readings(
        &self,
        readers: Vec<Vec<Reader>>,
        extent: Extent,
        rate: Option<f64>,
        span: Span,
    ) -> anyhow::Result<Vec<Reading<'_>>> {
        let lanes = readers.len();
        let pulls = rate.map(|rate| rate / f64::from(self.read.pull_batch));
        let of_lane = |(lane, readers)| {
            let schedule = pulls.map(|pulls| Schedule::new(Arrivals::Constant, pulls, 0, Share { lane, lanes }));
            Reading::new(&self.shape, readers, extent, schedule, span)
        };
        readers.into_iter().enumerate().map(of_lane).collect()
    }

    /// The figures of what was read, and the verdict.
    pub(crate) fn report(
        &self,
        name: &'static str,
        tally: &Tally,
        faults: &Faults,
        watched: Option<Usage>,
    ) -> anyhow::Result<Report> {
        let mut setup = Setup::new(self.load, self.target.labels(), false)?;
        setup.connections = self.connections;
        setup.in_flight = self.load.in_flight;
        setup.more.insert("pull_batch", json!(self.read.pull_batch));
        setup.more.insert("subscriptions", json!(self.read.subscriptions()));
        setup.more.insert("verify_crc", json!(self.read.verify_crc));
        let mut report = Report::new(name, setup, tally, tally.measured_ns as f64 / 1e9, watched)?;
        for (count, what) in [
            (faults.misplaced, "pulls brought a record that is not the next of its queue, or none, or skipped some"),
            (faults.wrong_crc, "bodies do not match their checksum"),
            (faults.unreadable, "replies hold a record that cannot be read"),
            (faults.missing, "messages were there and were not delivered"),
            (faults.early, "messages came before they were due"),
        ] {
            if count > 0 {
                report.finding(format!("{count} {what}"));
            }
        }
        if faults.foreign > 0 && !self.load.shared_topic {
            let foreign = faults.foreign;
            report.finding(format!(
                "{foreign} messages are not of this run (--shared-topic if others send to the topic)"
            ));
        }
        Ok(report)
    }
}

fn cut(whole: Stretch, pieces: u32) -> impl Iterator<Item = Stretch> {
    let (first, len) = (whole.first, whole.end - whole.first);
    let at = move |piece: u32| first + (u128::from(len) * u128::from(piece) / u128::from(pieces)) as u64;
    (0..pieces).map(move |piece| Stretch { first: at(piece), end: at(piece + 1), ..whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_queue_once() {
        for (first, end, pieces) in [(5, 25, 3), (7, 9, 4), (0, 0, 2), (3, 1_000_003, 7)] {
            let whole = Stretch { group: 0, topic: 0, queue: 1, place: (0, 1), first, end };
            let mut next = first;
            for piece in cut(whole, pieces) {
                assert_eq!((piece.first, piece.queue), (next, 1));
                assert!(piece.end >= piece.first && piece.end - piece.first <= (end - first) / u64::from(pieces) + 1);
                next = piece.end;
            }
            assert_eq!(next, end);
        }
    }
}
