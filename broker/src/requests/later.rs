//! What tools ask about messages that are to come: how far delay levels are delivered, and to check a parked transaction
//! again.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringmq_engine::Position;
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::header::ResumeCheckHalfMessage;
use ringmq_protocol::id::decode_offset_msg_id;
use ringmq_protocol::names;

use super::{Good, Outcome};
use crate::control_shard::ControlShard;
use crate::mail::Ask;
use crate::message::Message;
use crate::refusal::Refusal;
use crate::{own_group, query};

/// GET_ALL_DELAY_OFFSET: messages delivered, by level.
pub(super) fn delay_offsets(control: &ControlShard) -> Outcome {
    let tables = control.tables.borrow();
    let shards = i32::from(control.node.log_shards());
    let mut levels: BTreeMap<i32, i64> = BTreeMap::new();
    for (queue, offset) in tables.offsets.queues(names::SCHEDULE_TOPIC, own_group::LEVELS).into_iter().flatten() {
        // Each log shard has a queue of each level.
        *levels.entry(queue / shards + 1).or_default() += offset;
    }
    let levels: Vec<String> = levels.iter().map(|(level, offset)| format!("\"{level}\":{offset}")).collect();
    Ok(Good::body(format!("{{\"offsetTable\":{{{}}}}}", levels.join(",")).into_bytes()))
}

/// RESUME_CHECK_HALF_MESSAGE: a half that was parked after its last check is checked again, from the first check on.
pub(super) async fn resume_check(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let node = &control.node;
    let msg_id = ResumeCheckHalfMessage::decode(view)?.msg_id;
    let missing = || Refusal::failed(format!("no parked half message is stored at msgId[{msg_id}]"));
    let position = decode_offset_msg_id(&msg_id).and_then(|(_, position)| Position::from_wire(position));
    let position = position.ok_or_else(missing)?;
    let mut admitted = node.admit(0)?;
    let record = admitted.read(node.settings.send_wait_max, query::record_at(node, position)).await?;
    let half = Message::of_record(&record.ok_or_else(missing)?).map_err(|error| Refusal::failed(error.to_string()))?;
    if half.topic != names::TRANS_CHECK_MAX_TIME_TOPIC {
        return Err(missing());
    }
    let log = u16::from(position.shard().get());
    let ask = Ask::BringBack { log, half: Box::new(half) };
    node.ask(node.executor_of(log), ask).await.done()?;
    Ok(Good::default())
}
