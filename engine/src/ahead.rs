//! Where a queue would begin if the log were cut at some place: for who wants to know what a drop takes along before it
//! happens, or exactly what one took. Nothing is forgotten or learnt by it.

use std::rc::Rc;

use crate::error::ReadError;
use crate::index_log::BlockHead;
use crate::limits::BLOCK_ENTRIES;
use crate::queue::First;
use crate::read::{ReadRequest, fetch_index};
use crate::state::Core;

/// The queue offset of the first record at the log offset `start` or behind. It is exact where it is above `from`; below
/// that nobody wants to know, and the index is not read for it. `None` for an unknown queue.
pub(crate) async fn first_from(
    core: &Rc<Core>,
    request: &ReadRequest<'_>,
    start: u64,
    from: u64,
) -> Result<Option<u64>, ReadError> {
    let found = core.with(|s| {
        let queue = s.queues.get(s.queues.find(request.topic, request.queue_id)?)?;
        let first = queue.first_from(start);
        let content = match first {
            First::In { block, .. } => s.index.get(block).or_else(|| core.index_cache.borrow_mut().get(block)),
            First::Known(_) => None,
        };
        Some((first, content))
    });
    let (block, first, content) = match found {
        None => return Ok(None),
        Some((First::Known(first), _)) => return Ok(Some(first)),
        Some((First::In { block, first }, content)) => (block, first, content),
    };
    let behind = first + BLOCK_ENTRIES as u64;
    if from >= behind {
        return Ok(Some(behind));
    }
    let content = match content {
        Some(content) => content,
        None => match fetch_index(core, block, BlockHead::new(request.topic, request.queue_id, first)).await {
            Ok(content) => content,
            // A block goes when all that it names is gone.
            Err(ReadError::Gone { .. }) => return Ok(Some(behind)),
            Err(e) => return Err(e),
        },
    };
    Ok(Some(first + content.in_front_of(start) as u64))
}
