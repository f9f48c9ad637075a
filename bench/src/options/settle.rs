//! Flags, workload file and defaults made one: after `settle` every value that a run uses is there. This is what the
//! report records.

use std::path::Path;

use anyhow::{bail, ensure};

use super::{
    BacklogArgs, BesideArgs, ConsumeArgs, E2eArgs, FindMaxArgs, LoadArgs, MixedArgs, OffsetsArgs, ReadArgs, SendArgs,
    Sizes, TimersArgs, TopicsArgs, TransactionsArgs,
};
use crate::workload::Workload;

const RATE: f64 = 10_000.0;
const CONNECTIONS: u32 = 32;
/// More than one machine's ports give.
const CONNECTIONS_MAX: u32 = 20_000;
const CONSUMERS: u32 = 8;
const QUEUES: u32 = 8;
const SECONDS: f64 = 10.0;
const WARMUP: f64 = 2.0;
/// What queues cost shows in the throughput, which only a closed loop reaches.
const TOPICS_CLOSED: u32 = 16;
const BACKLOG_BYTES: u64 = 1 << 30;

/// Arguments that a workload file and defaults may complete.
pub(crate) trait Settled: Sized {
    /// Fills in what no flag gave. An error names a combination that makes no sense.
    fn settle(self) -> anyhow::Result<Self>;
}

/// What a workload file may ask for that only some commands do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rate,
    Search,
    Backlog,
}

fn workload(path: Option<&Path>, kind: Kind) -> anyhow::Result<Workload> {
    let Some(path) = path else { return Ok(Workload::default()) };
    let workload = Workload::read(path)?;
    if workload.producer_rate == Some(0) && kind != Kind::Search {
        bail!("{}: producerRate = 0 asks for the highest rate: run `ringmq bench find-max`", path.display());
    }
    if workload.consumer_backlog_size_gb.is_some_and(|size| size > 0) && kind != Kind::Backlog {
        bail!("{}: consumerBacklogSizeGB asks for a backlog: run `ringmq bench backlog`", path.display());
    }
    Ok(workload)
}

impl LoadArgs {
    fn complete(&mut self, workload: &Workload, connections: Option<u32>) {
        self.topics = self.topics.or(workload.topics).or(Some(1));
        self.connections = self.connections.or(connections).or(Some(CONNECTIONS));
        self.workload = None;
    }

    pub(crate) fn topics(&self) -> u32 {
        self.topics.unwrap_or(1)
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.unwrap_or(CONNECTIONS)
    }
}

impl ReadArgs {
    fn complete(&mut self, workload: &Workload) {
        let of_file = workload.subscriptions_per_topic.filter(|count| *count > 0);
        self.subscriptions = self.subscriptions.or(of_file).or(Some(1));
    }

    pub(crate) fn subscriptions(&self) -> u32 {
        self.subscriptions.unwrap_or(1)
    }
}

impl BesideArgs {
    fn complete(&mut self, workload: &Workload) {
        self.read.complete(workload);
        self.consumers = self.consumers.or(consumers(workload)).or(Some(CONSUMERS));
    }

    pub(crate) fn consumers(&self) -> u32 {
        self.consumers.unwrap_or(CONSUMERS)
    }
}

/// In all, as connections are counted here.
fn producers(workload: &Workload) -> Option<u32> {
    workload.producers_per_topic.map(|producers| producers.saturating_mul(workload.topics.unwrap_or(1)))
}

fn consumers(workload: &Workload) -> Option<u32> {
    // A workload without consumers says so with a zero.
    let each = workload.consumer_per_subscription.filter(|count| *count > 0)?;
    let subscriptions = workload.subscriptions_per_topic.filter(|count| *count > 0).unwrap_or(1);
    Some(each.saturating_mul(subscriptions).saturating_mul(workload.topics.unwrap_or(1)))
}

impl SendArgs {
    fn complete(&mut self, workload: &Workload) -> anyhow::Result<()> {
        self.load.complete(workload, producers(workload));
        if self.payload.is_none() && self.size.is_none() {
            self.payload.clone_from(&workload.payload_file);
            self.size = workload.message_size.map(|size| size.to_string().parse()).transpose()?;
        }
        self.size.get_or_insert_default();
        // The report must be of use in another folder.
        self.payload = self.payload.take().map(std::path::absolute).transpose()?;
        self.queues = self.queues.or(workload.partitions_per_topic).or(Some(QUEUES));
        if !self.ordered {
            self.keys = self.keys.or(workload.keys());
        }
        if self.closed.is_none() {
            let of_file = workload.producer_rate.filter(|rate| *rate > 0).map(f64::from);
            self.rate = self.rate.or(of_file).or(Some(RATE));
        }
        let seconds = |minutes: Option<f64>| minutes.map(|minutes| minutes * 60.0);
        self.seconds = self.seconds.or(seconds(workload.test_duration_minutes)).or(Some(SECONDS));
        self.warmup = self.warmup.or(seconds(workload.warmup_duration_minutes)).or(Some(WARMUP));
        self.check()
    }

