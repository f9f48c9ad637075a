//! What a message's properties ask of the broker, and the way around that follows from it.

use ringmq_net::Frame;
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::header::SendHeader;
use ringmq_protocol::properties::{self, sys_flag};
use ringmq_rt::wall_ms;

use super::append::Unstored;
use crate::detour::Detour;
use crate::limits::HALVES_MAX;
use crate::log::Log;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::timer::ask;

/// What a message's properties ask of the broker.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub(super) tags: Option<&'a str>,
    pub(super) unique_key: Option<&'a str>,
    pub(super) keys: Option<&'a str>,
    pub(super) dont_wait: bool,
    /// The delay level, zero for none.
    pub(super) delay: i32,
    /// It asked for a level that is no number.
    pub(super) bad_delay: bool,
    pub(super) is_half: bool,
    pub(super) group: Option<&'a str>,
    pub(super) time: ask::Asked<'a>,
}

impl<'a> Asked<'a> {
    pub(super) fn read(properties: &'a str) -> Self {
        let mut asked = Self::default();
        for (name, value) in properties::iter(properties) {
            match name {
                properties::TAGS => asked.tags = Some(value),
                properties::UNIQ_KEY => asked.unique_key = Some(value),
                properties::KEYS => asked.keys = Some(value),
                properties::WAIT => asked.dont_wait = value == "false",
                properties::DELAY => {
                    (asked.delay, asked.bad_delay) = value.parse().map_or((0, true), |level| (level, false));
                }
                properties::TRAN_MSG => asked.is_half = value == "true",
                properties::PGROUP => asked.group = Some(value),
                _ => asked.time.read(name, value),
            }
        }
        asked
    }
}

/// The properties that the request's header brings, in memory that sends reuse.
pub(super) fn read_properties<'a>(
    header: &SendHeader,
    frame: &Frame,
    memory: &'a mut Vec<u8>,
) -> Result<&'a str, Refusal> {
    memory.clear();
    if let Some(properties) = header.properties {
        properties.get(frame.header()).write_unescaped(memory);
    }
    std::str::from_utf8(memory).map_err(|_| Refusal::failed("the properties are not UTF-8"))
}

/// The properties with the delay level that was granted, which counts before any time.
pub(super) fn with_level(client: &str, level: i32) -> String {
    const REPLACED: &[&str] =
        &[properties::DELAY, properties::TIMER_DELAY_SEC, properties::TIMER_DELAY_MS, properties::TIMER_DELIVER_MS];
    let mut properties = properties::without(client, REPLACED);
    // A number cannot hold a separator.
    let _ = properties::push(&mut properties, properties::DELAY, &level.to_string());
    properties
}

/// Whether the message is for consumers now, and if not, why.
pub(super) fn detour_of(
    node: &Node,
    log: &Log,
    header: &SendHeader,
    asked: &Asked<'_>,
) -> Result<Option<Detour>, Unstored> {
    let settings = &*node.settings;
    if asked.bad_delay {
        return Err(Refusal::failed("the message's delay level is no number").into());
    }
    if asked.is_half && !(header.reconsume_times > 0 && asked.delay > 0) {
        if settings.transactions.reject {
            let ip = settings.store_host.ip();
            let remark = format!("the broker[{ip}] sending transaction message is forbidden");
            return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark).into());
        }
        if asked.group.is_none() {
            return Err(Refusal::illegal("a half message has to name its producer group in PGROUP").into());
        }
        if !log.transactions.has_room() {
            let remark = format!("[OVERLOAD]system busy, {HALVES_MAX} transactions are open on this log shard");
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark).into());
        }
        return Ok(Some(Detour::Half));
    }
    if sys_flag::transaction(header.sys_flag) == sys_flag::TRANSACTION_PREPARED {
        return Ok(None);
    }
    match settings.delay_levels.granted(asked.delay) {
        Some(level) => Ok(Some(Detour::Level(level))),
        None if asked.time.is_some() => timer_of(settings, log, asked),
        None => Ok(None),
    }
}

/// The detour of a message with a time of its own, if that is not over already.
pub(super) fn timer_of(settings: &Settings, log: &Log, asked: &Asked<'_>) -> Result<Option<Detour>, Unstored> {
    if !settings.timers.enabled {
        return Err(Refusal::failed("accurate timer message is not enabled, timerWheelEnable is false").into());
    }
    let max = settings.timers.delay_max;
    let left = asked.time.left_ms(wall_ms(), max).map_err(|_| {
        let max = max.as_millis();
        Refusal::illegal(format!(
            "timer message illegal, the delay time should not be bigger than the max delay {max}ms; or if set del msg, \
             the delay time should be bigger than the current time"
        ))
    })?;
    // One that takes another back comes just in front of it.
    let earlier = u64::from(asked.time.recalls.is_some());
    Ok(left.map(|left| Detour::Timer(log.timers.now_ms() + left.saturating_sub(earlier).max(1))))
}
