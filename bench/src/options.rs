//! The command line of `ringmq bench`. What a workload file may say too is an `Option` here: a flag wins over the
//! file, the file over the default. The settled values are written into the report, from which a run is repeated.

mod settle;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use self::settle::Settled;
pub use crate::schedule::Arrivals;
pub use crate::shape::Sizes;
pub use crate::wire::HeaderKind;

const WEEK: f64 = 7.0 * 86_400.0;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Show what durability costs: the same load under ASYNC_FLUSH and SYNC_FLUSH, on this machine's disk.
    #[serde(skip)]
    Flush(crate::flush::FlushArgs),
    /// Say whether one result is worse than another, for people and for CI.
    #[serde(skip)]
    Compare(crate::compare::CompareArgs),
    /// Send messages and measure throughput and latency.
    Send(SendArgs),
    /// Read topics from their first message, or their newest messages again and again, and audit what comes.
    Consume(ConsumeArgs),
    /// Send and receive at once; latency from the intended send to the receipt, on one clock.
    E2e(E2eArgs),
    /// Send, and read what the topic held before, each at a rate of its own.
    Mixed(MixedArgs),
    /// Build a backlog, then read it while sending goes on: what the reading costs the producer.
    Backlog(BacklogArgs),
    /// The same load over more and more queues: what queues cost.
    Topics(TopicsArgs),
    /// Search the highest rate that the broker takes within a bound on the latency.
    FindMax(FindMaxArgs),
    /// Send halves of transactions and end each: what a transaction costs, and whether the right ones are there.
    Transactions(TransactionsArgs),
    /// Send messages that are due later, and measure how late they are delivered.
    Timers(TimersArgs),
    /// Commit the offsets of many groups.
    Offsets(OffsetsArgs),
    /// Run again what the JSON report of a run describes.
    #[serde(skip)]
    Repeat(RepeatArgs),
    /// Watch what a process costs while nothing is sent by this command.
    #[serde(skip)]
    Watch(WatchArgs),
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[group(id = "target", required = true, multiple = false)]
pub struct TargetArgs {
    /// Broker to load directly, without a name server.
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: Option<String>,
    /// Name servers that know the brokers, separated by `;`.
    #[arg(long, short = 'n', value_name = "HOST:PORT[;HOST:PORT]")]
    pub namesrv: Option<String>,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct LoadArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub target: TargetArgs,
    /// Topic, or with --topics what their names begin with; a load that sends creates what does not exist.
    #[arg(long, short = 't', default_value = "RingMQBench")]
    pub topic: String,
    /// Topics: NAME-00000, NAME-00001 and so on. [default: 1, which has no number]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub topics: Option<u32>,
    /// TCP connections in all. [default: 32]
    #[arg(long, short = 'c', value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: Option<u32>,
    /// Requests that each connection has under way at most, in an open loop and when reading.
    #[arg(long, short = 'i', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Header codec of the requests.
    #[arg(long, value_enum, default_value_t = HeaderKind::Json)]
    pub header: HeaderKind,
    /// CPUs for the load, one pinned thread each, like `1` or `2,4-7`. Without it one thread runs where it may.
    #[arg(long, value_name = "LIST")]
    pub cpu: Option<String>,
    /// How a load thread waits: `spin` answers at once and keeps its CPU busy, `sleep` leaves the CPU to others.
    /// Default: spin for an open loop on CPUs given by --cpu, else sleep.
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
    /// Process to watch during the measured time, usually the broker.
    #[arg(long, value_name = "PID")]
    #[serde(skip)]
    pub watch_pid: Option<u32>,
    /// Seconds to wait for what is late at the end: replies, and offsets that the broker has not counted yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub patience: f64,
    /// Others use the topic too: their messages, and gaps between our queue offsets, are no finding.
    #[arg(long)]
    pub shared_topic: bool,
    /// Workload in TOML with the field names of the OpenMessaging Benchmark. Flags win over it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub workload: Option<PathBuf>,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SendArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadArgs,
    /// Messages a second (open loop; latency counts from the intended time). [default: 10000, unless --closed]
    #[arg(long, short = 'r', value_name = "PER_SECOND", value_parser = rate, conflicts_with = "closed")]
    pub rate: Option<f64>,
    /// Instead of a rate: each connection keeps this many requests under way (closed loop).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub closed: Option<u32>,
    /// How the messages of an open loop follow each other.
    #[arg(long, value_enum, default_value_t)]
    pub arrivals: Arrivals,
    /// Decides what is drawn at random: arrivals, sizes, keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bytes of a message's body: 1024, or a range 512..4096, or sizes with weights 256:50,1024:40,65536:10.
    /// [default: 1024]
    #[arg(long, short = 's')]
    pub size: Option<Sizes>,
    /// File whose bytes every body is, instead of --size.
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub payload: Option<PathBuf>,
    /// Queues to send to, of each topic on each broker. [default: 8]
    #[arg(long, short = 'q', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub queues: Option<u32>,
    /// Messages of one request; above 1 they are a batch message (code 320).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Give each message one of this many keys (KEYS), at random. [default: no key]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub keys: Option<u32>,
    /// Give the messages this many tags in turn: TagA, TagB and so on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=26))]
    pub tags: u8,
    /// One more property of every message; may be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    pub property: Vec<(String, String)>,
    /// Properties of each message.
    #[arg(long, value_enum, default_value_t = PropertiesLike::Java)]
    pub properties_like: PropertiesLike,
    /// Compress the bodies with zlib, as Java clients do with long ones; --size is what they had before.
    #[arg(long, conflicts_with = "batch")]
    pub compress: bool,
    /// Each place in flight is a key with a queue of its own: the next message of a key waits for the reply to the
    /// last one, and must get a higher offset.
    #[arg(long, conflicts_with_all = ["keys", "one_way"])]
    pub ordered: bool,
    /// The rate is more than the broker can take: SYSTEM_BUSY with a cause is counted and no fault, and what found no
    /// room until the end stays unsent. Everything that is acknowledged is audited as ever.
    #[arg(long, conflicts_with_all = ["closed", "one_way", "ordered"])]
    #[serde(default)]
    pub overload: bool,
    /// Ask for no answer. Only the offsets at the end tell what arrived; a broker may drop such messages.
    #[arg(long, conflicts_with = "closed")]
    pub one_way: bool,
    /// Measured time. [default: 10]
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Time before that, left out of the figures but not of the audit. [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none)]
    pub warmup: Option<f64>,
}

