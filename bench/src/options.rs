//! The command line of `ringmq bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

pub use crate::wire::HeaderKind;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what durability costs: the same load under ASYNC_FLUSH and SYNC_FLUSH, on this machine's disk.
    Flush(crate::flush::FlushArgs),
    /// Say whether one result is worse than another, for people and for CI.
    Compare(crate::compare::CompareArgs),
    /// Send messages and measure throughput and latency.
    Send(SendArgs),
    /// Read a topic from its first message and check that no queue offset is missing.
    Pull(PullArgs),
    /// Watch what a process costs while nothing is sent by this command.
    Watch(WatchArgs),
}

#[derive(Debug, Clone, Args)]
#[group(id = "target", required = true, multiple = false)]
pub struct TargetArgs {
    /// Broker to load directly, without a name server.
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: Option<String>,
    /// Name servers that know the brokers, separated by `;`.
    #[arg(long, short = 'n', value_name = "HOST:PORT[;HOST:PORT]")]
    pub namesrv: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Topic; `send` creates it when it does not exist.
    #[arg(long, short = 't', default_value = "RingMQBench")]
    pub topic: String,
    /// TCP connections in all.
    #[arg(long, short = 'c', default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// Requests that each connection has under way at most.
    #[arg(long, short = 'i', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
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
    pub watch_pid: Option<u32>,
    /// Seconds to wait for what is late at the end: replies, and offsets that the broker has not counted yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub patience: f64,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Messages a second (open loop, constant arrivals; latency counts from the intended time). Without it every
    /// connection keeps --in-flight requests under way (closed loop).
    #[arg(long, short = 'r', value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Bytes of a message's body.
    #[arg(long, short = 's', default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub size: u32,
    /// Queues to send to, on each broker.
    #[arg(long, short = 'q', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub queues: u32,
    /// Measured time.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Time before that, left out of the figures but not of the audit.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Properties of each message.
    #[arg(long, value_enum, default_value_t = PropertiesLike::Java)]
    pub properties_like: PropertiesLike,
    /// Others send to the topic too: gaps between our queue offsets are no finding.
    #[arg(long)]
    pub shared_topic: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Messages asked for in one pull.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Parts into which each queue is cut; every part is read by a pull of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub parts: u32,
    /// Read the topic again and again for so long. Without it, once.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Compute the checksum of every body.
    #[arg(long)]
    pub verify_crc: bool,
    /// Consumer group of the pulls.
    #[arg(long, short = 'g', default_value = "RingMQBenchPull")]
    pub group: String,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Process to watch.
    #[arg(long, value_name = "PID")]
    pub watch_pid: u32,
    /// For so long.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    Spin,
    Sleep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PropertiesLike {
    /// UNIQ_KEY, WAIT and TAGS, as the Java client sends them.
    Java,
    /// None at all.
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
}
