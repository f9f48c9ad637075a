//! `admin` and `mqadmin`: the commands of RocketMQ's tool, with its letters and its words, on `ringmq-client`.
//!
//! The pieces: `topic`, `group`, `cluster` and `names` hold the commands about these. A command of RocketMQ's that is
//! not here says so. Unlike RocketMQ's tool, a command that fails ends with an exit code that says it.

mod cluster;
mod group;
mod names;
mod topic;

use std::ffi::OsString;

use clap::{Args, Subcommand};
use ringmq_client::admin::{ClusterInfo, cluster_masters};
use ringmq_client::{Admin, NameServers, Options, Remoting};

use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::log;

const LOG: &str = "warn";

#[derive(Debug, Subcommand)]
#[command(rename_all = "camelCase")]
pub(crate) enum Verb {
    /// Create or change a topic.
    UpdateTopic(topic::UpdateTopic),
    /// Delete a topic from a cluster and from the name servers.
    DeleteTopic(topic::DeleteTopic),
    /// List topics.
    TopicList(topic::TopicList),
    /// Show where a topic is.
    TopicRoute(topic::TopicRoute),
    /// Show the offsets of a topic's queues.
    TopicStatus(topic::TopicStatus),
    /// List the clusters that have a topic.
    TopicClusterList(topic::TopicClusterList),
    /// List clusters and brokers.
    ClusterList(cluster::ClusterList),
    /// Show what brokers say of themselves.
    BrokerStatus(cluster::BrokerStatus),
    /// Show the configuration of brokers.
    GetBrokerConfig(cluster::GetBrokerConfig),
    /// Show who consumes as a group.
    ConsumerConnection(group::ConsumerConnection),
    /// Show who produces as a group.
    ProducerConnection(group::ProducerConnection),
    /// Create or change a consumer group.
    UpdateSubGroup(group::UpdateSubGroup),
    /// Delete a consumer group.
    DeleteSubGroup(group::DeleteSubGroup),
    /// Put an entry of the name servers' KV configuration.
    UpdateKvConfig(names::UpdateKvConfig),
    /// Delete an entry of the name servers' KV configuration.
    DeleteKvConfig(names::DeleteKvConfig),
    /// Let clients stop sending to a broker.
    WipeWritePerm(names::WritePerm),
    /// Let clients send to a broker again.
    AddWritePerm(names::WritePerm),
    /// Show the configuration of the name servers.
    GetNamesrvConfig(names::GetNamesrvConfig),
    /// Change the configuration of the name servers.
    UpdateNamesrvConfig(names::UpdateNamesrvConfig),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// One broker, or all masters of a cluster.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct At {
    /// Broker, by its address.
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Cluster, by its name.
    #[arg(short = 'c', long = "clusterName", value_name = "NAME")]
    cluster: Option<String>,
}

impl At {
    /// The addresses of the brokers.
    fn brokers(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        match (&self.broker, &self.cluster) {
            (Some(broker), _) => Ok(vec![broker.clone()]),
            (None, cluster) => {
                let cluster = cluster.as_deref().unwrap_or_default();
                let masters = masters(&admin.cluster_info()?, cluster)?;
                Ok(masters.into_iter().map(|(_, address)| address).collect())
            }
        }
    }
}

/// The masters of a cluster: name and address.
fn masters(info: &ClusterInfo, cluster: &str) -> Result<Vec<(String, String)>, Failure> {
    let Some(names) = info.cluster_addr_table.get(cluster) else {
        return Err(Failure::refused(format!("no cluster has the name {cluster}")));
    };
    let of_cluster = cluster_masters(info).filter(|(name, _)| names.iter().any(|known| known == name));
    Ok(of_cluster.map(|(name, address)| (name.to_owned(), address.to_owned())).collect())
}