/// How something is read.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ReadArgs {
    /// Messages asked for in one pull.
    #[arg(long, value_name = "MESSAGES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub pull_batch: u32,
    /// Consumer group of the pulls.
    #[arg(long, short = 'g', default_value = "RingMQBenchPull")]
    pub group: String,
    /// Groups that each read everything: the group's name with -0, -1 and so on. [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub subscriptions: Option<u32>,
    /// Compute the checksum of every body.
    #[arg(long)]
    pub verify_crc: bool,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ConsumeArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub read: ReadArgs,
    /// SQL92 expression over properties that the broker is to filter by; everything is read without it first, to know
    /// what has to come.
    #[arg(long, value_name = "SQL92")]
    pub filter: Option<String>,
    /// Parts into which each queue is cut; every part is read by a pull of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub parts: u32,
    /// Only the newest messages of each queue; with --seconds they come from the broker's memory.
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    pub last: Option<u64>,
    /// Read again and again for so long. Without it, once.
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<f64>,
}

/// Reading beside a load that sends.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct BesideArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub read: ReadArgs,
    /// TCP connections that read, in all. [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub consumers: Option<u32>,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct E2eArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub beside: BesideArgs,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct MixedArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub beside: BesideArgs,
    /// Messages a second to read, in pulls of --pull-batch (open loop).
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000.0, value_parser = rate)]
    pub read_rate: f64,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct BacklogArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub beside: BesideArgs,
    /// Size of the backlog in messages.
    #[arg(long, value_name = "MESSAGES", conflicts_with = "backlog_bytes", value_parser = clap::value_parser!(u64).range(1..))]
    pub backlog: Option<u64>,
    /// Size of the backlog in bytes of bodies, like 512m or 20g. [default: 1g]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub backlog_bytes: Option<u64>,
    /// Share of the backlog that must be read for the run to end; the rest may stay.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub drain_ratio: Option<f64>,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TopicsArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    /// Queues of all topics together, step by step; each topic has --queues of them.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: Vec<u32>,
    /// How often all steps are run, one after the other; the medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct FindMaxArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    /// The 99th percentile of the latency that a rate must hold.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 2_000.0, value_parser = rate)]
    pub p99: f64,
    /// How near the rate that held and the one that did not shall come, as a share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub precision: f64,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TransactionsArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub beside: BesideArgs,
    /// Share of the transactions that is rolled back, drawn at random; the others are committed.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share_or_none)]
    pub roll_back: f64,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TimersArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub send: SendArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub beside: BesideArgs,
    /// Messages that fall due each second, evenly; --seconds says how many seconds of them there are.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000.0, value_parser = rate)]
    pub due_rate: f64,
    /// Time from the beginning of the run until the first message is due. They are sent as fast as --closed or --rate
    /// says; one that is acknowledged after it was due spoils the run.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub ahead: f64,
    /// Instead of a time of its own, each message has this delay level, and is due so long after it was sent.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=18), conflicts_with_all = ["due_rate", "ahead"])]
    pub level: Option<u8>,
}

