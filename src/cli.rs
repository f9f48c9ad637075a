//! The command line: the tree of commands, the names that the program answers to, and its exit codes.
//!
//! It only reads. What a command does is in the module of its name; what a flag means for the configuration is said by
//! the key that it sets.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::key::Program;
use crate::iotune::IotuneArgs;
use crate::{admin, doctor, tune};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Somebody said no, or it could not be done: a broker's refusal, a port in use, a store that cannot be opened.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Nobody answered.
    Unreachable = 3,
    /// The configuration is wrong.
    Config = 4,
    /// A mistake in this program.
    Bug = 70,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody answered, 4 wrong configuration, 70 a bug";

/// A message broker and name server for RocketMQ clients.
#[derive(Debug, Parser)]
#[command(name = "ringmq", version, after_help = EXIT_CODES)]
struct Ringmq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a name server and a broker in one process.
    Standalone(StandaloneArgs),
    /// Run a name server.
    Namesrv(NamesrvArgs),
    /// Run a broker.
    Broker(BrokerArgs),
    /// End this user's servers of a kind and wait until they are gone.
    Shutdown(ShutdownArgs),
    /// Say what is configured, by whom, and what it means.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Send one message.
    Send(SendArgs),
    /// Print the messages of a topic and go on with those that arrive.
    Tail(TailArgs),
    /// Administer a cluster with the commands of mqadmin.
    #[command(subcommand, after_help = EXIT_CODES)]
    Admin(admin::Verb),
    /// Load a broker and check what it answers.
    Bench(Box<ringmq_bench::Args>),
    Tune(tune::TuneArgs),
    Doctor(doctor::DoctorArgs),
    /// Measure a store's disk and write down how the broker uses it best.
    Iotune(IotuneArgs),
}

/// What a broker is told on the command line; each flag stands above the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BrokerFlags {
    /// Configuration file, in RocketMQ's form.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the store (storePathRootDir).
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Address to listen on (bindAddress).
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<IpAddr>,
    /// Port of the broker (listenPort); 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Log shards of the store (shards); a store that exists keeps its number.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u16>,
    /// Cores to run on (cpus), like 0,2-3; one shard runs on each.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// When a sender is answered (flushDiskType): appended, or flushed to the device.
    #[arg(long, value_enum)]
    pub(crate) flush: Option<Flush>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flush {
    Async,
    Sync,
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerFlags,
    /// Port of the name server; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    pub(crate) namesrv_port: u16,
    /// End when standard input ends: for a program that starts this server and must not leave it behind.
    #[arg(long)]
    pub(crate) end_with_input: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerFlags,
    /// Name servers to register with (namesrvAddr).
    #[arg(short = 'n', long = "namesrvAddr", value_name = "HOST:PORT[;HOST:PORT]")]
    pub(crate) namesrv: Option<String>,
    #[command(flatten)]
    pub(crate) print: PrintFlags,
    /// End when standard input ends: for a program that starts this server and must not leave it behind.
    #[arg(long)]
    pub(crate) end_with_input: bool,
}

