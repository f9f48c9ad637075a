//! Commands about clusters and brokers.

use std::collections::BTreeMap;

use clap::Args;
use ringmq_client::{Admin, Error};
use ringmq_protocol::code::ResponseCode;

use super::{At, connect, table};
use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::out::{line, print};

#[derive(Debug, Args)]
pub(crate) struct ClusterList {
    /// One cluster only.
    #[arg(short = 'c', long = "clusterName", value_name = "NAME")]
    cluster_name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn list(args: &ClusterList) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let info = admin.cluster_info()?;
    let mut rows = Vec::new();
    for (cluster, names) in &info.cluster_addr_table {
        if args.cluster_name.as_ref().is_some_and(|wanted| wanted != cluster) {
            continue;
        }
        let mut names: Vec<&String> = names.iter().collect();
        names.sort_unstable();
        for name in names {
            let Some(broker) = info.broker_addr_table.get(name) else { continue };
            for (id, address) in &broker.broker_addrs {
                let mut row = vec![cluster.clone(), name.clone(), id.to_string(), address.clone()];
                row.extend(runtime_columns(&admin, address));
                rows.push(row);
            }
        }
    }
    if rows.is_empty() {
        return Err(Failure::refused("no broker is registered"));
    }
    let header = ["#Cluster Name", "#Broker Name", "#BID", "#Addr", "#Version", "#InTPS", "#OutTPS"];
    print(&table(&header, &rows));
    Ok(())
}

/// What the broker says of itself, as far as it does; a broker that does not answer keeps its line.
fn runtime_columns(admin: &Admin, address: &str) -> [String; 3] {
    match admin.broker_runtime_info(address) {
        Ok(info) => {
            let rate = |keys: &[&str]| {
                let text = keys.iter().find_map(|key| info.get(*key));
                let first = text.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
                first.map_or_else(String::new, |rate| format!("{rate:.2}"))
            };
            let version = info.get("brokerVersionDesc").cloned().unwrap_or_default();
            // 4.9 misspells the second.
            [version, rate(&["putTps"]), rate(&["getTransferredTps", "getTransferedTps"])]
        }
        Err(Error::Refused { code: ResponseCode::REQUEST_CODE_NOT_SUPPORTED, .. }) => {
            [String::new(), String::new(), String::new()]
        }
        Err(error) => {
            tracing::warn!(address, %error, "the broker did not say how it is");
            ["unreachable".to_owned(), String::new(), String::new()]
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BrokerStatus {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn status(args: &BrokerStatus) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let brokers = args.at.brokers(&admin)?;
    for address in &brokers {
        let info: BTreeMap<String, String> = admin.broker_runtime_info(address)?;
        for (key, value) in info {
            let of = if brokers.len() > 1 { format!("{address:<24} ") } else { String::new() };
            line(format_args!("{of}{key:<32}: {value}"));
        }
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct GetBrokerConfig {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn config(args: &GetBrokerConfig) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    for address in args.at.brokers(&admin)? {
        line(format_args!("============{address}============"));
        let mut items = admin.broker_config(&address)?;
        items.sort_unstable();
        print(&items.iter().map(|(key, value)| format!("{key:<50}=  {value}\n")).collect::<String>());
    }
    Ok(())
}
