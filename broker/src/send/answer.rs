//! The answers to sends.

use ringmq_protocol::command::ReplyHead;
use ringmq_protocol::frame::FrameError;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::properties;

use crate::mail::Sent;
use crate::settings::Settings;

/// Writes the answer to a send as a whole frame.
///
/// # Errors
/// When the frame would be too long, which a single id cannot make it.
pub fn write_sent(settings: &Settings, sent: &Sent, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let id = offset_msg_id(settings.store_host, sent.position);
    write_sent_ids(settings, sent, id.as_str(), None, out)
}

/// The same for a timed message, with the handle by which it can be taken back.
///
/// # Errors
/// When the frame would be too long.
pub fn write_sent_timed(settings: &Settings, sent: &Sent, handle: &str, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let id = offset_msg_id(settings.store_host, sent.position);
    write_sent_ids(settings, sent, id.as_str(), Some(handle), out)
}

/// The same for a batch, whose ids are joined by commas.
///
/// # Errors
/// When the frame would be too long.
pub fn write_sent_batch(
    settings: &Settings,
    sent: &Sent,
    positions: &[i64],
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let mut ids = String::with_capacity(positions.len() * 33);
    for position in positions {
        if !ids.is_empty() {
            ids.push(',');
        }
        ids.push_str(offset_msg_id(settings.store_host, *position).as_str());
    }
    write_sent_ids(settings, sent, &ids, None, out)
}

pub(super) fn write_sent_ids(
    settings: &Settings,
    sent: &Sent,
    ids: &str,
    handle: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let mut writer = ReplyHead { code: sent.code, opaque: sent.to.opaque, remark: None }.begin(out);
    writer.str("msgId", ids);
    writer.i64("queueId", i64::from(sent.queue_id));
    writer.i64("queueOffset", i64::try_from(sent.queue_offset.0).unwrap_or(i64::MAX));
    if let Some(key) = &sent.unique_key {
        writer.str("transactionId", key.as_str());
    }
    if let Some(handle) = handle {
        writer.str("recallHandle", handle);
    }
    writer.str(properties::MSG_REGION, &settings.region);
    writer.bool(properties::TRACE_ON, settings.trace_on);
    writer.finish(0)
}
