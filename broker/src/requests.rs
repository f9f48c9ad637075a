//! What clients and administrators ask of the control shard: heartbeats, consumer lists, locks, offsets, topics, groups.
//! Each handler reads its header and body, asks the tables, has the changes carried out, and answers.

mod client_call;
pub mod config;
mod consume;
mod later;
pub mod queue;
mod reply;
mod reset;

use std::borrow::Cow;
use std::rc::Rc;

use ringmq_protocol::body::{
    CheckClientConfig, ConsumerIdList, HeartbeatData, LockBatchRequest, LockBatchResponse, MessageQueue,
    SubscriptionGroupConfig, TopicConfig, TopicList, TopicOffset, TopicStatsTable,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{ExtWriter, HeaderError, HeaderView};
use ringmq_protocol::filter::{TagFilter, is_tag_type};
use ringmq_protocol::header::{
    ConsumerGroup, CreateTopic, DeleteSubscriptionGroup, Group, ProducerGroup, QueryConsumerOffset, Topic,
    UnregisterClient, UpdateConsumerOffset,
};
use ringmq_protocol::json::JsonError;
use ringmq_rt::{now, step, wall_ms};

use crate::control::{Changes, Moment};
use crate::control_shard::ControlShard;
use crate::filter;
use crate::limits::TOPIC_QUEUES_MAX;
use crate::look::{Question, look};
use crate::mail::{Answer, Ask, ControlJob, QueueEnds, Told};
use crate::member::{self, Sender};
use crate::offset::{Beginning, OffsetTable};
use crate::refusal::Refusal;
use crate::reset::ResetChange;
use crate::runtime_info;
use crate::underway::Admitted;

/// A successful answer.
#[derive(Debug, Default)]
struct Good {
    ext: Vec<(Cow<'static, str>, String)>,
    body: Vec<u8>,
}

impl Good {
    fn body(body: Vec<u8>) -> Self {
        Self { ext: Vec::new(), body }
    }

    fn ext(key: &'static str, value: i64) -> Self {
        Self { ext: vec![(key.into(), value.to_string())], body: Vec::new() }
    }
}

type Outcome = Result<Good, Refusal>;

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::failed(format!("the body cannot be read: {error}"))
    }
}

/// Serves one request and answers it.
pub async fn handle(control: Rc<ControlShard>, job: ControlJob) {
    let outcome = match HeaderView::parse(job.frame.head().serialize, job.frame.header()) {
        Ok(view) if is_reply(view.code) => return reply::push(&control, &job, &view).await,
        Ok(view) => match admit(&control, &job, view.code) {
            Ok(_admitted) => serve(&control, &job, &view).await,
            Err(refusal) => Err(refusal),
        },
        Err(error) => Err(error.into()),
    };
    answer(&control, job.to, outcome);
    step!("control_answered");
}

fn is_reply(code: i32) -> bool {
    [RequestCode::SEND_REPLY_MESSAGE, RequestCode::SEND_REPLY_MESSAGE_V2].contains(&RequestCode(code))
}

/// A request may have to wait for a table's file, or a log. Nothing slows the connection of a one-way one meanwhile, and nothing
/// counts the bytes of a body. Those that clients do send one-way, commits and unlocks, wait for nothing.
fn admit(control: &ControlShard, job: &ControlJob, code: i32) -> Result<Option<Admitted>, Refusal> {
    const AT_ONCE: [RequestCode; 2] = [RequestCode::UPDATE_CONSUMER_OFFSET, RequestCode::UNLOCK_BATCH_MQ];
    let bytes = job.frame.header().len() + job.frame.body_len();
    match job.to.oneway {
        _ if AT_ONCE.contains(&RequestCode(code)) => Ok(None),
        true => control.node.admit(bytes).map(Some),
        // An operator's questions have no body, and are answered however much waits.
        false if job.frame.body_len() == 0 => Ok(None),
        false => control.node.underway.admit_answered(bytes).map(Some),
    }
}

fn answer(control: &ControlShard, to: Answer, outcome: Outcome) {
    match outcome {
        Ok(Good { ext, body }) => {
            let write = |writer: &mut ExtWriter<'_>| {
                for (key, value) in &ext {
                    writer.str(key, value);
                }
            };
            control.node.succeed(to, write, &body);
        }
        Err(refusal) => control.node.refuse(to, &refusal),
    }
}

