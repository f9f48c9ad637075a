//! A client's message as the record that is stored.

use ringmq_protocol::header::SendHeader;
use ringmq_protocol::id::{IdText, UniqueIdSource};
use ringmq_protocol::message::{Property, RecordError, RecordSpec};
use ringmq_protocol::properties::{self, sys_flag};
use ringmq_protocol::value::Value;
use ringmq_rt::wall_ms;

use super::Place;
use crate::detour::ROOM_LATER;
use crate::refusal::Refusal;
use crate::settings::Settings;

pub(super) fn unique_key(settings: &Settings, next: &mut u16) -> IdText {
    *next = next.wrapping_add(1);
    let source = UniqueIdSource { ip: settings.store_host.ip(), pid: std::process::id(), salt: 0 };
    // A month of 31 days: the field only has to differ between messages of one process.
    source.id(wall_ms().rem_euclid(31 * 24 * 3_600_000), *next)
}

/// The client's properties, and what the broker adds to each.
pub(super) fn own_pairs<'a>(
    settings: &'a Settings,
    client: &'a str,
    unique: Option<&'a str>,
) -> smallvec::SmallVec<[Property<'a>; 5]> {
    let mut pairs = smallvec::smallvec![
        Property::Encoded(Value::plain(client)),
        Property::Pair(properties::MSG_REGION, &settings.region),
        Property::Pair(properties::TRACE_ON, if settings.trace_on { "true" } else { "false" }),
        Property::Pair(properties::CLUSTER, &settings.identity.cluster_name),
    ];
    if let Some(unique) = unique {
        pairs.push(Property::Pair(properties::UNIQ_KEY, unique));
    }
    pairs
}

pub(super) fn spec<'a>(
    settings: &Settings,
    place: &Place,
    header: &SendHeader,
    topic: &'a str,
    body: &'a [&'a [u8]],
    properties: &'a [Property<'a>],
) -> RecordSpec<'a> {
    RecordSpec {
        topic,
        queue_id: place.queue_id,
        flag: header.flag,
        sys_flag: if place.multi_tags { header.sys_flag | sys_flag::MULTI_TAGS } else { header.sys_flag },
        born_timestamp: header.born_timestamp,
        born_host: place.born_host,
        store_host: settings.store_host,
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        body,
        body_max: settings.message_max,
        properties,
    }
}

/// The body of a message that is sent alone is not empty. One of a batch may be.
pub(super) fn check_body(spec: &RecordSpec<'_>) -> Result<(), Refusal> {
    if spec.body.iter().all(|part| part.is_empty()) {
        return Err(Refusal::illegal(
            "the message is illegal, maybe msg body or properties length not matched: the body is empty",
        ));
    }
    Ok(())
}

/// The checks that RocketMQ answers with MESSAGE_ILLEGAL.
pub(super) fn check_len(spec: &RecordSpec<'_>, settings: &Settings) -> Result<(), Refusal> {
    match spec.encoded_len() {
        Ok(_) => Ok(()),
        Err(error) => Err(refuse_record(&error, settings.message_max)),
    }
}

/// A message that is kept for later has room for what is added then.
pub(super) fn check_room_later(spec: &RecordSpec<'_>, settings: &Settings) -> Result<(), Refusal> {
    let len = spec.properties_len() + ROOM_LATER;
    if len > properties::PROPERTIES_MAX {
        return Err(refuse_record(&RecordError::PropertiesTooLong(len), settings.message_max));
    }
    Ok(())
}

pub(super) fn refuse_record(error: &RecordError, body_max: usize) -> Refusal {
    Refusal::message_illegal(body_max, error)
}