    /// What no single flag's own check can see.
    fn check(&self) -> anyhow::Result<()> {
        let places = self.load.topics().checked_mul(self.queues());
        ensure!(places.is_some_and(|places| places <= 1_000_000), "--topics x --queues: a million queues at most");
        let (_, largest) = self.size().bounds();
        let request = u64::from(largest) * u64::from(self.batch);
        ensure!(request <= 4 << 20, "--batch {} of {largest} bytes: a request holds 4 MiB at most", self.batch);
        let connections = self.load.connections();
        ensure!(connections <= CONNECTIONS_MAX, "{connections} connections: {CONNECTIONS_MAX} at most");
        Ok(())
    }

    pub(crate) fn queues(&self) -> u32 {
        self.queues.unwrap_or(QUEUES)
    }

    pub(crate) fn size(&self) -> Sizes {
        self.size.clone().unwrap_or_default()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(SECONDS)
    }

    pub(crate) fn warmup(&self) -> f64 {
        self.warmup.unwrap_or(WARMUP)
    }

    /// `None` in a closed loop.
    pub(crate) fn rate(&self) -> Option<f64> {
        if self.closed.is_some() { None } else { Some(self.rate.unwrap_or(RATE)) }
    }

    /// Requests that a connection may have under way.
    pub(crate) fn window(&self) -> u32 {
        self.closed.unwrap_or(self.load.in_flight)
    }
}

impl Settled for SendArgs {
    fn settle(mut self) -> anyhow::Result<SendArgs> {
        let workload = workload(self.load.workload.as_deref(), Kind::Rate)?;
        self.complete(&workload)?;
        Ok(self)
    }
}

impl Settled for ConsumeArgs {
    fn settle(mut self) -> anyhow::Result<ConsumeArgs> {
        let workload = workload(self.load.workload.as_deref(), Kind::Rate)?;
        self.load.complete(&workload, consumers(&workload));
        self.read.complete(&workload);
        ensure!(
            self.filter.is_none() || (self.parts == 1 && self.read.subscriptions() == 1),
            "--filter: a pull may bring messages of any part, use neither --parts nor --subscriptions"
        );
        Ok(self)
    }
}

impl Settled for E2eArgs {
    fn settle(mut self) -> anyhow::Result<E2eArgs> {
        let workload = workload(self.send.load.workload.as_deref(), Kind::Rate)?;
        self.send.complete(&workload)?;
        self.beside.complete(&workload);
        ensure!(
            !self.send.compress,
            "--compress: an end-to-end run writes the time into the body, which is packed then"
        );
        Ok(self)
    }
}

impl Settled for MixedArgs {
    fn settle(mut self) -> anyhow::Result<MixedArgs> {
        let workload = workload(self.send.load.workload.as_deref(), Kind::Rate)?;
        self.send.complete(&workload)?;
        self.beside.complete(&workload);
        Ok(self)
    }
}

impl Settled for BacklogArgs {
    fn settle(mut self) -> anyhow::Result<BacklogArgs> {
        let workload = workload(self.send.load.workload.as_deref(), Kind::Backlog)?;
        self.send.complete(&workload)?;
        self.beside.complete(&workload);
        ensure!(self.send.rate().is_some(), "--closed: the producer beside the readers has a --rate");
        ensure!(!self.send.one_way, "--one-way: a backlog that may have lost messages is none to measure with");
        if self.backlog.is_none() {
            let of_file = workload.consumer_backlog_size_gb.filter(|size| *size > 0).map(|size| size << 30);
            self.backlog_bytes = self.backlog_bytes.or(of_file).or(Some(BACKLOG_BYTES));
        }
        self.drain_ratio = self.drain_ratio.or(workload.backlog_drain_ratio).or(Some(1.0));
        Ok(self)
    }
}

impl Settled for TopicsArgs {
    fn settle(mut self) -> anyhow::Result<TopicsArgs> {
        if self.send.rate.is_none() && self.send.closed.is_none() {
            self.send.closed = Some(TOPICS_CLOSED);
        }
        let workload = workload(self.send.load.workload.as_deref(), Kind::Rate)?;
        self.send.complete(&workload)?;
        Ok(self)
    }
}

impl Settled for FindMaxArgs {
    fn settle(mut self) -> anyhow::Result<FindMaxArgs> {
        let workload = workload(self.send.load.workload.as_deref(), Kind::Search)?;
        self.send.complete(&workload)?;
        ensure!(self.send.rate().is_some(), "--closed: the search goes over rates; --rate is the first one");
        Ok(self)
    }
}

