//! Load generator for brokers of the RocketMQ protocol: `ringmq bench`.
//!
//! The map: [`options`] is the command line, `target` finds brokers and topic through `ringmq-client`, `send` and
//! `pull` are the two loads, each with a `lane` that one thread runs over its `link`s at the pace of `pace` and
//! `schedule`. What they count goes to `tally` and `audit` and comes out in `report`. `wire` and `reply` are the few
//! bytes of the protocol that must be fast here; everything else of the protocol is the client's.
//!
//! A load thread shares nothing while it runs, and every run is audited: a fast run that lost or doubled a message
//! fails.

mod audit;
mod compare;
mod encoded;
mod flush;
mod host;
mod link;
pub mod options;
mod pace;
mod page;
mod pull;
mod reply;
mod report;
mod schedule;
mod send;
mod series;
mod tally;
mod target;
mod watch;
mod wire;

use std::process::ExitCode;

pub use self::compare::CompareArgs;
pub use self::flush::FlushArgs;

/// The arguments of `ringmq bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: options::Command,
}

/// Runs one load and prints its report. The exit code is a failure when a message was lost, doubled or refused.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        options::Command::Flush(args) => flush::run(&args),
        options::Command::Compare(args) => compare::run(&args),
        options::Command::Send(args) => send::run(&args),
        options::Command::Pull(args) => pull::run(&args),
        options::Command::Watch(args) => watch::run(&args),
    }
}
