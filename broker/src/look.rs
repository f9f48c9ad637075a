//! Questions about many queues at once, for the control shard: their ends, the offset of a time, the times of messages. One
//! hop for each log shard, however many queues are asked about.

use std::rc::Rc;
use std::sync::Arc;

use ringmq_engine::{QueueOffset, ReadError};
use smallvec::SmallVec;

use crate::control_shard::ControlShard;
use crate::limits::LOOK_MAX;
use crate::log::Log;
use crate::mail::{Ask, Told};
use crate::node::Node;
use crate::refusal::Refusal;
use crate::topic::Topic;

/// What is asked about one queue.
#[derive(Debug, Clone)]
pub struct Question {
    pub topic: Arc<Topic>,
    pub queue_id: i32,
    /// The first message stored at or after this time.
    pub by_time: Option<i64>,
    /// Offsets whose messages' store times are wanted; -1 and others without a message have none.
    pub times_at: SmallVec<[i64; 2]>,
    /// The store times of the first and the last message are wanted.
    pub ends_times: bool,
}

impl Question {
    /// The ends of a queue.
    pub fn ends(topic: &Arc<Topic>, queue_id: i32) -> Self {
        Self { topic: Arc::clone(topic), queue_id, by_time: None, times_at: SmallVec::new(), ends_times: false }
    }
}

/// What is seen of one queue. One that nobody has written to is an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub min: i64,
    pub max: i64,
    /// Within the ends; the end if all messages are older.
    pub by_time: i64,
    /// In the order asked.
    pub times: SmallVec<[Option<i64>; 2]>,
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
}

/// Looks at queues, wherever they live; the answers have the order of the questions.
///
/// # Errors
/// A log shard is out of service, or its disk.
pub async fn look(control: &ControlShard, questions: Vec<Question>) -> Result<Vec<Seen>, Refusal> {
    let node = &control.node;
    let mut seen = vec![Seen::default(); questions.len()];
    let mut by_log: Vec<Vec<(usize, Question)>> = vec![Vec::new(); usize::from(node.log_shards())];
    for (at, question) in questions.into_iter().enumerate() {
        let home = question.topic.home(question.queue_id, node.log_shards());
        if let Some(questions) = by_log.get_mut(usize::from(home)) {
            questions.push((at, question));
        }
    }
    for (log, questions) in (0_u16..).zip(by_log) {
        for part in questions.chunks(LOOK_MAX) {
            let (places, questions): (Vec<usize>, Vec<Question>) = part.iter().cloned().unzip();
            match node.ask(node.executor_of(log), Ask::Look { log, questions }).await {
                Told::Looked(answers) => {
                    for (place, answer) in places.into_iter().zip(answers) {
                        seen[place] = answer;
                    }
                }
                other => return Err(other.unexpected()),
            }
        }
    }
    Ok(seen)
}

/// Answers questions on their log's shard.
pub async fn answer(node: &Rc<Node>, log: u16, questions: &[Question]) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    let mut seen = Vec::with_capacity(questions.len());
    for question in questions {
        match see(&log, question).await {
            Ok(one) => seen.push(one),
            Err(error) => {
                let topic = &question.topic.config.topic_name;
                tracing::error!(%topic, queue = question.queue_id, %error, "a queue could not be looked at");
                return Told::Failed(error.to_string());
            }
        }
    }
    Told::Looked(seen)
}

async fn see(log: &Log, question: &Question) -> Result<Seen, ReadError> {
    let Question { topic, queue_id, by_time, times_at, ends_times } = question;
    let (topic, queue_id) = (topic.config.topic_name.as_str(), *queue_id);
    let mut seen = Seen { times: times_at.iter().map(|_| None).collect(), ..Seen::default() };
    let Some((min, max)) = log.shard.bounds(topic, queue_id) else { return Ok(seen) };
    (seen.min, seen.max) = (wire(min), wire(max));
    if let Some(time) = by_time {
        let found = log.shard.offset_by_time(topic, queue_id, *time).await?;
        seen.by_time = wire(found.unwrap_or(max)).clamp(seen.min, seen.max);
    }
    for (at, time) in times_at.iter().zip(&mut seen.times) {
        *time = time_of(log, topic, queue_id, *at).await?;
    }
    if *ends_times {
        seen.first_ms = time_of(log, topic, queue_id, seen.min).await?;
        seen.last_ms = time_of(log, topic, queue_id, seen.max - 1).await?;
    }
    Ok(seen)
}

async fn time_of(log: &Log, topic: &str, queue_id: i32, at: i64) -> Result<Option<i64>, ReadError> {
    match u64::try_from(at) {
        Ok(offset) => log.shard.store_time(topic, queue_id, QueueOffset(offset)).await,
        Err(_) => Ok(None),
    }
}

fn wire(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
