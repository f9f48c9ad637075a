//! The record that a client means whose position has lost its lowest bits: JavaScript keeps numbers as doubles, which
//! are exact up to 2^53 only, and a position has its shard above that.

use std::rc::Rc;

use ringmq_rt::Slice;

use crate::error::ReadError;
use crate::position::Position;
use crate::read;
use crate::record::{self, HEAD_BYTES};
use crate::state::{Core, State};

/// Doubles of this size and above are not every whole number.
const EXACT_MAX: i64 = 1 << 53;

/// The furthest that rounding to a double moves a position: half the distance of doubles below 2^63.
const REACH: u64 = 512;

/// The one record whose position, as a double, is this one; `None` if there is none or more than one.
pub(crate) async fn record(core: &Rc<Core>, position: Position) -> Result<Option<Slice>, ReadError> {
    let offset = position.offset();
    let asked = position.to_wire();
    let may_be_rounded = asked >= EXACT_MAX && asked as f64 as i64 == asked;
    let Some(span) = core.segments.holding(offset).filter(|_| may_be_rounded) else { return Ok(None) };
    let from = offset.saturating_sub(REACH).max(span.base);
    let to = (offset + REACH + HEAD_BYTES as u64).min(span.end).min(core.with(State::confirmed));
    if from >= to {
        return Ok(None);
    }
    let bytes = read::piece(core, from, to - from).await?;
    let mut found = (from..to).zip(0..).filter(|&(offset, at)| {
        let own = Position::new(core.shard, offset).to_wire();
        let is_start = record::place(&bytes[at..]).is_some_and(|(_, position)| position == own);
        is_start && own as f64 == asked as f64
    });
    match (found.next(), found.next()) {
        (Some((offset, _)), None) => read::record_at(core, offset).await,
        _ => Ok(None),
    }
}
