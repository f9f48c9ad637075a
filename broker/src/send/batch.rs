//! Batches: several messages in one send.

use std::rc::Rc;

use ringmq_engine::Draft;
use ringmq_net::Frame;
use ringmq_protocol::batch::{BatchMessage, BatchReader};
use ringmq_protocol::header::SendHeader;
use ringmq_protocol::message::tags_code;
use ringmq_protocol::names;
use ringmq_rt::wall_ms;

use super::Place;
use super::append::{Stored, Unstored, sent, unstored};
use super::asked::Asked;
use super::record::{check_len, own_pairs, spec};
use crate::limits::BATCH_MESSAGES_MAX;
use crate::log::{Log, Waiting};
use crate::mail::ShortText;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::settings::Settings;

/// What a batch cannot ask for. What its messages ask for one by one is passed over, as RocketMQ does.
pub(super) fn check_batch(asked: &Asked<'_>, settings: &Settings) -> Result<(), Refusal> {
    match (asked.delay > 0, asked.is_half) {
        (true, _) => Err(Refusal::message_illegal(settings.message_max, "a batch cannot be delayed")),
        (_, true) => Err(Refusal::message_illegal(settings.message_max, "a batch cannot be a transaction")),
        _ => Ok(()),
    }
}

/// The messages of a batch lie one behind the other in the log, all or none.
pub(super) fn append_batch(
    node: &Rc<Node>,
    log: &Rc<Log>,
    place: &Place,
    header: &SendHeader,
    frame: &Frame,
) -> Result<Stored, Unstored> {
    let settings = &*node.settings;
    let topic = header.topic.get(frame.header()).to_string();
    if topic.len() > names::TOPIC_NAME_MAX {
        return Err(Refusal::illegal(format!("message topic length too long {}", topic.len())).into());
    }
    if names::is_retry(&topic) {
        return Err(Refusal::illegal(format!("batch request does not support retry group {topic}")).into());
    }
    let body = frame.body();
    if body.len() > settings.message_max {
        return Err(Refusal::illegal(format!(
            "the message is illegal: a batch of {} bytes is longer than maxMessageSize {}",
            body.len(),
            settings.message_max
        ))
        .into());
    }
    let messages: Result<Vec<BatchMessage<'_>>, _> = BatchReader::new(&body, BATCH_MESSAGES_MAX).collect();
    let messages = messages.map_err(|error| Refusal::illegal(format!("the batch cannot be read: {error}")))?;
    let outer = header.properties.map(|p| p.get(frame.header()).to_string()).unwrap_or_default();
    let outer_asked = Asked::read(&outer);
    check_batch(&outer_asked, settings)?;
    let mut bodies = Vec::with_capacity(messages.len());
    let mut pairs = Vec::with_capacity(messages.len());
    let mut asked = Vec::with_capacity(messages.len());
    for message in &messages {
        asked.push(Asked::read(message.properties));
        bodies.push([message.body]);
        pairs.push(own_pairs(settings, message.properties, None));
    }
    let mut specs = Vec::with_capacity(messages.len());
    for ((message, body), pairs) in messages.iter().zip(&bodies).zip(&pairs) {
        let mut spec = spec(settings, place, header, &topic, body, pairs);
        spec.flag = message.flag;
        check_len(&spec, settings)?;
        specs.push(spec);
    }
    let drafts: Vec<Draft<'_>> = specs
        .iter()
        .zip(&asked)
        .map(|(spec, asked)| Draft {
            spec,
            tags_code: asked.tags.map_or(0, tags_code),
            keys: asked.index_keys(),
            due_ms: None,
        })
        .collect();
    let mut tickets = Vec::with_capacity(drafts.len());
    log.shard.append_batch(&drafts, wall_ms(), &mut tickets).map_err(|error| unstored(&error))?;
    let (Some(first), Some(last)) = (tickets.first(), tickets.last()) else {
        return Err(Refusal::illegal("the batch is empty").into());
    };
    node.traffic.put(&topic, tickets.len() as u64, body.len() as u64);
    let unique = outer_asked.unique_key.or_else(|| asked.first().and_then(|first| first.unique_key));
    let first_sent = sent(place, first, unique.and_then(ShortText::new));
    let positions = tickets.iter().map(|ticket| ticket.position.to_wire()).collect();
    Ok(Stored { answer: Waiting::Batch(first_sent, positions), end: last.end, wait: !outer_asked.dont_wait })
}