async fn serve(control: &Rc<ControlShard>, job: &ControlJob, view: &HeaderView<'_>) -> Outcome {
    let body = job.frame.body();
    match RequestCode(view.code) {
        RequestCode::HEART_BEAT => heartbeat(control, job, view, &body).await,
        RequestCode::UNREGISTER_CLIENT => unregister(control, job, view).await,
        RequestCode::CHECK_CLIENT_CONFIG => check_client(control.node.settings.property_filter, &body),
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => consumer_list(control, view),
        RequestCode::LOCK_BATCH_MQ => lock(control, &body),
        RequestCode::UNLOCK_BATCH_MQ => unlock(control, &body),
        RequestCode::QUERY_CONSUMER_OFFSET => query_offset(control, view).await,
        RequestCode::UPDATE_CONSUMER_OFFSET => update_offset(control, view),
        RequestCode::GET_ALL_CONSUMER_OFFSET => Ok(Good::body(control.tables.borrow().offsets.list().to_vec())),
        RequestCode::GET_ALL_TOPIC_CONFIG => Ok(Good::body(control.tables.borrow().topics.list().to_vec())),
        RequestCode::GET_TOPIC_CONFIG => topic_config(control, view),
        RequestCode::GET_TOPIC_STATS_INFO => topic_stats(control, view).await,
        RequestCode::UPDATE_AND_CREATE_TOPIC => create_topic(control, view).await,
        RequestCode::DELETE_TOPIC_IN_BROKER => delete_topic(control, view).await,
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Ok(Good::body(control.tables.borrow().groups.list().to_vec())),
        RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => {
            let group = Group::decode(view)?.group;
            Ok(Good::body(control.tables.borrow().groups.single(&group)?.to_vec()))
        }
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => {
            let config = SubscriptionGroupConfig::parse(&body)?;
            let changes = control.tables.borrow_mut().update_group(config, wall_ms())?;
            carry_out(control, changes).await
        }
        RequestCode::DELETE_SUBSCRIPTIONGROUP => {
            let header = DeleteSubscriptionGroup::decode(view)?;
            let changes = control.tables.borrow_mut().delete_group(&header.group_name, header.clean_offset, wall_ms());
            control.past.borrow_mut().forget_group(&header.group_name);
            control.forget_resets(&ResetChange::ForgetGroup(header.group_name.as_str().into()));
            carry_out(control, changes).await
        }
        RequestCode::GET_CONSUMER_CONNECTION_LIST => {
            let group = ConsumerGroup::decode(view)?.consumer_group;
            Ok(Good::body(control.tables.borrow().members.consumer_connection(&group)?.to_vec()))
        }
        RequestCode::GET_PRODUCER_CONNECTION_LIST => {
            let group = ProducerGroup::decode(view)?.producer_group;
            Ok(Good::body(control.tables.borrow().members.producer_connection(&group)?.to_vec()))
        }
        RequestCode::GET_BROKER_RUNTIME_INFO => Ok(Good::body(runtime_info::table(control).await?.to_vec())),
        RequestCode::GET_BROKER_CONFIG => Ok(config::show(control)),
        RequestCode::UPDATE_BROKER_CONFIG => config::change(control, &body).await.map(|()| Good::default()),
        RequestCode::GET_CONSUMER_RUNNING_INFO => client_call::running_info(control, view).await,
        RequestCode::CONSUME_MESSAGE_DIRECTLY => client_call::consume_directly(control, view).await,
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => client_call::consumer_status(control, view).await,
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => reset::reset(control, view).await,
        RequestCode::GET_CONSUME_STATS => consume::stats(control, view).await,
        RequestCode::GET_BROKER_CONSUME_STATS => consume::all_stats(control, view).await,
        RequestCode::VIEW_BROKER_STATS_DATA => consume::traffic(control, view),
        RequestCode::QUERY_CONSUME_TIME_SPAN => consume::time_span(control, view).await,
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => consume::groups_of_topic(control, view),
        RequestCode::QUERY_TOPICS_BY_CONSUMER => consume::topics_of_group(control, view),
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => consume::subscription(control, view),
        RequestCode::CLONE_GROUP_OFFSET => consume::clone_offsets(control, view),
        RequestCode::QUERY_CORRECTION_OFFSET => consume::correction(control, view).await,
        RequestCode::QUERY_CONSUME_QUEUE => queue::entries(control, view).await,
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => system_topics(control),
        RequestCode::GET_ALL_DELAY_OFFSET => later::delay_offsets(control),
        RequestCode::RESUME_CHECK_HALF_MESSAGE => later::resume_check(control, view).await,
        RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE => Ok(clean_queues()),
        RequestCode::CLEAN_UNUSED_TOPIC => ask_all(control, || Ask::DropUnused).await,
        RequestCode::DELETE_EXPIRED_COMMITLOG => ask_all(control, || Ask::DropExpired).await,
        other => Err(Refusal::unsupported(other)),
    }
}

