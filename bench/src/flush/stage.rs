//! What a run stands on: its folder, a name server, and the two brokers that are compared, or two that run already.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::CLOSED_ROUNDS;
use super::args::{FlushArgs, Kind};
use super::cores::{self, Cores};
use super::place::Place;
use super::servers::{Ender, Server};
use crate::host::Storage;

/// A segment of the commit log, which a broker makes before it needs it.
const SEGMENT: u64 = 1 << 30;
/// What a record has around its body, roughly; a flush at a low rate fills up one block besides.
const AROUND: f64 = 512.0;
/// What a broker takes as fast as it goes, in bytes a second; more on a larger machine, which has a larger disk.
const UNBOUND_PER_SECOND: f64 = 600e6;

/// One of the two brokers.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) label: String,
    /// As part of a file's name.
    pub(super) key: String,
    pub(super) addr: String,
    /// `None` when somebody else runs it.
    pub(super) server: Option<Server>,
}

/// Taken down when it is dropped, in this order: the servers before their folder.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) brokers: Vec<Broker>,
    pub(super) namesrv: Option<Server>,
    pub(super) storage: Option<Storage>,
    pub(super) cores: Option<Cores>,
    pub(super) config: Option<String>,
    pub(super) place: Option<Place>,
}

impl Stage {
    pub(super) fn set(args: &FlushArgs, ender: &Ender) -> anyhow::Result<Stage> {
        let cores = Cores::choose(args.broker_cpus.as_deref(), args.load_cpus.as_deref())?;
        if !args.target.is_empty() {
            let brokers = args.target.iter().map(|addr| Broker::elsewhere(addr)).collect();
            return Ok(Stage { brokers, namesrv: None, storage: None, cores, config: None, place: None });
        }
        let config = match &args.config {
            Some(path) => Some(fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?),
            None => None,
        };
        let (place, storage) = Place::prepare(args.store.as_deref(), args.allow_tmpfs, needs(args, cores.as_ref()))?;
        end_on_panic(ender, place.folder());
        // Both at once, so that changing from one to the other takes no time and a drifting machine hits both; the one
        // that is not loaded does nothing.
        let home = place.folder().join("home");
        let words = ["namesrv", "--listen", "127.0.0.1", "--port", "0", "--end-with-input"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.extend(["--store".to_owned(), text(&place.folder().join("namesrv"))?]);
        let namesrv = Server::start("name server", "name server", &words, &home, ender)?;
        let mut stage =
            Stage { brokers: Vec::new(), namesrv: None, storage: Some(storage), cores, config, place: Some(place) };
        for flush in ["async", "sync"] {
            let broker = stage.start_broker(args, flush, &namesrv.addr, &home, ender)?;
            stage.brokers.push(broker);
        }
        stage.namesrv = Some(namesrv);
        Ok(stage)
    }

    fn start_broker(
        &self,
        args: &FlushArgs,
        flush: &str,
        namesrv: &str,
        home: &Path,
        ender: &Ender,
    ) -> anyhow::Result<Broker> {
        let folder = self.place.as_ref().context("no folder for a broker")?.folder();
        let label = format!("{}_FLUSH", flush.to_uppercase());
        let given = self.config.as_deref().unwrap_or_default();
        let config = folder.join(format!("{flush}.conf"));
        // Two brokers of one cluster need two names.
        fs::write(&config, format!("{given}\nbrokerName=ringmq-bench-{flush}\n"))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let words =
            ["broker", "--listen", "127.0.0.1", "--port", "0", "--end-with-input", "--flush", flush, "-n", namesrv];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.extend(["-c".to_owned(), text(&config)?]);
        words.extend(["--store".to_owned(), text(&folder.join(flush))?]);
        if let Some(cores) = &self.cores {
            words.extend(["--cpus".to_owned(), cores::list(&cores.brokers)]);
        }
        if let Some(shards) = args.shards {
            words.extend(["--shards".to_owned(), shards.to_string()]);
        }
        let server = Server::start(&format!("{label} broker"), "broker", &words, home, ender)?;
        Ok(Broker { label, key: flush.to_owned(), addr: server.addr.clone(), server: Some(server) })
    }

    /// Why one of the servers runs no more.
    pub(super) fn why_ended(&self) -> Option<String> {
        let servers = self.brokers.iter().filter_map(|broker| broker.server.as_ref()).chain(&self.namesrv);
        servers.into_iter().find_map(Server::why_ended)
    }

    pub(super) fn commands(&self) -> Vec<String> {
        let brokers = self.brokers.iter().filter_map(|broker| broker.server.as_ref());
        self.namesrv.iter().chain(brokers).map(|server| server.command.clone()).collect()
    }
}

impl Broker {
    fn elsewhere(addr: &str) -> Broker {
        let key = addr.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Broker { label: addr.to_owned(), key, addr: addr.to_owned(), server: None }
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path)?;
    absolute.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{}: it is not UTF-8", path.display()))
}

/// Bytes that the run writes, roughly: the segments of both brokers, the messages at the rate, and what goes in when
/// there is none.
fn needs(args: &FlushArgs, cores: Option<&Cores>) -> u64 {
    let shards = args.shards.map_or_else(|| cores.map_or(1, |cores| cores.brokers.len() as u64), u64::from);
    let messages = args.rate * (args.seconds + args.warmup) * f64::from(args.rounds);
    let (closed, warmup) = args.times(Kind::Closed);
    let unbound = if closed > 0.0 { f64::from(CLOSED_ROUNDS) * (closed + warmup) * UNBOUND_PER_SECOND } else { 0.0 };
    2 * (shards * SEGMENT + (messages * (f64::from(args.size) + AROUND) + unbound) as u64)
}

/// A panic ends this process without its destructors: nothing of the run may stay.
fn end_on_panic(ender: &Ender, folder: &Path) {
    let (ender, folder) = (ender.clone(), folder.to_path_buf());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        ender.end_all();
        let _next_run = fs::remove_dir_all(&folder);
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_elsewhere_names_its_files() {
        let broker = Broker::elsewhere("[::1]:10911");
        assert_eq!((broker.label.as_str(), broker.key.as_str()), ("[::1]:10911", "---1--10911"));
    }
}
