//! The command line of `bench flush`, and how it becomes that of the single loads: every round is a `bench send` that
//! could be typed by hand.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser};

use crate::options::{HeaderKind, SendArgs, Wait};

#[derive(Debug, Clone, Args)]
pub struct FlushArgs {
    /// Messages a second that the latency is measured at (open loop; latency counts from the intended time).
    #[arg(long, short = 'r', value_name = "PER_SECOND", default_value_t = 20_000.0)]
    pub rate: f64,
    /// Bytes of a message's body.
    #[arg(long, short = 's', default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub size: u32,
    /// Queues to send to, on each broker.
    #[arg(long, short = 'q', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub queues: u32,
    /// TCP connections.
    #[arg(long, short = 'c', default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// Requests that each connection has under way at most.
    #[arg(long, short = 'i', default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Rounds at the rate for each of the two, in turns that begin with the other one each time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Measured time of a round.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Time before that, left out of the figures but not of the audit.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Measured time of each round as fast as it goes, and of each with one request at a time; 0 leaves them out.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5)]
    pub closed_seconds: f64,
    /// Time for measuring the disk itself; 0 leaves it out.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub device_seconds: f64,
    /// Folder on the disk in question; the stores are made below it and removed at the end.
    /// Default: where this user's broker keeps its store.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Permit a store in memory, where nothing is durable and the figures say nothing about a disk.
    #[arg(long)]
    pub allow_tmpfs: bool,
    /// Folder for flush.html, flush.json and the histograms.
    #[arg(long, short = 'o', value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Compare two running brokers instead of starting any; give it twice.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["store", "allow_tmpfs", "config", "shards", "broker_cpus"])]
    pub target: Vec<String>,
    /// Topic; created where it does not exist.
    #[arg(long, short = 't', default_value = "RingMQBenchFlush")]
    pub topic: String,
    /// Configuration file of both brokers, in RocketMQ's form; the flush type and the store are set by this command.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log shards of each broker. Default: one for each of its CPUs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub shards: Option<u16>,
    /// CPUs of the brokers, like 0,2-3; both have the same ones, and only one works at a time.
    #[arg(long, value_name = "LIST")]
    pub broker_cpus: Option<String>,
    /// CPUs of the load, one pinned thread each.
    #[arg(long, value_name = "LIST")]
    pub load_cpus: Option<String>,
    /// Header codec of the requests.
    #[arg(long, value_enum, default_value_t = HeaderKind::Json)]
    pub header: HeaderKind,
    /// How a load thread waits, at the rate and one at a time: `spin` answers at once and keeps its CPU busy, `sleep`
    /// leaves it to others. Default: spin on CPUs that it has to itself.
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
}

/// The three ways in which a broker is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// At the rate, whatever the broker does.
    Open,
    /// Every connection keeps its window full.
    Closed,
    /// One connection with one request under way: what one sender that waits for each answer sees.
    Single,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Open => "at the rate",
            Kind::Closed => "as fast as it goes",
            Kind::Single => "one at a time",
        }
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: SendArgs,
}

const LONG: f64 = 86_400.0;
/// Shorter than an interval a round says nothing.
const SHORT: f64 = 0.2;