#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct OffsetsArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadArgs,
    /// Groups that commit in turn, each the offset of the topic's first queue; those that do not exist are created.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub groups: u32,
    /// What the groups' names begin with; a number follows.
    #[arg(long, short = 'g', default_value = "RingMQBenchOffsets")]
    pub group: String,
    /// Commits a second (open loop; latency counts from the intended time). [default: one for each group]
    #[arg(long, short = 'r', value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Ask for no answer, as clients do. What is stored at the end tells what arrived.
    #[arg(long)]
    pub one_way: bool,
    /// Measured time.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    pub seconds: f64,
    /// Time before that, left out of the figures but not of the audit.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds_or_none)]
    pub warmup: f64,
}

#[derive(Debug, Clone, Args)]
pub struct RepeatArgs {
    /// JSON report of the run.
    #[arg(value_name = "FILE")]
    pub report: PathBuf,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Process to watch.
    #[arg(long, value_name = "PID")]
    pub watch_pid: u32,
    /// For so long.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    Spin,
    Sleep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropertiesLike {
    /// UNIQ_KEY, WAIT and TAGS, as the Java client sends them.
    Java,
    /// None but those that other flags ask for.
    None,
}

impl LoadArgs {
    pub(crate) fn patience(&self) -> anyhow::Result<Duration> {
        anyhow::ensure!((0.0..=3600.0).contains(&self.patience), "--patience must be from 0 to 3600 seconds");
        Ok(Duration::from_secs_f64(self.patience))
    }

    /// The CPUs of the load threads; `None` for one thread that is not pinned.
    pub(crate) fn cpus(&self) -> anyhow::Result<Option<Vec<usize>>> {
        self.cpu.as_deref().map(parse_cpu_list).transpose()
    }

    /// Whether load threads poll without ever sleeping.
    pub(crate) fn spins(&self, open_loop: bool) -> bool {
        match self.wait {
            Some(wait) => wait == Wait::Spin,
            None => open_loop && self.cpu.is_some(),
        }
    }
}

fn number(text: &str, fits: impl Fn(f64) -> bool, want: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| fits(*value)).ok_or_else(|| format!("expected {want}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, |rate| rate > 0.0 && rate <= 1e9, "a number above zero, at most 1e9")
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, |seconds| seconds > 0.0 && seconds <= WEEK, "seconds above zero, at most a week")
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    number(text, |seconds| (0.0..=WEEK).contains(&seconds), "seconds, at most a week")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |share| share > 0.0 && share <= 1.0, "a share above 0, at most 1")
}

fn share_or_none(text: &str) -> Result<f64, String> {
    number(text, |share| (0.0..=1.0).contains(&share), "a share from 0 to 1")
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() || text.contains(['\u{1}', '\u{2}']) {
        return Err("a name is needed, and neither part may hold the separators \\u0001 and \\u0002".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "expected bytes such as 4096, 512m or 20g".to_owned())
}

/// A list as `taskset` and `cpuset` take it: numbers and ranges, separated by commas.
pub(crate) fn parse_cpu_list(list: &str) -> anyhow::Result<Vec<usize>> {
    let wrong = || anyhow::anyhow!("--cpu {list}: expected CPU numbers and ranges such as 1 or 2,4-7");
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= 4096 {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("1").unwrap(), [1]);
        assert_eq!(parse_cpu_list("4-6,1,5").unwrap(), [1, 4, 5, 6]);
        for wrong in ["", "a", "3-1", "1,,2", "0-99999"] {
            assert!(parse_cpu_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        assert_eq!(bytes("3m"), Ok(3 << 20));
        assert_eq!(bytes("20G"), Ok(20 << 30));
        for wrong in ["", "m", "0", "1x", "99999999999t"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(seconds("0").is_err() && seconds("nan").is_err() && seconds_or_none("0").is_ok());
        assert!(rate("-1").is_err() && rate("inf").is_err() && share("1.5").is_err());
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(property("=b").is_err() && property("a").is_err() && property("a=\u{1}").is_err());
    }
}