/// RocketMQ drops the files of queues whose messages are all gone, and with them the offsets, which are then given out
/// again. Here a queue's part of the index goes with the messages, and its next offset stays: there is nothing left to do.
fn clean_queues() -> Good {
    tracing::info!("asked to clean expired queues: what is expired is gone already");
    Good::default()
}

/// Asks every executor.
async fn ask_all(control: &Rc<ControlShard>, ask: impl Fn() -> Ask) -> Outcome {
    for shard in 0..control.node.post.shards() {
        if let Told::Failed(why) = control.node.ask(shard, ask()).await {
            return Err(Refusal::failed(why));
        }
    }
    Ok(Good::default())
}

async fn carry_out(control: &Rc<ControlShard>, changes: Changes) -> Outcome {
    let applied = control.apply_durably(changes).await;
    applied.map_err(|why| Refusal::failed(format!("the change is in force, but not on disk: {why}")))?;
    Ok(Good::default())
}

async fn heartbeat(control: &Rc<ControlShard>, job: &ControlJob, view: &HeaderView<'_>, body: &[u8]) -> Outcome {
    let data = HeartbeatData::parse(body)?;
    let sender =
        Sender { conn: member::ConnId(job.to.conn.0), peer: job.peer, language: view.language, version: view.version };
    let (wanted, changes) = control.tables.borrow_mut().heartbeat(&sender, &data, Moment::now())?;
    control.apply(changes).await.map_err(Refusal::failed)?;
    let ext =
        vec![("IS_SUPPORT_HEART_BEAT_V2".into(), "true".to_owned()), ("IS_SUB_CHANGE".into(), wanted.to_string())];
    Ok(Good { ext, body: Vec::new() })
}

async fn unregister(control: &Rc<ControlShard>, job: &ControlJob, view: &HeaderView<'_>) -> Outcome {
    let header = UnregisterClient::decode(view)?;
    let conn = member::ConnId(job.to.conn.0);
    let effects = control.tables.borrow_mut().members.unregister(
        conn,
        header.producer_group.as_deref(),
        header.consumer_group.as_deref(),
    );
    control.apply(effects.into()).await.map_err(Refusal::failed)?;
    Ok(Good::default())
}

/// Asked by consumers with another expression type than tags, before they start.
fn check_client(property_filter: bool, body: &[u8]) -> Outcome {
    let subscription = CheckClientConfig::parse(body)?.subscription_data;
    if !is_tag_type(Some(&subscription.expression_type)) {
        filter::check(property_filter, &subscription)?;
        return Ok(Good::default());
    }
    TagFilter::parse(Some(&subscription.sub_string)).map_err(|_| Refusal::subscription_unparsable())?;
    Ok(Good::default())
}

fn consumer_list(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let group = ConsumerGroup::decode(view)?.consumer_group;
    let consumer_id_list = control.tables.borrow().members.consumer_ids(&group)?;
    Ok(Good::body(ConsumerIdList { consumer_id_list }.to_vec()))
}

fn lock(control: &ControlShard, body: &[u8]) -> Outcome {
    let asked = LockBatchRequest::parse(body)?;
    let mut tables = control.tables.borrow_mut();
    let lock_ok_mq_set = tables.locks.lock(&asked.consumer_group, &asked.client_id, &asked.mq_set, now().millis())?;
    Ok(Good::body(LockBatchResponse { lock_ok_mq_set }.to_vec()))
}

fn unlock(control: &ControlShard, body: &[u8]) -> Outcome {
    let asked = LockBatchRequest::parse(body)?;
    control.tables.borrow_mut().locks.unlock(&asked.consumer_group, &asked.client_id, &asked.mq_set)?;
    Ok(Good::default())
}

/// Asks a queue's shard for its ends.
async fn queue_ends(control: &Rc<ControlShard>, topic: &str, queue_id: i32) -> Result<QueueEnds, Refusal> {
    let node = &control.node;
    let found = control.tables.borrow().topics.get(topic).cloned();
    let Some(found) = found.filter(|_| queue_id >= 0) else { return Ok(QueueEnds::default()) };
    let log = found.home(queue_id, node.log_shards());
    match node.ask(node.executor_of(log), Ask::Queue { log, topic: topic.into(), queue_id }).await {
        Told::Queue(ends) => Ok(ends),
        other => Err(other.unexpected()),
    }
}