impl FlushArgs {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let above = |name: &str, value: f64, least: f64| {
            ensure!(value >= least && value <= LONG, "{name} {value}: it must be from {least} to a day's {LONG}");
            Ok(())
        };
        above("--seconds", self.seconds, SHORT)?;
        above("--warmup", self.warmup, 0.0)?;
        above("--closed-seconds", self.closed_seconds, if self.closed_seconds == 0.0 { 0.0 } else { SHORT })?;
        above("--device-seconds", self.device_seconds, if self.device_seconds == 0.0 { 0.0 } else { SHORT })?;
        ensure!(self.rate > 0.0 && self.rate <= 1e9, "--rate {}: it must be above zero, at most 1e9", self.rate);
        ensure!(
            self.target.is_empty() || self.target.len() == 2,
            "--target is given {} times: give it twice, for the two brokers to compare",
            self.target.len()
        );
        ensure!(
            self.target.len() != 2 || self.target[0] != self.target[1],
            "--target {} twice: a broker cannot be compared with itself",
            self.target.first().map_or("", String::as_str)
        );
        Ok(())
    }

    /// The measured time of a round and the time before it.
    pub(crate) fn times(&self, kind: Kind) -> (f64, f64) {
        match kind {
            Kind::Open => (self.seconds, self.warmup),
            Kind::Closed => (self.closed_seconds, self.warmup.min(0.5)),
            Kind::Single => (self.closed_seconds, self.warmup.min(0.25)),
        }
    }

    /// One round, as the words of a `bench send`.
    pub(crate) fn words(&self, kind: Kind, broker: &str, cpus: Option<&str>, pid: Option<u32>) -> Vec<String> {
        let (seconds, warmup) = self.times(kind);
        let (connections, in_flight) = if kind == Kind::Single { (1, 1) } else { (self.connections, self.in_flight) };
        let mut words: Vec<String> = Vec::new();
        let mut put = |name: &str, value: &dyn std::fmt::Display| words.extend([name.to_owned(), value.to_string()]);
        put("--broker", &broker);
        put("--topic", &self.topic);
        put("--queues", &self.queues);
        put("--size", &self.size);
        put("--connections", &connections);
        if kind == Kind::Open {
            put("--in-flight", &in_flight);
        }
        put("--header", &self.header);
        put("--seconds", &seconds);
        put("--warmup", &warmup);
        match kind {
            Kind::Open => put("--rate", &self.rate),
            Kind::Closed | Kind::Single => put("--closed", &in_flight),
        }
        if let Some(cpus) = cpus {
            // The single connection needs a single thread.
            let first = cpus.split(',').next().unwrap_or(cpus);
            put("--cpu", &if kind == Kind::Single { first } else { cpus });
        }
        let wait = match kind {
            Kind::Open => self.wait,
            Kind::Closed => None,
            // Waking a thread that slept would be measured with every answer.
            Kind::Single => self.wait.or(cpus.map(|_| Wait::Spin)),
        };
        if let Some(wait) = wait {
            put("--wait", &if wait == Wait::Spin { "spin" } else { "sleep" });
        }
        if let Some(pid) = pid {
            put("--watch-pid", &pid);
        }
        words
    }

    pub(crate) fn send_args(words: &[String]) -> anyhow::Result<SendArgs> {
        let line = ["send"].into_iter().chain(words.iter().map(String::as_str));
        Ok(Line::try_parse_from(line).context("a round's command line")?.args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Flush {
        #[command(flatten)]
        args: FlushArgs,
    }

    fn parsed(line: &str) -> FlushArgs {
        Flush::try_parse_from(["flush"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn a_round_is_a_send() {
        let args = parsed("--rate 500 --size 10 -c 4 -i 2 --wait sleep --header rocketmq");
        let send = |kind| FlushArgs::send_args(&args.words(kind, "h:1", Some("2,3"), Some(7))).unwrap();
        let open = send(Kind::Open);
        assert_eq!(
            (open.rate, open.closed, open.load.connections, open.load.in_flight),
            (Some(500.0), None, Some(4), 2)
        );
        assert_eq!((open.load.wait, open.load.watch_pid), (Some(Wait::Sleep), Some(7)));
        assert_eq!(open.load.header, HeaderKind::Rocketmq);
        let single = send(Kind::Single);
        assert_eq!((single.rate, single.closed, single.load.connections), (None, Some(1), Some(1)));
        assert_eq!(single.load.cpu.as_deref(), Some("2"));
        let closed = send(Kind::Closed);
        assert_eq!((closed.rate, closed.closed, closed.load.connections), (None, Some(2), Some(4)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = |line: &str| parsed(line).check().unwrap_err().to_string();
        assert!(wrong("--seconds 0").contains("--seconds 0"));
        assert!(wrong("--rate 0").contains("--rate 0"));
        assert!(wrong("--warmup NaN").contains("--warmup"));
        assert!(wrong("--target a:1").contains("give it twice"));
        assert!(wrong("--target a:1 --target a:1").contains("itself"));
        assert!(parsed("--closed-seconds 0 --device-seconds 0 --target a:1 --target b:1").check().is_ok());
        assert!(Flush::try_parse_from(["flush", "--target", "a:1", "--store", "/x"]).is_err());
    }
}
