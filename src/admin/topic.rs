//! Commands about topics.

use clap::{ArgAction, Args};
use ringmq_client::admin::ClusterInfo;
use ringmq_client::{Admin, TopicConfig};
use ringmq_protocol::names::ORDER_TOPIC_CONFIG;
use ringmq_protocol::properties::{perm, topic_flag};

use super::{At, connect, masters, table};
use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::out::{line, print};

#[derive(Debug, Args)]
pub(crate) struct UpdateTopic {
    #[command(flatten)]
    at: At,
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Queues that can be read.
    #[arg(short = 'r', long = "readQueueNums", value_name = "N", default_value_t = 8)]
    read_queues: i32,
    /// Queues that can be written.
    #[arg(short = 'w', long = "writeQueueNums", value_name = "N", default_value_t = 8)]
    write_queues: i32,
    /// 2 write, 4 read, 6 both.
    #[arg(short = 'p', long = "perm", default_value_t = 6)]
    perm: i32,
    /// Whether its queues keep their order when a broker is away.
    #[arg(short = 'o', long = "order", action = ArgAction::Set, default_value_t = false)]
    order: bool,
    /// Whether it belongs to a unit.
    #[arg(short = 'u', long = "unit", action = ArgAction::Set, default_value_t = false)]
    unit: bool,
    /// Whether it has subscriptions of units.
    #[arg(short = 's', long = "hasUnitSub", action = ArgAction::Set, default_value_t = false)]
    has_unit_sub: bool,
    /// Attributes to add: +key=value,+key=value.
    #[arg(short = 'a', long = "attributes", value_name = "LIST")]
    attributes: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn update(args: &UpdateTopic) -> Result<(), Failure> {
    let config = topic_config(args)?;
    let admin = connect(&args.cluster)?;
    let mut told = Vec::new();
    for address in args.at.brokers(&admin)? {
        admin.create_topic(&address, &config)?;
        line(format_args!("create topic to {address} success."));
        told.push(address);
    }
    if args.order {
        let order = order_conf(&admin, args, &told)?;
        line(format_args!("set cluster orderConf. isOrder=true, orderConf=[{order}]"));
    }
    line(describe(&config));
    Ok(())
}

fn topic_config(args: &UpdateTopic) -> Result<TopicConfig, Failure> {
    let mut config = TopicConfig::new(&args.topic, args.read_queues, args.write_queues, args.perm);
    config.order = args.order;
    config.topic_sys_flag = if args.unit { topic_flag::UNIT } else { 0 };
    config.topic_sys_flag |= if args.has_unit_sub { topic_flag::UNIT_SUB } else { 0 };
    for change in args.attributes.as_deref().unwrap_or_default().split(',').filter(|change| !change.is_empty()) {
        let pair = change.strip_prefix('+').and_then(|pair| pair.split_once('='));
        let (key, value) = pair.ok_or_else(|| Failure::usage(format!("attribute `{change}`: it takes +key=value")))?;
        config.attributes.insert(key.to_owned(), value.to_owned());
    }
    Ok(config)
}

/// Tells the name servers in which order the queues are, as `broker:queues;broker:queues`. One broker's entry joins
/// those of the others; a whole cluster replaces them.
fn order_conf(admin: &Admin, args: &UpdateTopic, told: &[String]) -> Result<String, Failure> {
    let info = admin.cluster_info()?;
    let mut entries: Vec<String> = Vec::new();
    if args.at.broker.is_some() {
        let known = admin.kv_config(ORDER_TOPIC_CONFIG, &args.topic)?.unwrap_or_default();
        entries.extend(known.split(';').filter(|entry| !entry.is_empty()).map(str::to_owned));
    }
    for address in told {
        let name = broker_name(&info, address)
            .ok_or_else(|| Failure::refused(format!("the name servers know no broker at {address}")))?;
        entries.retain(|entry| entry.split(':').next() != Some(name));
        entries.push(format!("{name}:{}", args.write_queues));
    }
    let order = entries.join(";");
    admin.put_kv_config(ORDER_TOPIC_CONFIG, &args.topic, &order)?;
    Ok(order)
}

fn broker_name<'a>(info: &'a ClusterInfo, address: &str) -> Option<&'a str> {
    let mut brokers = info.broker_addr_table.iter();
    brokers
        .find(|(_, broker)| broker.broker_addrs.values().any(|known| known == address))
        .map(|(name, _)| name.as_str())
}

