//! Runs the load generator on its own, as `ringmq bench` does from the main program.

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Load generator for brokers of the RocketMQ protocol")]
struct Cli {
    #[command(flatten)]
    args: ringmq_bench::Args,
}

fn main() -> anyhow::Result<ExitCode> {
    ringmq_bench::run(Cli::parse().args)
}