#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PrintFlags {
    /// Print every configuration item and end.
    #[arg(short = 'p', long = "printConfigItem")]
    pub(crate) all: bool,
    /// Print the important configuration items and end.
    #[arg(short = 'm', long = "printImportantConfig")]
    pub(crate) important: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NamesrvArgs {
    /// Configuration file, in RocketMQ's form.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Taken for RocketMQ's sake: name servers do not know each other.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "HOST:PORT", hide = true)]
    pub(crate) namesrv: Option<String>,
    /// Folder of the KV configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Address to listen on (bindAddress).
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<IpAddr>,
    /// Port of the name server (listenPort); 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Core to run on.
    #[arg(long, value_name = "CORE")]
    pub(crate) cpus: Option<usize>,
    /// Print every configuration item and end.
    #[arg(short = 'p', long = "printConfigItem")]
    pub(crate) print: bool,
    /// End when standard input ends: for a program that starts this server and must not leave it behind.
    #[arg(long)]
    pub(crate) end_with_input: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShutdownArgs {
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Seconds to wait until they are gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

/// What a process of this program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Broker,
    Namesrv,
    Standalone,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Broker => "broker",
            Kind::Namesrv => "namesrv",
            Kind::Standalone => "standalone",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Explain one key: its value, who said it, what it means, whether it is in force.
    Explain {
        /// The key, in any of its spellings.
        key: String,
        #[command(flatten)]
        of: ConfigOf,
    },
    /// Print a file with every key that is in force, at its default.
    Sample {
        /// Whose configuration it is.
        #[arg(long = "for", value_enum, default_value_t = ConfigFor::Broker)]
        program: ConfigFor,
    },
    /// List every value that is in force, with its origin.
    Show {
        #[command(flatten)]
        of: ConfigOf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigOf {
    /// Configuration file to look at.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Whose configuration it is.
    #[arg(long = "for", value_enum, default_value_t = ConfigFor::Broker)]
    pub(crate) program: ConfigFor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFor {
    Broker,
    Namesrv,
}

impl From<ConfigFor> for Program {
    fn from(whose: ConfigFor) -> Program {
        match whose {
            ConfigFor::Broker => Program::Broker,
            ConfigFor::Namesrv => Program::Namesrv,
        }
    }
}

/// Where a client finds its cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Name servers.
    #[arg(
        short = 'n',
        long = "namesrvAddr",
        value_name = "HOST:PORT[;HOST:PORT]",
        env = "NAMESRV_ADDR",
        default_value = "127.0.0.1:9876"
    )]
    pub(crate) namesrv: String,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    pub(crate) topic: String,
    /// The body; `-` reads it from standard input.
    pub(crate) text: String,
    #[arg(long)]
    pub(crate) tag: Option<String>,
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    pub(crate) topic: String,
    /// Leave out the messages that are there already.
    #[arg(long)]
    pub(crate) new: bool,
    /// Tags to look for, like `a || b`.
    #[arg(long, value_name = "EXPRESSION", default_value = "*")]
    pub(crate) tags: String,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print the bodies alone.
    #[arg(long)]
    pub(crate) body: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// RocketMQ's name for the broker, with the flags of its script.
#[derive(Debug, Parser)]
#[command(name = "mqbroker", version, after_help = EXIT_CODES)]
struct MqBroker {
    /// Configuration file.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name servers to register with.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "HOST:PORT[;HOST:PORT]")]
    namesrv: Option<String>,
    #[command(flatten)]
    print: PrintFlags,
}

/// RocketMQ's name for the name server, with the flags of its script.
#[derive(Debug, Parser)]
#[command(name = "mqnamesrv", version, after_help = EXIT_CODES)]
struct MqNamesrv {
    /// Configuration file.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Taken for RocketMQ's sake: name servers do not know each other.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "HOST:PORT", hide = true)]
    namesrv: Option<String>,
    /// Print every configuration item and end.
    #[arg(short = 'p', long = "printConfigItem")]
    print: bool,
}

/// RocketMQ's name for the administration tool.
#[derive(Debug, Parser)]
#[command(name = "mqadmin", version, after_help = EXIT_CODES)]
struct MqAdmin {
    #[command(subcommand)]
    verb: admin::Verb,
}

/// RocketMQ's name for the command that ends servers.
#[derive(Debug, Parser)]
#[command(name = "mqshutdown", version, after_help = EXIT_CODES)]
struct MqShutdown {
    #[command(flatten)]
    args: ShutdownArgs,
}

/// Reads a command line. The first word decides which program's it is.
pub(crate) fn parse(mut args: Vec<OsString>) -> Result<Command, clap::Error> {
    let called = args.first().map(PathBuf::from).unwrap_or_default();
    match called.file_name().and_then(OsStr::to_str) {
        Some("mqbroker") => MqBroker::try_parse_from(args).map(|mq| {
            let broker = BrokerFlags { config: mq.config, ..BrokerFlags::default() };
            Command::Broker(BrokerArgs { broker, namesrv: mq.namesrv, print: mq.print, end_with_input: false })
        }),
        Some("mqnamesrv") => MqNamesrv::try_parse_from(args).map(|mq| {
            let MqNamesrv { config, namesrv, print } = mq;
            Command::Namesrv(NamesrvArgs {
                config,
                namesrv,
                store: None,
                listen: None,
                port: None,
                cpus: None,
                print,
                end_with_input: false,
            })
        }),
        Some("mqadmin") => {
            admin::spell_verb(args.get_mut(1));
            MqAdmin::try_parse_from(args).map(|mq| Command::Admin(mq.verb))
        }
        Some("mqshutdown") => MqShutdown::try_parse_from(args).map(|mq| Command::Shutdown(mq.args)),
        _ => {
            if args.get(1).is_some_and(|command| command == "admin") {
                admin::spell_verb(args.get_mut(2));
            }
            Ringmq::try_parse_from(args).map(|ringmq| ringmq.command)
        }
    }
}

/// A path as a value of the configuration: absolute, so that it means the same wherever it is read.
pub(crate) fn path_text(path: &Path) -> Result<String, String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    absolute.into_os_string().into_string().map_err(|path| format!("{}: it is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_trees_hold_together() {
        Ringmq::command().debug_assert();
        MqBroker::command().debug_assert();
        MqNamesrv::command().debug_assert();
        MqAdmin::command().debug_assert();
        MqShutdown::command().debug_assert();
    }

    #[test]
    fn rocketmqs_names_take_the_flags_of_their_scripts() {
        let Command::Broker(broker) = parsed("/opt/bin/mqbroker -c b.conf -n a:9876;b:9876").unwrap() else {
            panic!("no broker");
        };
        assert_eq!(broker.broker.config.as_deref(), Some(Path::new("b.conf")));
        assert_eq!(broker.namesrv.as_deref(), Some("a:9876;b:9876"));
        let Command::Broker(broker) = parsed("mqbroker -m").unwrap() else { panic!("no broker") };
        assert!(broker.print.important && !broker.print.all);
        let Command::Namesrv(namesrv) = parsed("./mqnamesrv -c n.conf -p").unwrap() else { panic!("no name server") };
        assert!(namesrv.print && namesrv.config.is_some());
        let Command::Shutdown(shutdown) = parsed("mqshutdown namesrv").unwrap() else { panic!("no shutdown") };
        assert_eq!(shutdown.kind, Kind::Namesrv);
        assert!(parsed("mqbroker --enable-proxy").is_err(), "a flag that is not built is not taken");
        assert!(matches!(parsed("mqadmin TOPICLIST -n a:1").unwrap(), Command::Admin(_)));
    }

    #[test]
    fn flags_of_the_servers() {
        let line = "ringmq standalone -c b.conf --store /d --listen 0.0.0.0 --namesrv-port 1 --port 2 --shards 3 --cpus 0,2-3 --flush sync";
        let Command::Standalone(args) = parsed(line).unwrap() else { panic!("not standalone") };
        assert_eq!((args.namesrv_port, args.broker.port, args.broker.shards), (1, Some(2), Some(3)));
        assert_eq!((args.broker.flush, args.broker.cpus.as_deref()), (Some(Flush::Sync), Some("0,2-3")));
        assert!(parsed("ringmq standalone --flush often").is_err());
        assert!(parsed("ringmq standalone --port 70000").is_err());
    }
}
