//! `config explain` and `config show`, and the items that RocketMQ's scripts print with `-p` and `-m`.

use crate::cli::{ConfigCommand, ConfigOf};
use crate::config::explain;
use crate::config::load;
use crate::config::settings::Settings;
use crate::failure::Failure;
use crate::out::print;

/// What `-m` prints, of the keys that are in force.
const IMPORTANT: [&str; 11] = [
    "namesrvAddr",
    "brokerIP1",
    "brokerName",
    "brokerClusterName",
    "brokerId",
    "autoCreateTopicEnable",
    "traceTopicEnable",
    "listenPort",
    "storePathRootDir",
    "brokerRole",
    "flushDiskType",
];

pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Explain { key, of } => {
            let page = explain::explain(&settings(of)?, key).map_err(Failure::usage)?;
            print(&page);
        }
        ConfigCommand::Sample { program } => print(explain::sample((*program).into()).trim_start()),
        ConfigCommand::Show { of } => {
            let settings = settings(of)?;
            print(&explain::listing(&settings));
            let notices = settings.notices().iter().map(ToString::to_string);
            for line in notices.chain(settings.not_in_force()) {
                eprintln!("{line}");
            }
            settings.startable().map_err(Failure::config)?;
        }
    }
    Ok(())
}

fn settings(of: &ConfigOf) -> Result<Settings, Failure> {
    load::from_host(of.program.into(), of.config.as_deref(), Vec::new())
        .map_err(|error| Failure::config(format!("{error:#}")))
}

/// `key=value`, one a line.
pub(crate) fn print_items(settings: &Settings, all: bool) {
    let chosen = settings.iter().filter(|setting| all || IMPORTANT.contains(&setting.key.name));
    let lines: String = chosen.map(|setting| format!("{}={}\n", setting.key.name, setting.text)).collect();
    print(&lines);
}
