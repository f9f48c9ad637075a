//! The servers as commands: `standalone`, `namesrv`, `broker`. Each reads its configuration, says what is wrong with it
//! before anything is started, starts, prints its banner, and ends in order when it is asked to.
//!
//! The pieces: `broker` and `namesrv` turn configuration into what those crates take, `place` and `disk` find what the
//! host decides, `live` is what can be changed while a broker runs, `servers` starts and ends, `banner` speaks, `manager` tells systemd, `pid` leaves the mark that
//! `mqshutdown` looks for.

mod banner;
pub(crate) mod broker;
mod disk;
mod live;
mod manager;
mod namesrv;
pub(crate) mod pid;
pub(crate) mod place;
mod servers;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq_broker::start::Ready;
use ringmq_engine::FlushPolicy;
use ringmq_rt::host;
use tracing::{info, warn};

use self::banner::Banner;
use self::broker::Plan;
use self::pid::PidFile;
use self::servers::Servers;
use crate::cli::{BrokerArgs, Kind, NamesrvArgs, StandaloneArgs, path_text};
use crate::config::notice::Origin;
use crate::config::settings::Settings;
use crate::failure::Failure;
use crate::{config_command, log};

const LOG: &str = "info";

/// How long the banner waits for the broker to be known to the name server beside it.
const REGISTRATION_WAIT: Duration = Duration::from_secs(10);

/// A name server and a broker in one process. The broker registers over loopback, as with any name server.
pub(crate) fn standalone(args: &StandaloneArgs) -> Result<(), Failure> {
    log::init(LOG)?;
    let configured = broker::load(&args.broker, None)?;
    say(&configured);
    startable(&configured)?;
    let files = file_limit();
    let mut plan = broker::plan(&configured, &args.broker, true, files)?;
    // Always flags: a key of the environment would mean both servers.
    let listen = plan.settings.listen;
    let names = namesrv::load(None, Some(listen), Some(args.namesrv_port))?;
    let folder = args.broker.store.as_deref().map(|store| store.join("namesrv"));
    let folder = folder.map(|folder| path_text(&folder)).transpose().map_err(Failure::usage)?.map(PathBuf::from);
    let names = namesrv::options(&names.namesrv(), Some(args.namesrv_port), folder, files);
    if let Some(setting) = configured.get("namesrvAddr").filter(|setting| setting.origin != Origin::Default) {
        let (origin, text) = (&setting.origin, &setting.text);
        warn!(
            "namesrvAddr = {text} ({origin}) is not in force: a standalone broker registers with its own name server"
        );
    }

    let mut servers = Servers::new()?;
    if args.end_with_input {
        servers.end_with_input();
    }
    let _mark = mark(Kind::Standalone);
    if let Some(namesrv) = servers.start_namesrv(plan.spare, names) {
        plan.settings.name_servers = vec![on_this_machine(namesrv).to_string()];
        let (store, cores) = (plan.settings.store.clone(), plan.cores.clone());
        let flush = plan.settings.shard.flush;
        if let Some(ready) = servers.start_broker(plan.settings) {
            let facts = [banner::shards(ready.log_shards, &cores), format!("data {}", store.display())];
            let names = plan.told.with_port(namesrv.port());
            let mut lines =
                Banner::new(&facts).line("name server", &names).line("broker", &broker_line(ready.broker, &plan.told));
            if let Some(commit) = commit_line(&ready, flush, &plan.disk) {
                lines = lines.line("commit", &commit);
            }
            lines = lines.line("try", &try_line(&names));
            if servers.wait_registered(REGISTRATION_WAIT).is_none() && !servers.is_ending() {
                warn!("the broker is not registered yet: clients do not find it until it is");
            }
            if !servers.is_ending() {
                lines.print();
            }
        }
    }
    servers.say_ready();
    servers.run_until_end()
}

/// A broker alone.
pub(crate) fn broker(args: &BrokerArgs, kind_name: Option<&str>) -> Result<(), Failure> {
    let configured = broker::load(&args.broker, args.namesrv.as_deref())?;
    if args.print.all || args.print.important {
        config_command::print_items(&configured, args.print.all);
        return Ok(());
    }
    log::init(LOG)?;
    say(&configured);
    startable(&configured)?;
    let plan = broker::plan(&configured, &args.broker, false, file_limit())?;
    let Plan { settings, cores, told, disk, .. } = plan;
    let names = match settings.name_servers.join(";") {
        names if names.is_empty() => {
            warn!("no name server is configured (namesrvAddr, -n): clients cannot find this broker");
            "none: this broker is not announced".to_owned()
        }
        names => names,
    };
    let (store, flush) = (settings.store.clone(), settings.shard.flush);
    let (name, address) = (settings.identity.broker_name.clone(), settings.identity.broker_addr.clone());

    let mut servers = Servers::new()?;
    if args.end_with_input {
        servers.end_with_input();
    }
    let _mark = mark(Kind::Broker);
    if let Some(ready) = servers.start_broker(settings) {
        let facts = [banner::shards(ready.log_shards, &cores), format!("data {}", store.display())];
        let mut lines =
            Banner::new(&facts).line("name server", &names).line("broker", &broker_line(ready.broker, &told));
        if let Some(commit) = commit_line(&ready, flush, &disk) {
            lines = lines.line("commit", &commit);
        }
        if kind_name.is_some() {
            lines = lines.plain(&format!(
                "The broker[{name}, {address}] boot success. serializeType=JSON and name server is {names}"
            ));
        }
        lines.print();
    }
    servers.say_ready();
    servers.run_until_end()
}

