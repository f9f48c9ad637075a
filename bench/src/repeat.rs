//! `bench repeat`: runs again what a report says was run.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::options::{Command, RepeatArgs};

/// The part of a report that says how it came about.
#[derive(Debug, Deserialize)]
struct Recorded {
    run: Option<Command>,
}

/// The command of a report, its result to be written where `args` says.
pub(crate) fn command(args: &RepeatArgs) -> anyhow::Result<Command> {
    let mut command = read(&args.report)?;
    let json = match &mut command {
        Command::Send(args) => &mut args.load.json,
        Command::Consume(args) => &mut args.load.json,
        Command::E2e(args) => &mut args.send.load.json,
        Command::Mixed(args) => &mut args.send.load.json,
        Command::Backlog(args) => &mut args.send.load.json,
        Command::Topics(args) => &mut args.send.load.json,
        Command::FindMax(args) => &mut args.send.load.json,
        Command::Transactions(args) => &mut args.send.load.json,
        Command::Timers(args) => &mut args.send.load.json,
        Command::Offsets(args) => &mut args.load.json,
        Command::Flush(_) | Command::Compare(_) | Command::Repeat(_) | Command::Watch(_) => {
            bail!("{} records no load", args.report.display())
        }
    };
    json.clone_from(&args.json);
    Ok(command)
}

fn read(path: &Path) -> anyhow::Result<Command> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let recorded: Recorded = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no report of `ringmq bench --json` that can be repeated", path.display()))?;
    recorded.run.with_context(|| format!("{} does not record how it was run", path.display()))
}
