//! `bench offsets`: many groups commit how far they have read, each again and again, and at the end every group's offset
//! is the one that it committed last.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::crew::{Crew, lanes};
use crate::lane::{Span, Work};
use crate::link::Link;
use crate::options::{Command, OffsetsArgs};
use crate::pace::Clock;
use crate::random::Random;
use crate::report::{Report, Setup, say};
use crate::schedule::{Arrivals, Schedule, Share};
use crate::send::{Order, Recipe, Requests, Sender, Sending, Then};
use crate::shape::Bodies;
use crate::target::Target;
use crate::wire::Commits;

pub(crate) fn run(args: OffsetsArgs) -> anyhow::Result<ExitCode> {
    let load = &args.load;
    let target = Target::for_sends(load, 1)?;
    ensure!(target.brokers.len() == 1, "the groups commit at one broker: name it with --broker");
    let commits =
        Commits { kind: load.header, topic: load.topic.clone(), group: args.group.clone(), one_way: args.one_way };
    let names: Vec<String> = (0..args.groups).map(|number| commits.group_name(number)).collect();
    say(&format!("looking for {} groups, and creating those that are missing", args.groups))?;
    target.create_groups(0, &names)?;

    let lanes = lanes(load)?;
    let broker = &target.brokers[0];
    let connections = load.connections();
    ensure!(
        connections as usize >= lanes,
        "--connections {connections}: one for each of {lanes} load threads is needed"
    );
    let mut senders: Vec<Vec<Sender>> = (0..lanes).map(|_| Vec::new()).collect();
    for i in 0..connections {
        let link = Link::open(broker.socket).with_context(|| format!("cannot connect to {}", broker.addr))?;
        let first = |i: u32| (u64::from(i) * u64::from(args.groups) / u64::from(connections)) as u32;
        let sender = Sender::new(link, 0, args.groups, (i, connections), load.in_flight);
        senders[i as usize % lanes].push(sender.owning(first(i)..first(i + 1)));
    }
    let span = Span::new(args.warmup, args.seconds, load.patience()?);
    let clock = Clock::start();
    let bodies = Bodies::none();
    let rate = args.rate.unwrap_or(f64::from(args.groups));
    let of_lane = |(lane, senders)| {
        let share = Share { lane, lanes };
        let recipe = Recipe {
            requests: Requests::Commits(commits.clone()),
            then: Then::Commit,
            kind: load.header,
            group: "",
            share,
            bodies: &bodies,
            queues: args.groups,
            order: if args.one_way { Order::OneWay } else { Order::Turns },
            keys: None,
            random: Random::new(0, lane as u64),
            run: None,
            punctual: false,
        };
        let sending =
            Sending::new(recipe, senders, Some(Schedule::new(Arrivals::Constant, rate, 0, share)), clock, span)?;
        Ok(Work { sending: Some(sending), reading: None })
    };
    let work = senders.into_iter().enumerate().map(of_lane).collect::<anyhow::Result<Vec<_>>>()?;
    let crew = Crew { load, spins: load.spins(true), clock, span, goals: None, stop_after_reading: false };
    let outcome = crew.run(work)?;
    let (tally, ledger) = outcome.sent.context("no load thread has handed its counts over")?;

    let mut setup = Setup::new(load, target.labels(), true)?;
    setup.connections = connections;
    for (name, value) in [("groups", json!(args.groups)), ("rate", json!(rate)), ("one_way", json!(args.one_way))] {
        setup.more.insert(name, value);
    }
    let mut report = Report::new("offsets", setup, &tally, tally.measured_ns as f64 / 1e9, outcome.watched)?;
    report.note("a message is a commit here, and has no body");
    let settled_by = Instant::now() + load.patience()?;
    let mut wrong = 0;
    for found in ledger.kept.findings() {
        let name = &names[found.key.1 as usize];
        let stored = target.settled_offset(0, name, found.last, settled_by)?;
        if stored != Some(found.last) {
            if wrong == 0 {
                report.finding(format!("group {name} committed {} last, but has {stored:?}", found.last));
            }
            wrong += 1;
        }
    }
    if wrong > 1 {
        report.finding(format!("{wrong} groups in all do not have the offset that they committed last"));
    }
    let json = load.json.clone();
    report.run = Some(Command::Offsets(args));
    report.finish(json.as_deref())
}
