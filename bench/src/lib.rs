//! Load generator for brokers of the RocketMQ protocol: `ringmq bench`.
//!
//! The map: [`options`] is the command line, completed by a `workload` file. `target` finds brokers, topics and offsets
//! through `ringmq-client`. `send` and `consume` are the two loads; `duo` does both at once (`e2e`, `mixed`), and
//! `backlog`, `topics`, `find_max`, `transactions` and `timers` are made of them; `offsets` sends commits. A `crew` of threads runs a `lane` each, which sends and reads
//! over its `link`s at the pace of `pace` and `schedule`, messages that `shape` has made. What lanes count goes to
//! `tally`, `series` and `audit` and comes out in `report`. `wire` and `reply` are the few bytes of the protocol that
//! must be fast here; everything else of the protocol is the client's.
//!
//! A load thread shares nothing while it runs, and every run is audited: a fast run that lost or doubled a message
//! fails.

mod audit;
mod backlog;
mod compare;
mod consume;
mod crew;
mod duo;
mod encoded;
mod find_max;
mod flush;
mod host;
mod lane;
mod link;
mod offsets;
pub mod options;
mod pace;
mod page;
mod random;
mod repeat;
mod reply;
mod report;
mod schedule;
mod send;
mod series;
mod shape;
mod tally;
mod target;
mod timers;
mod topics;
mod transactions;
mod watch;
mod wire;
mod workload;

use std::process::ExitCode;

pub use self::compare::CompareArgs;
pub use self::flush::FlushArgs;
use crate::options::{Command, Settled as _};

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 something was lost, doubled, disordered, refused or broken off, 2 wrong usage, \
     3 nobody answered, 5 the generator could not keep up and the figures are its own";

/// The arguments of `ringmq bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    pub command: options::Command,
}

/// Runs one load and prints its report. The exit code is a failure when a message was lost, doubled or refused, and 5
/// when the generator could not keep up.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    run_command(args.command)
}

fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Flush(args) => flush::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Send(args) => send::run(args.settle()?),
        Command::Consume(args) => consume::run(args.settle()?),
        Command::E2e(args) => duo::run_e2e(args.settle()?),
        Command::Mixed(args) => duo::run_mixed(args.settle()?),
        Command::Backlog(args) => backlog::run(args.settle()?),
        Command::Topics(args) => topics::run(args.settle()?),
        Command::FindMax(args) => find_max::run(&args.settle()?),
        Command::Transactions(args) => transactions::run(args.settle()?),
        Command::Timers(args) => timers::run(args.settle()?),
        Command::Offsets(args) => offsets::run(args.settle()?),
        Command::Repeat(args) => run_command(repeat::command(&args)?),
        Command::Watch(args) => watch::run(&args),
    }
}