/// What a load whose messages come later cannot have.
fn check_later(send: &SendArgs, beside: &BesideArgs) -> anyhow::Result<()> {
    for (name, set) in [
        ("--batch", send.batch > 1),
        ("--compress", send.compress),
        ("--ordered", send.ordered),
        ("--one-way", send.one_way),
        ("--overload", send.overload),
        ("--subscriptions", beside.read.subscriptions() > 1),
        ("--shared-topic", send.load.shared_topic),
    ] {
        ensure!(!set, "{name} has no meaning here: each message is told from the others when it comes, once");
    }
    Ok(())
}

impl Settled for TransactionsArgs {
    fn settle(mut self) -> anyhow::Result<TransactionsArgs> {
        let workload = workload(self.send.load.workload.as_deref(), Kind::Rate)?;
        self.send.complete(&workload)?;
        self.beside.complete(&workload);
        check_later(&self.send, &self.beside)?;
        Ok(self)
    }
}

impl Settled for TimersArgs {
    fn settle(mut self) -> anyhow::Result<TimersArgs> {
        if self.level.is_none() && self.send.rate.is_none() && self.send.closed.is_none() {
            self.send.closed = Some(self.send.load.in_flight);
        }
        let workload = workload(self.send.load.workload.as_deref(), Kind::Rate)?;
        self.send.complete(&workload)?;
        self.beside.complete(&workload);
        check_later(&self.send, &self.beside)?;
        ensure!(
            self.level.is_none() || self.send.rate().is_some(),
            "--level: messages fall due at the --rate of sends"
        );
        Ok(self)
    }
}

impl Settled for OffsetsArgs {
    fn settle(mut self) -> anyhow::Result<OffsetsArgs> {
        let workload = workload(self.load.workload.as_deref(), Kind::Rate)?;
        self.load.complete(&workload, None);
        self.rate = self.rate.or(Some(f64::from(self.groups)));
        ensure!(self.load.topics() == 1, "--topics: the groups commit for one topic");
        ensure!(
            self.load.connections() <= self.groups,
            "--connections {}: each needs a group of its own, there are {}",
            self.load.connections(),
            self.groups
        );
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Command;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: crate::Args,
    }

    fn parse(line: &str) -> Command {
        Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).unwrap().args.command
    }

    fn e2e(line: &str) -> E2eArgs {
        let Command::E2e(args) = parse(line) else { panic!("{line}") };
        args.settle().unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let folder = std::env::temp_dir().join(format!("ringmq-workload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("w.toml");
        std::fs::write(
            &file,
            "topics = 2\npartitionsPerTopic = 16\nproducersPerTopic = 3\nsubscriptionsPerTopic = 2\n\
             consumerPerSubscription = 5\nproducerRate = 700\nmessageSize = 200\ntestDurationMinutes = 2\n",
        )
        .unwrap();
        let line = format!("e2e --broker x:1 --workload {} --rate 900", file.display());
        let args = e2e(&line);
        let (send, beside) = (&args.send, &args.beside);
        assert_eq!((send.load.topics(), send.queues(), send.load.connections()), (2, 16, 6));
        assert_eq!((beside.read.subscriptions(), beside.consumers()), (2, 20));
        assert_eq!(
            (send.rate(), send.size(), send.seconds(), send.warmup()),
            (Some(900.0), Sizes::One(200), 120.0, 2.0)
        );
        std::fs::write(&file, "producerRate = 0\n").unwrap();
        let Command::E2e(args) = parse(&line) else { panic!() };
        assert!(format!("{:#}", args.settle().unwrap_err()).contains("find-max"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_the_report_records_is_the_same_command_again() {
        for line in [
            "send --broker x:1 --closed 4 --size 10:1,20:2 --property a=b --header rocketmq --batch 3 --cpu 1 --wait spin",
            "mixed --namesrv x:1 --arrivals poisson --seed 9 --read-rate 5 --keys 3",
            "backlog --broker x:1 --backlog-bytes 3m",
            "consume --broker x:1 --last 5 --seconds 3 --verify-crc",
            "transactions --broker x:1 --closed 4 --roll-back 0.25",
            "timers --broker x:1 --due-rate 5 --ahead 2",
            "offsets --broker x:1 --groups 20 --one-way",
        ] {
            let command = parse(line);
            let text = serde_json::to_string(&command).unwrap();
            let again: Command = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
            assert_eq!(format!("{again:?}"), format!("{command:?}"));
        }
    }

    #[test]
    fn combinations_without_a_meaning_are_refused() {
        let refused = |line: &str| Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).is_err();
        assert!(refused("send --broker x:1 --rate 5 --closed 5"));
        assert!(refused("send --broker x:1 --one-way --closed 5"));
        assert!(refused("send --broker x:1 --ordered --keys 5"));
        assert!(refused("send --rate 5"));
        let Command::Send(args) = parse("send --broker x:1 --batch 4096 --size 2000") else { panic!() };
        assert!(args.settle().is_err());
    }
}
