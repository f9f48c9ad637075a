//! Batches: several messages in one send.

use std::rc::Rc;

use ringmq_engine::{Draft, Keys};
use ringmq_net::Frame;
use ringmq_protocol::batch::{BatchMessage, BatchReader};
use ringmq_protocol::header::SendHeader;
use ringmq_protocol::message::{Property, tags_code};
use ringmq_protocol::{names, properties};
use ringmq_rt::wall_ms;

use super::append::{Stored, Unstored, sent, unstored};
use super::asked::{Asked, read_properties};
use super::record::{check_len, own_pairs, spec};
use super::{Place, text};
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

/// The properties of a batch's header that a message of it gets: all but what it has itself already. They count before the
/// message's own, but for its id, by which its sender knows it.
fn shared<'a>(outer: &'a str, own: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    properties::iter(outer).filter(move |(name, value)| {
        let known = properties::get(own, name);
        known.is_none_or(|known| known != *value && *name != properties::UNIQ_KEY)
    })
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
    let topic = text(header.topic.get(frame.header()));
    if topic.len() > names::TOPIC_NAME_MAX {
        return Err(Refusal::illegal(format!("message topic length too long {}", topic.len())).into());
    }
    if names::is_retry(&topic) {
        return Err(Refusal::batch_to_retry(&topic).into());
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
    let mut scratch = node.scratch.borrow_mut();
    let outer = read_properties(header, frame, &mut scratch.properties)?;
    let outer_asked = Asked::read(outer);
    check_batch(&outer_asked, settings)?;
    let mut bodies = Vec::with_capacity(messages.len());
    let mut pairs = Vec::with_capacity(messages.len());
    let mut asked = Vec::with_capacity(messages.len());
    for message in &messages {
        let own = Asked::read(message.properties);
        bodies.push([message.body]);
        let mut of_message = own_pairs(settings, message.properties, None);
        of_message.extend(shared(outer, message.properties).map(|(name, value)| Property::Pair(name, value)));
        pairs.push(of_message);
        asked.push(own);
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
            tags_code: outer_asked.tags.or(asked.tags).map_or(0, tags_code),
            keys: Keys {
                unique: asked.unique_key.or(outer_asked.unique_key),
                business: outer_asked.keys.or(asked.keys),
            },
            due_ms: None,
            promised: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_id_and_takes_what_else_its_batch_says() {
        let outer = "WAIT\u{1}true\u{2}UNIQ_KEY\u{1}batch\u{2}user\u{1}batch\u{2}";
        let of = |own| shared(outer, own).collect::<Vec<_>>();
        assert_eq!(of(""), [("WAIT", "true"), ("UNIQ_KEY", "batch"), ("user", "batch")]);
        assert_eq!(of("WAIT\u{1}true\u{2}UNIQ_KEY\u{1}own\u{2}user\u{1}own\u{2}"), [("user", "batch")]);
    }
}
