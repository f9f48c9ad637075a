//! `bench pull`: reads what a topic holds when the run begins, from its first message on, and judges what came.

mod lane;
mod records;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::json;

use self::lane::{Faults, Lane, Part, PullShape, Reader};
use crate::link::Link;
use crate::options::PullArgs;
use crate::pace::Clock;
use crate::report::{Report, Setup};
use crate::send::pin;
use crate::tally::Tally;
use crate::target::{Range, Target};
use crate::watch::{Sample, Usage};

pub(crate) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.seconds.is_none_or(|s| s > 0.0 && s.is_finite()), "--seconds must be above zero");
    let load = &args.load;
    let target = Target::for_pulls(load)?;
    let ranges = target.ranges()?;
    let there: u64 = ranges.iter().flatten().map(|range| range.max - range.min).sum();
    ensure!(there > 0, "topic {} holds no message", load.topic);
    let cpus = load.cpus()?;
    let lanes = cpus.as_ref().map_or(1, Vec::len);
    let readers = connect(args, &target, &ranges, lanes)?;
    let outcome = drive(args, readers, cpus.as_deref())?;

    let mut setup = Setup::new(load, target.labels(), false)?;
    setup.more.insert("batch", json!(args.batch));
    setup.more.insert("parts", json!(args.parts));
    setup.more.insert("verify_crc", json!(args.verify_crc));
    setup.more.insert("messages", json!(there));
    let mut report = Report::new("pull", setup, &outcome.tally, outcome.seconds, outcome.watched)?;
    let faults = &outcome.faults;
    for (count, what) in [
        (faults.misplaced, "pulls brought a record that is not the next of its queue, or none, or skipped some"),
        (faults.wrong_crc, "bodies do not match their checksum"),
        (faults.unreadable, "replies hold a record that cannot be read"),
        (faults.missing, "messages were there and were not delivered"),
    ] {
        if count > 0 {
            report.finding(format!("{count} {what}"));
        }
    }
    report.finish(load.json.as_deref())
}

/// Deals the parts of all queues to the connections of their broker, and the connections to the lanes.
fn connect(args: &PullArgs, target: &Target, ranges: &[Vec<Range>], lanes: usize) -> anyhow::Result<Vec<Vec<Reader>>> {
    let load = &args.load;
    let brokers = target.brokers.len();
    ensure!(
        load.connections as usize >= brokers,
        "--connections: at least one for each of {brokers} brokers is needed"
    );
    let mut by_lane: Vec<Vec<Reader>> = (0..lanes).map(|_| Vec::new()).collect();
    let mut dealt = 0;
    for (place, broker) in target.brokers.iter().enumerate() {
        let parts = parts(&ranges[place], args.parts);
        // Connections that would have nothing to read are not opened.
        let share = (load.connections as usize).saturating_sub(place).div_ceil(brokers).min(parts.len());
        let mut by_link: Vec<Vec<Part>> = (0..share).map(|_| Vec::new()).collect();
        for (i, part) in parts.into_iter().enumerate() {
            by_link[i % share].push(part);
        }
        for parts in by_link {
            let link = Link::open(broker.socket).with_context(|| format!("cannot connect to {}", broker.addr))?;
            by_lane[dealt % lanes].push(Reader::new(link, parts, load.in_flight));
            dealt += 1;
        }
    }
    Ok(by_lane)
}

/// Cuts every queue into `pieces` of nearly the same length; empty ones are left out.
fn parts(queues: &[Range], pieces: u32) -> Vec<Part> {
    let pieces = u64::from(pieces);
    let cut = |(queue, range): (usize, &Range)| {
        let (min, len) = (range.min, range.max.saturating_sub(range.min));
        let at = move |piece: u64| min + (u128::from(len) * u128::from(piece) / u128::from(pieces)) as u64;
        (0..pieces).map(move |piece| Part::new(queue as u32, at(piece), at(piece + 1)))
    };
    let mut all: Vec<Part> = queues.iter().enumerate().flat_map(cut).filter(|part| part.first < part.end).collect();
    // Neighbouring connections read different queues.
    all.sort_by_key(|part| part.first);
    all
}

struct Outcome {
    tally: Tally,
    faults: Faults,
    seconds: f64,
    watched: Option<Usage>,
}

fn drive(args: &PullArgs, readers: Vec<Vec<Reader>>, cpus: Option<&[usize]>) -> anyhow::Result<Outcome> {
    let load = &args.load;
    let shape = PullShape {
        kind: load.header,
        group: &args.group,
        topic: &load.topic,
        batch: args.batch,
        verify_crc: args.verify_crc,
    };
    let patience = load.patience()?.as_nanos() as u64;
    let until = args.seconds.map(|seconds| (seconds * 1e9) as u64);
    let before = load.watch_pid.map(Sample::take).transpose()?;
    let clock = Clock::start();
    thread::scope(|scope| {
        let (ended, endings) = mpsc::channel::<()>();
        let mut running = Vec::new();
        for (i, readers) in readers.into_iter().enumerate() {
            let (ended, cpu) = (ended.clone(), cpus.map(|cpus| cpus[i]));
            let spins = load.spins(false);
            running.push(scope.spawn(move || {
                // Dropped when the lane ends, however it ends.
                let _ended = ended;
                pin(cpu)?;
                Lane::new(readers, shape, spins, clock, until, patience)?.run()
            }));
        }
        drop(ended);
        // Ends with the last lane.
        let _ = endings.recv();
        let seconds = clock.now_ns() as f64 / 1e9;
        let after = load.watch_pid.map(Sample::take).transpose()?;
        let watched = before.zip(after).map(|(before, after)| before.until(&after));
        let mut outcome = Outcome { tally: Tally::new()?, faults: Faults::default(), seconds, watched };
        for lane in running {
            let (tally, faults) = lane.join().map_err(|_| anyhow!("a load thread panicked"))??;
            outcome.tally.merge(&tally)?;
            outcome.faults.add(&faults);
        }
        Ok(outcome)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_each_queue_once() {
        let queues = [Range { min: 5, max: 25 }, Range { min: 0, max: 0 }, Range { min: 7, max: 9 }];
        let mut seen: Vec<(u32, u64)> =
            parts(&queues, 3).iter().flat_map(|p| (p.first..p.end).map(|offset| (p.queue, offset))).collect();
        seen.sort_unstable();
        let mut want: Vec<(u32, u64)> = (5..25).map(|offset| (0, offset)).collect();
        want.extend([(2, 7), (2, 8)]);
        assert_eq!(seen, want);
    }
}
