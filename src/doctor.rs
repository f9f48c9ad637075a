//! `doctor`: one line a check of everything that a broker with this configuration would meet on this host. It changes
//! nothing.
//!
//! What is checked of the host is `ringmq-tuning`'s; what needs the configuration is in `network` and `growth`.

mod growth;
mod network;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ringmq_broker::settings::Settings;
use ringmq_rt::host;
use ringmq_tuning::advise::{self, Purpose, Verdict, advise};
use ringmq_tuning::check::{self, Check};
use ringmq_tuning::facts::{Facts, Limits, Owner, is_root};
use ringmq_tuning::{Root, diagnose, probe};
use serde_json::json;

use crate::cli::{BrokerFlags, Exit};
use crate::config::settings::BrokerConfig;
use crate::failure::Failure;
use crate::out::line;
use crate::run::{broker, place};
use crate::tune::existing;

/// Check the host and what a broker on it would meet; change nothing.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The broker's configuration file.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store (storePathRootDir).
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The user that the broker runs as.
    #[arg(long, value_name = "USER", default_value = advise::USER)]
    user: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let flags = BrokerFlags { config: args.config.clone(), store: args.store.clone(), ..BrokerFlags::default() };
    let configured = broker::load(&flags, None)?;
    let config = configured.broker();
    let plan = configured.startable().map_err(Failure::config).and_then(|()| {
        // The limit of files is a check of its own.
        broker::plan(&configured, &flags, false, ringmq_tuning::OPEN_FILES)
    });
    let store = config.store_path_root_dir.clone().unwrap_or_else(|| place::home().join("store"));
    let root = Root::host();
    // A store that was named on the command line has to be there.
    let looked_at = if args.store.is_some() { store.clone() } else { existing(&store) };
    let facts = Facts::read(&root, advise::names(), Some(&looked_at))?;
    let running = network::running(&root, config.listen_port);

    let mut checks = vec![diagnose::kernel(&facts), diagnose::ring(host::probe().map_err(|e| e.to_string()))];
    checks.extend(settings(&facts, args, &config));
    checks.extend(limits(&root, &facts, running.as_ref(), &args.user));
    match &plan {
        Ok(plan) => {
            checks.extend(diagnose::cgroup(&facts, buffers(&plan.settings), plan.cores.len()));
        }
        Err(failure) => {
            let mend = "correct it; `ringmq config explain KEY` says what a key means";
            checks.push(Check::wrong(
                "configuration",
                failure.to_string(),
                "one that a broker starts with",
                "it would not start",
                mend,
            ));
        }
    }
    checks.extend(on_disk(&facts, &store, &config));
    checks.extend(diagnose::clock(host::clock_is_synchronised(), &facts));
    if let Ok(plan) = &plan {
        checks.extend(network::address(&plan.told, &plan.settings, running.is_some()));
    }
    checks.extend(network::ports(&root, config.bind_address, config.listen_port, running.as_ref()));
    checks.extend(network::name_servers(&config.namesrv_addrs));
    Ok(say(&checks, args.json))
}

fn settings(facts: &Facts, args: &DoctorArgs, config: &BrokerConfig) -> Vec<Check> {
    let purpose = Purpose { user: args.user.clone(), cpus: config.cpus.clone() };
    let store = config.store_path_root_dir.as_ref().map(|store| format!(" --store {}", store.display()));
    let cpus = config.cpus.as_deref().map(|cpus| format!(" --cpus {}", place::ranges(cpus)));
    let tune = format!("ringmq tune --apply{}{}", store.unwrap_or_default(), cpus.unwrap_or_default());
    let findings = advise(facts, &purpose);
    let known = findings.iter().filter(|finding| finding.verdict != Verdict::Left);
    known.map(|finding| Check::setting(finding, facts, &tune)).collect()
}

/// The limits of the broker that runs, or those that it would get from here.
fn limits(root: &Root, facts: &Facts, running: Option<&Owner>, user: &str) -> Vec<Check> {
    match running {
        Some(broker) => {
            let pid = broker.pid.to_string();
            let whose = format!("of the broker (process {pid})");
            diagnose::limits(&Limits::of(root, &pid), &whose, is_root(root, &pid), user)
        }
        None => diagnose::limits(&facts.limits, "of this process", facts.is_root, user),
    }
}

/// Bytes of the broker's buffers.
fn buffers(settings: &Settings) -> u64 {
    let shard = &settings.shard;
    let each = shard.unwritten_max.saturating_add(shard.tail_cache_bytes).saturating_add(shard.cold_cache_bytes);
    each.saturating_mul(u64::from(settings.log_shards.unwrap_or(settings.default_log_shards)))
}

fn on_disk(facts: &Facts, store: &Path, config: &BrokerConfig) -> Vec<Check> {
    let Some(found) = &facts.store else { return Vec::new() };
    let mut checks = diagnose::store(found, probe::direct_io(&found.found));
    let full = f64::from(config.disk_space_warning_level_percent) / 100.0;
    checks.push(match probe::space(&found.found) {
        Ok(space) => diagnose::space(space, full, growth::of_store(store)),
        Err(error) => Check::unknown("free space", error.to_string()),
    });
    checks
}

fn say(checks: &[Check], as_json: bool) -> ExitCode {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let wrong = count(check::Verdict::Wrong);
    if as_json {
        line(json!({ "wrong": wrong, "checks": checks }));
    } else {
        checks.iter().for_each(line);
        let fine = count(check::Verdict::Fine);
        line(format_args!("{} checks: {fine} fine, {wrong} wrong", checks.len()));
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) }
}
