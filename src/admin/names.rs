//! Commands about name servers.

use clap::Args;

use super::connect;
use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::out::{line, print};

#[derive(Debug, Args)]
pub(crate) struct UpdateKvConfig {
    #[arg(short = 's', long = "namespace")]
    namespace: String,
    #[arg(short = 'k', long = "key")]
    key: String,
    #[arg(short = 'v', long = "value")]
    value: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn put(args: &UpdateKvConfig) -> Result<(), Failure> {
    connect(&args.cluster)?.put_kv_config(&args.namespace, &args.key, &args.value)?;
    line("create or update kv config to namespace success.");
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct DeleteKvConfig {
    #[arg(short = 's', long = "namespace")]
    namespace: String,
    #[arg(short = 'k', long = "key")]
    key: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn delete(args: &DeleteKvConfig) -> Result<(), Failure> {
    connect(&args.cluster)?.delete_kv_config(&args.namespace, &args.key)?;
    line("delete kv config from namespace success.");
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct WritePerm {
    /// Broker, by its name.
    #[arg(short = 'b', long = "brokerName")]
    broker: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn wipe_write_perm(args: &WritePerm) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    for server in admin.names().addrs() {
        let topics = admin.wipe_write_perm(server, &args.broker)?;
        line(format_args!("wipe write perm of broker[{}] in name server[{server}] OK, {topics}", args.broker));
    }
    Ok(())
}

pub(crate) fn add_write_perm(args: &WritePerm) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    for server in admin.names().addrs() {
        let topics = admin.add_write_perm(server, &args.broker)?;
        line(format_args!("add write perm of broker[{}] in name server[{server}] OK, {topics}", args.broker));
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct GetNamesrvConfig {
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn config(args: &GetNamesrvConfig) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    for server in admin.names().addrs() {
        line(format_args!("============{server}============"));
        let items = admin.names_config(server)?;
        print(&items.iter().map(|(key, value)| format!("{key:<50}=  {value}\n")).collect::<String>());
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct UpdateNamesrvConfig {
    #[arg(short = 'k', long = "key")]
    key: String,
    #[arg(short = 'v', long = "value")]
    value: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn update_config(args: &UpdateNamesrvConfig) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    admin.update_names_config(&[(&args.key, &args.value)])?;
    let servers = admin.names().addrs().join(";");
    line(format_args!("update name server config success! {servers} {} : {}", args.key, args.value));
    Ok(())
}