async fn query_offset(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let header = QueryConsumerOffset::decode(view)?;
    let stored = control.tables.borrow().offsets.stored(&header.consumer_group, &header.topic, header.queue_id);
    if let Some(offset) = stored {
        return Ok(Good::ext("offset", offset));
    }
    let ends = queue_ends(control, &header.topic, header.queue_id).await?;
    // One with messages may lie beyond the numbers of a topic that has fewer queues now.
    let exists = ends.max > 0 || control.tables.borrow().topics.has_queue(&header.topic, header.queue_id);
    let queue = exists.then_some(Beginning { min: ends.min, behind_origin: ends.behind_origin });
    let recent_bytes = control.node.settings.recent_bytes;
    let offset = OffsetTable::initial(header.set_zero_if_not_found, queue, recent_bytes)?;
    Ok(Good::ext("offset", offset))
}

fn update_offset(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let asked = UpdateConsumerOffset::decode(view)?;
    let mut tables = control.tables.borrow_mut();
    let tables = &mut *tables;
    tables.offsets.update(&asked, &tables.groups, &tables.topics)?;
    step!("offset_updated");
    Ok(Good::default())
}

fn topic_config(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let name = Topic::decode(view)?.topic;
    let tables = control.tables.borrow();
    let config: &TopicConfig = tables.topics.single(&name)?;
    Ok(Good::body(config.to_vec()))
}

fn system_topics(control: &ControlShard) -> Outcome {
    let topic_list = control.tables.borrow().topics.system_names();
    Ok(Good::body(TopicList { broker_addr: None, topic_list }.to_vec()))
}

async fn topic_stats(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let name = Topic::decode(view)?.topic;
    let found = control.tables.borrow().topics.get(&name).cloned().ok_or_else(|| Refusal::topic_unknown(&name))?;
    let mut stats = TopicStatsTable::default();
    for queue_id in 0..found.queues() {
        let ends = queue_ends(control, &name, queue_id).await?;
        let queue = MessageQueue {
            topic: name.clone(),
            broker_name: control.node.settings.identity.broker_name.clone(),
            queue_id,
        };
        let offsets = TopicOffset { min_offset: ends.min, max_offset: ends.max, last_update_timestamp: ends.last_ms };
        stats.offset_table.insert(queue, offsets);
    }
    Ok(Good::body(stats.to_vec()))
}

async fn create_topic(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let header = CreateTopic::decode(view)?;
    let empty = empty_beyond(control, &header).await?;
    control.deletion_over(&header.topic).await;
    let changes = control.tables.borrow_mut().create_topic(&header, &empty, wall_ms())?;
    let good = carry_out(control, changes).await?;
    // Whoever is told that the topic exists asks the name server for its route next.
    if let Some(announcer) = control.announcer() {
        announcer.registered().await;
    }
    tracing::info!(topic = %header.topic, "created or changed a topic");
    Ok(good)
}

/// The queues that a topic gets and that have no messages. One that had fewer queues for a while may get some back that have.
async fn empty_beyond(control: &Rc<ControlShard>, asked: &CreateTopic) -> Result<Vec<i32>, Refusal> {
    let found = control.tables.borrow().topics.get(&asked.topic).cloned();
    let queues = asked.read_queue_nums.max(asked.write_queue_nums).min(TOPIC_QUEUES_MAX);
    let Some(found) = found else { return Ok((0..queues).collect()) };
    let questions = (found.queues()..queues).map(|queue_id| Question::ends(&found, queue_id)).collect();
    let seen = look(control, questions).await?;
    Ok((found.queues()..queues).zip(seen).filter(|(_, seen)| seen.max == 0).map(|(queue_id, _)| queue_id).collect())
}

async fn delete_topic(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let name = Topic::decode(view)?.topic;
    let _deletion = control.begin_deletion(&name).await;
    let changes = control.tables.borrow_mut().delete_topic(&name, wall_ms())?;
    control.past.borrow_mut().forget_topic(&name);
    control.forget_resets(&ResetChange::ForgetTopic(name.as_str().into()));
    // The topic goes first, so that nobody sends to it while its messages are dropped.
    let good = carry_out(control, changes).await?;
    for shard in 0..control.node.post.shards() {
        if let Told::Failed(why) = control.node.ask(shard, Ask::DropTopic { topic: name.as_str().into() }).await {
            let remark = format!("topic {name} is deleted, but its messages are not all dropped: {why}");
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
    }
    tracing::info!(topic = %name, "deleted a topic");
    Ok(good)
}