/// A name server alone.
pub(crate) fn namesrv(args: &NamesrvArgs, kind_name: Option<&str>) -> Result<(), Failure> {
    let configured = namesrv::load(args.config.as_deref(), args.listen, args.port)?;
    if args.print {
        config_command::print_items(&configured, true);
        return Ok(());
    }
    log::init(LOG)?;
    say(&configured);
    let folder = args.store.as_deref().map(path_text).transpose().map_err(Failure::usage)?.map(PathBuf::from);
    let options = namesrv::options(&configured.namesrv(), args.port, folder, file_limit());
    let core = match args.cpus {
        Some(core) => place::choose_cores(Some(&[core]), &place::usable_cores()?)?.broker.first().copied(),
        None => None,
    };
    let kv = options.kv_path.clone();

    let mut servers = Servers::new()?;
    if args.end_with_input {
        servers.end_with_input();
    }
    let _mark = mark(Kind::Namesrv);
    if let Some(bound) = servers.start_namesrv(core, options) {
        let told = place::told(None, bound.ip())?.with_port(bound.port());
        let mut lines = Banner::new(&[format!("data {}", kv.parent().unwrap_or(Path::new("/")).display())])
            .line("name server", &format!("{bound}   brokers and clients reach it at {told}"));
        if kind_name.is_some() {
            lines = lines.plain("The Name Server boot success. serializeType=JSON");
        }
        lines.print();
    }
    servers.say_ready();
    servers.run_until_end()
}

/// What a person should know about the configuration, one line each.
fn say(configured: &Settings) {
    for notice in configured.notices() {
        warn!("configuration: {notice}");
    }
    if let Some(warning) = configured.not_in_force() {
        warn!("configuration: {warning}");
    }
}

fn startable(configured: &Settings) -> Result<(), Failure> {
    configured.startable().map_err(Failure::config)
}

fn file_limit() -> u64 {
    /// What every process gets without a word.
    const USUAL: u64 = 1024;
    let limit = host::raise_file_limit().unwrap_or_else(|error| {
        warn!(%error, "the limit of open files cannot be raised");
        USUAL
    });
    info!(limit, "open files and connections");
    limit
}

fn mark(kind: Kind) -> Option<PidFile> {
    let home = place::home();
    PidFile::create(&home, kind)
        .inspect_err(|error| warn!(home = %home.display(), %error, "mqshutdown will not find this process"))
        .ok()
}

/// Where a server of this process reaches a listener of it.
fn on_this_machine(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn broker_line(bound: SocketAddr, told: &place::Told) -> String {
    format!("{bound}   clients will be told {}", told.with_port(bound.port()))
}

/// How batches are made durable, logged always; a line of the banner where senders wait for it.
fn commit_line(ready: &Ready, flush: FlushPolicy, chosen: &disk::Chosen) -> Option<String> {
    let method = ready.commit?;
    info!(%method, ?flush, "SYNC_FLUSH makes a batch durable by {method} ({chosen})");
    (flush == FlushPolicy::Sync).then(|| format!("{method}   ({chosen})"))
}

fn try_line(names: &str) -> String {
    let at = if names == "127.0.0.1:9876" { String::new() } else { format!(" -n {names}") };
    format!("ringmq send{at} demo \"hello\"      ringmq tail{at} demo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_banner() {
        assert_eq!(try_line("127.0.0.1:9876"), "ringmq send demo \"hello\"      ringmq tail demo");
        assert_eq!(try_line("h:1"), "ringmq send -n h:1 demo \"hello\"      ringmq tail -n h:1 demo");
        let told = place::told(Some("10.0.0.7"), "0.0.0.0".parse().unwrap()).unwrap();
        let line = broker_line("0.0.0.0:10911".parse().unwrap(), &told);
        assert_eq!(line, "0.0.0.0:10911   clients will be told 10.0.0.7:10911");
        assert_eq!(on_this_machine("0.0.0.0:5".parse().unwrap()).to_string(), "127.0.0.1:5");
        assert_eq!(on_this_machine("10.0.0.1:5".parse().unwrap()).to_string(), "10.0.0.1:5");
    }
}