/// As Java prints it.
fn describe(config: &TopicConfig) -> String {
    let letter = |bit: i32, letter: char| if config.perm & bit != 0 { letter } else { '-' };
    let perm: String = [letter(perm::READ, 'R'), letter(perm::WRITE, 'W'), letter(perm::INHERIT, 'X')].iter().collect();
    let pairs: Vec<String> = config.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={perm}, topicFilterType={}, \
         topicSysFlag={}, order={}, attributes={{{}}}]",
        config.topic_name,
        config.read_queue_nums,
        config.write_queue_nums,
        config.topic_filter_type.name(),
        config.topic_sys_flag,
        config.order,
        pairs.join(", ")
    )
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTopic {
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Cluster, by its name.
    #[arg(short = 'c', long = "clusterName", value_name = "NAME")]
    cluster_name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn delete(args: &DeleteTopic) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let DeleteTopic { topic, cluster_name, .. } = args;
    // A cluster that does not exist is no success.
    masters(&admin.cluster_info()?, cluster_name)?;
    admin.delete_topic_in_cluster(Some(cluster_name), topic)?;
    line(format_args!("delete topic [{topic}] from cluster [{cluster_name}] success."));
    if admin.kv_config(ORDER_TOPIC_CONFIG, topic)?.is_some() {
        admin.delete_kv_config(ORDER_TOPIC_CONFIG, topic)?;
    }
    line(format_args!("delete topic [{topic}] from NameServer success."));
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct TopicList {
    /// Name the cluster and the consumer groups of each.
    #[arg(short = 'c', long = "clusterModel")]
    with_clusters: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn list(args: &TopicList) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    if args.with_clusters {
        return Err(Failure::refused("topicList -c is not built yet; without -c it lists the topics"));
    }
    let mut topics = admin.topics()?;
    topics.sort_unstable();
    print(&topics.iter().map(|topic| format!("{topic}\n")).collect::<String>());
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct TopicRoute {
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// As a table.
    #[arg(short = 'l', long = "list")]
    table: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn route(args: &TopicRoute) -> Result<(), Failure> {
    let route = route_of(&connect(&args.cluster)?, &args.topic)?;
    if !args.table {
        let json: serde_json::Value = serde_json::from_slice(&route.data.to_vec())
            .map_err(|error| Failure::refused(format!("the route cannot be printed: {error}")))?;
        line(format_args!("{json:#}"));
        return Ok(());
    }
    let (mut read, mut write) = (0, 0);
    let mut rows = Vec::new();
    for queues in &route.data.queue_datas {
        let broker = route.data.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
        let addresses = broker.map(|broker| broker.broker_addrs.values().cloned().collect::<Vec<_>>().join(","));
        (read, write) = (read + queues.read_queue_nums, write + queues.write_queue_nums);
        rows.push(vec![
            broker.map(|broker| broker.cluster.clone()).unwrap_or_default(),
            queues.broker_name.clone(),
            addresses.unwrap_or_default(),
            queues.read_queue_nums.to_string(),
            queues.write_queue_nums.to_string(),
            queues.perm.to_string(),
        ]);
    }
    let total = ["Total:", "", "", &read.to_string(), &write.to_string(), ""].map(str::to_owned);
    rows.push(total.to_vec());
    print(&table(&["#ClusterName", "#BrokerName", "#BrokerAddrs", "#ReadQueue", "#WriteQueue", "#Perm"], &rows));
    Ok(())
}

fn route_of(admin: &Admin, topic: &str) -> Result<std::sync::Arc<ringmq_client::Route>, Failure> {
    let route = admin.topic_route(topic)?;
    route
        .map(std::sync::Arc::new)
        .ok_or_else(|| Failure::refused(format!("No topic route info in name server for the topic: {topic}")))
}

#[derive(Debug, Args)]
pub(crate) struct TopicStatus {
    #[arg(short = 't', long = "topic")]
    topic: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn status(args: &TopicStatus) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let route = route_of(&admin, &args.topic)?;
    let mut rows = Vec::new();
    for (_, address) in route.masters() {
        let stats = admin.topic_stats(address, &args.topic)?;
        for (queue, offset) in &stats.offset_table {
            rows.push(vec![
                queue.broker_name.clone(),
                queue.queue_id.to_string(),
                offset.min_offset.to_string(),
                offset.max_offset.to_string(),
                offset.last_update_timestamp.to_string(),
            ]);
        }
    }
    print(&table(&["#Broker Name", "#QID", "#Min Offset", "#Max Offset", "#Last Updated (ms)"], &rows));
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct TopicClusterList {
    #[arg(short = 't', long = "topic")]
    topic: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn clusters(args: &TopicClusterList) -> Result<(), Failure> {
    let route = route_of(&connect(&args.cluster)?, &args.topic)?;
    let mut names: Vec<&str> = route.data.broker_datas.iter().map(|broker| broker.cluster.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_described_as_java_does() {
        let mut config = TopicConfig::new("t", 8, 4, 6);
        config.attributes.insert("message.type".to_owned(), "FIFO".to_owned());
        assert_eq!(
            describe(&config),
            "TopicConfig [topicName=t, readQueueNums=8, writeQueueNums=4, perm=RW-, topicFilterType=SINGLE_TAG, \
             topicSysFlag=0, order=false, attributes={message.type=FIFO}]"
        );
    }
}
