//! Commands about consumer and producer groups.

use clap::{ArgAction, Args};
use ringmq_client::admin::SubscriptionGroupConfig;
use ringmq_protocol::body::Connection;
use ringmq_protocol::code::version;
use ringmq_protocol::names::{dlq_topic, retry_topic};

use super::{At, connect, table};
use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::out::{line, print};

#[derive(Debug, Args)]
pub(crate) struct ConsumerConnection {
    #[arg(short = 'g', long = "consumerGroup")]
    group: String,
    /// Broker to ask, by its address.
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT")]
    broker: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn consumers(args: &ConsumerConnection) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let brokers = match &args.broker {
        Some(broker) => vec![broker.clone()],
        // Members of a group are connected to every broker of its topics.
        None => match admin.topic_route(&retry_topic(&args.group))? {
            Some(route) => route.masters().map(|(_, address)| address.to_owned()).collect(),
            None => Vec::new(),
        },
    };
    for address in brokers {
        let Some(found) = admin.consumer_connection(&address, &args.group)? else { continue };
        print(&connections(&found.connection_set));
        line("\nBelow is subscription:");
        let rows: Vec<Vec<String>> = found
            .subscription_table
            .iter()
            .map(|(topic, subscription)| vec![topic.clone(), subscription.sub_string.clone()])
            .collect();
        print(&table(&["#Topic", "#SubExpression"], &rows));
        line(format_args!("\nConsumeType: {}", found.consume_type.name()));
        line(format_args!("MessageModel: {}", found.message_model.name()));
        line(format_args!("ConsumeFromWhere: {}", found.consume_from_where.name()));
        return Ok(());
    }
    Err(Failure::refused(format!("the consumer group[{}] not online", args.group)))
}

fn connections(connections: &[Connection]) -> String {
    let rows: Vec<Vec<String>> = connections
        .iter()
        .map(|one| {
            let language = one.language.wire_name().to_owned();
            vec![one.client_id.clone(), one.client_addr.clone(), language, version::describe(one.version)]
        })
        .collect();
    table(&["#ClientId", "#ClientAddr", "#Language", "#Version"], &rows)
}

#[derive(Debug, Args)]
pub(crate) struct ProducerConnection {
    #[arg(short = 'g', long = "producerGroup")]
    group: String,
    /// A topic that the group sends to.
    #[arg(short = 't', long = "topic")]
    topic: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn producers(args: &ProducerConnection) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let route = admin.topic_route(&args.topic)?;
    let brokers: Vec<String> =
        route.iter().flat_map(ringmq_client::Route::masters).map(|(_, at)| at.to_owned()).collect();
    for address in brokers {
        if let Some(found) = admin.producer_connection(&address, &args.group)? {
            print(&connections(&found.connection_set));
            return Ok(());
        }
    }
    Err(Failure::refused(format!("the producer group[{}] not exist", args.group)))
}

#[derive(Debug, Args)]
pub(crate) struct UpdateSubGroup {
    #[command(flatten)]
    at: At,
    #[arg(short = 'g', long = "groupName")]
    group: String,
    /// Whether the group may consume.
    #[arg(short = 's', long = "consumeEnable", action = ArgAction::Set)]
    consume: Option<bool>,
    /// Whether it may start at the first message.
    #[arg(short = 'm', long = "consumeFromMinEnable", action = ArgAction::Set)]
    from_min: Option<bool>,
    /// Whether each member may get every message.
    #[arg(short = 'd', long = "consumeBroadcastEnable", action = ArgAction::Set)]
    broadcast: Option<bool>,
    /// Whether its messages are consumed in order.
    #[arg(short = 'o', long = "consumeMessageOrderly", action = ArgAction::Set)]
    orderly: Option<bool>,
    /// Queues of its retry topic.
    #[arg(short = 'q', long = "retryQueueNums", value_name = "N")]
    retry_queues: Option<i32>,
    /// Retries of a message until it is given up.
    #[arg(short = 'r', long = "retryMaxTimes", value_name = "N")]
    retries: Option<i32>,
    /// Broker to consume from.
    #[arg(short = 'i', long = "brokerId", value_name = "ID")]
    broker_id: Option<i64>,
    /// Broker to consume from when that one is slow.
    #[arg(short = 'w', long = "whichBrokerWhenConsumeSlowly", value_name = "ID")]
    when_slow: Option<i64>,
    /// Whether members are told when others come and go.
    #[arg(short = 'a', long = "notifyConsumerIdsChanged", action = ArgAction::Set)]
    notify: Option<bool>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn update(args: &UpdateSubGroup) -> Result<(), Failure> {
    let mut config = SubscriptionGroupConfig::new(&args.group);
    // RocketMQ's tool starts from these, not from a group's own defaults.
    config.consume_broadcast_enable = args.broadcast.unwrap_or(false);
    config.consume_from_min_enable = args.from_min.unwrap_or(false);
    config.consume_enable = args.consume.unwrap_or(config.consume_enable);
    config.consume_message_orderly = args.orderly.unwrap_or(config.consume_message_orderly);
    config.retry_queue_nums = args.retry_queues.unwrap_or(config.retry_queue_nums);
    config.retry_max_times = args.retries.unwrap_or(config.retry_max_times);
    config.broker_id = args.broker_id.unwrap_or(config.broker_id);
    config.which_broker_when_consume_slowly = args.when_slow.unwrap_or(config.which_broker_when_consume_slowly);
    config.notify_consumer_ids_changed_enable = args.notify.unwrap_or(config.notify_consumer_ids_changed_enable);
    let admin = connect(&args.cluster)?;
    for address in args.at.brokers(&admin)? {
        admin.create_group(&address, &config)?;
        line(format_args!("create subscription group to {address} success."));
    }
    line(String::from_utf8_lossy(&config.to_vec()));
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct DeleteSubGroup {
    #[command(flatten)]
    at: At,
    #[arg(short = 'g', long = "groupName")]
    group: String,
    /// Whether its consume offsets are deleted as well.
    #[arg(short = 'r', long = "removeOffset", action = ArgAction::Set, default_value_t = false)]
    offsets: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn delete(args: &DeleteSubGroup) -> Result<(), Failure> {
    let admin = connect(&args.cluster)?;
    let group = &args.group;
    for address in args.at.brokers(&admin)? {
        admin.delete_group(&address, group, args.offsets)?;
        line(format_args!("delete subscription group [{group}] from broker [{address}] success."));
    }
    if let Some(cluster) = &args.at.cluster {
        for topic in [retry_topic(group), dlq_topic(group)] {
            admin.delete_topic_in_cluster(Some(cluster), &topic)?;
            line(format_args!("delete topic [{topic}] from cluster [{cluster}] success."));
        }
    }
    Ok(())
}