fn connect(cluster: &ClusterArgs) -> Result<Admin, Failure> {
    Ok(Admin::new(Remoting::new(Options::default()), NameServers::new(&cluster.namesrv)?))
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    log::init(LOG)?;
    match verb {
        Verb::UpdateTopic(args) => topic::update(args),
        Verb::DeleteTopic(args) => topic::delete(args),
        Verb::TopicList(args) => topic::list(args),
        Verb::TopicRoute(args) => topic::route(args),
        Verb::TopicStatus(args) => topic::status(args),
        Verb::TopicClusterList(args) => topic::clusters(args),
        Verb::ClusterList(args) => cluster::list(args),
        Verb::BrokerStatus(args) => cluster::status(args),
        Verb::GetBrokerConfig(args) => cluster::config(args),
        Verb::ConsumerConnection(args) => group::consumers(args),
        Verb::ProducerConnection(args) => group::producers(args),
        Verb::UpdateSubGroup(args) => group::update(args),
        Verb::DeleteSubGroup(args) => group::delete(args),
        Verb::UpdateKvConfig(args) => names::put(args),
        Verb::DeleteKvConfig(args) => names::delete(args),
        Verb::WipeWritePerm(args) => names::wipe_write_perm(args),
        Verb::AddWritePerm(args) => names::add_write_perm(args),
        Verb::GetNamesrvConfig(args) => names::config(args),
        Verb::UpdateNamesrvConfig(args) => names::update_config(args),
        Verb::Other(words) => Err(not_here(words)),
    }
}

/// Commands of RocketMQ's tool that this program does not have.
const NOT_BUILT: [&str; 52] = [
    "updateTopicList",
    "updateTopicPerm",
    "updateOrderConf",
    "allocateMQ",
    "updateStaticTopic",
    "remappingStaticTopic",
    "cleanUnusedTopic",
    "updateSubGroupList",
    "setConsumeMode",
    "getConsumerConfig",
    "consumerProgress",
    "consumerStatus",
    "getConsumerStatus",
    "brokerConsumeStats",
    "cloneGroupOffset",
    "resetOffsetByTime",
    "skipAccumulatedMessage",
    "startMonitoring",
    "queryMsgById",
    "queryMsgByKey",
    "queryMsgByUniqueKey",
    "queryMsgByOffset",
    "queryMsgTraceById",
    "printMsg",
    "printMsgByQueue",
    "sendMessage",
    "consumeMessage",
    "sendMsgStatus",
    "checkMsgSendRT",
    "clusterRT",
    "queryCq",
    "statsAll",
    "updateBrokerConfig",
    "cleanExpiredCQ",
    "deleteExpiredCommitLog",
    "producer",
    "addBroker",
    "removeBroker",
    "resetMasterFlushOffset",
    "haStatus",
    "exportMetadata",
    "exportConfigs",
    "exportMetrics",
    "updateAclConfig",
    "deleteAclConfig",
    "clusterAclConfigVersion",
    "updateGlobalWhiteAddr",
    "createUser",
    "listUser",
    "createAcl",
    "listAcl",
    "electMaster",
];

fn not_here(words: &[OsString]) -> Failure {
    let verb = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    if NOT_BUILT.iter().any(|known| known.eq_ignore_ascii_case(&verb)) {
        Failure::refused(format!("{verb} is not built yet; RocketMQ's own mqadmin can be used with this cluster"))
    } else {
        Failure::usage(format!("The sub command {verb} not exist."))
    }
}

/// RocketMQ's tool does not look at the case of a command's name.
pub(crate) fn spell_verb(word: Option<&mut OsString>) {
    use clap::CommandFactory;
    let Some(word) = word else { return };
    let verbs = Names::command();
    let spelt = verbs.get_subcommands().map(clap::Command::get_name);
    if let Some(name) = spelt.into_iter().find(|name| word.eq_ignore_ascii_case(name)) {
        *word = name.into();
    }
}

/// Only to list the names.
#[derive(Debug, clap::Parser)]
struct Names {
    #[command(subcommand)]
    _verb: Verb,
}

/// Columns under a header, as RocketMQ's tool sets them: left-aligned, two blanks apart, whole names.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(header.get(column).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head = line(&mut header.iter().copied());
    rows.iter().fold(head, |text, row| text + &line(&mut row.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["#Name", "#QID"], &rows), "#Name   #QID\na       1\nlonger  2\n");
    }

    #[test]
    fn what_is_not_here_says_so() {
        let said = |word: &str| not_here(&[word.into()]).to_string();
        assert!(said("consumerprogress").contains("not built yet"));
        assert_eq!(said("makeCoffee"), "The sub command makeCoffee not exist.");
    }

    #[test]
    fn no_command_is_both_here_and_not_built() {
        for name in NOT_BUILT {
            let mut word = OsString::from(name.to_lowercase());
            spell_verb(Some(&mut word));
            assert_eq!(word, *name.to_lowercase(), "{name} is a command here");
        }
        let mut word = OsString::from("TOPICLIST");
        spell_verb(Some(&mut word));
        assert_eq!(word, "topicList");
    }
}
