//! The program: one binary, named `ringmq`, that also answers to `mqnamesrv`, `mqbroker`, `mqadmin` and `mqshutdown`.
//!
//! The map: `cli` reads the command line, `run` are the servers, `touch` and `admin` are clients, `config` is the
//! configuration and `config_command` shows it, `shutdown` ends servers. Every failure comes back here, is printed as
//! one sentence on standard error, and becomes the exit code that `cli` lists.

mod admin;
mod cli;
mod config;
mod config_command;
mod failure;
mod log;
mod out;
mod run;
mod shutdown;
mod touch;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use self::cli::{Command, Exit};
use self::failure::Failure;

fn main() -> ExitCode {
    end_on_panic();
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
    let rocketmq_name = called.strip_prefix("mq").map(str::to_owned);
    let command = match cli::parse(args) {
        Ok(command) => command,
        // Help and version are errors to clap, with an exit code of zero.
        Err(error) => error.exit(),
    };
    match run(command, rocketmq_name.as_deref()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command, rocketmq_name: Option<&str>) -> Result<ExitCode, Failure> {
    match command {
        Command::Standalone(args) => run::standalone(&args)?,
        Command::Namesrv(args) => run::namesrv(&args, rocketmq_name)?,
        Command::Broker(args) => run::broker(&args, rocketmq_name)?,
        Command::Shutdown(args) => shutdown::run(&args)?,
        Command::Config(command) => config_command::run(&command)?,
        Command::Send(args) => touch::send(&args)?,
        Command::Tail(args) => touch::tail(&args)?,
        Command::Admin(verb) => admin::run(&verb)?,
        Command::Bench(args) => {
            return ringmq_bench::run(*args).map_err(Failure::from);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A panic is a mistake in this program: whatever thread it is on, the process must not go on with half-changed state.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(i32::from(Exit::Bug as u8));
    }));
}
