//! QUERY_MESSAGE and VIEW_MESSAGE_BY_ID: messages by key, and the message at a position. A key may be in any log, so every
//! log shard is asked, all at once, and the connection's shard puts the answers together. Any that cannot answer makes
//! the query fail: half an answer would look like a whole one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_engine::{Found, KeyKind, KeyQuery, Position};
use ringmq_net::Conn;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{HeaderView, ReplyHead};
use ringmq_protocol::header::{QueryMessage, ViewMessage};
use ringmq_rt::net::Outbox;
use ringmq_rt::sync::Semaphore;
use ringmq_rt::{Slice, spawn};

use crate::limits::{FINDS_MAX, FINDS_WAITING_MAX, QUERY_BYTES_MAX};
use crate::mail::{Answer, Ask, FindJob, Told};
use crate::node::{Node, log_frame_error};
use crate::refusal::Refusal;
use crate::settings::Settings;

/// A question arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>) {
    let to = Answer::to(conn.id(), view);
    let asked = if view.code == RequestCode::QUERY_MESSAGE.0 {
        query_of(&node.settings, view).map(Asked::Keys)
    } else {
        ViewMessage::decode(view).map(|header| Asked::Position(header.offset)).map_err(Refusal::from)
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refusal) => return node.refuse(to, &refusal),
    };
    let Some(place) = node.finds.join() else {
        let remark = "[OVERLOAD]system busy, too many queries wait for others to end";
        return node.refuse(to, &Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
    };
    let node = Rc::clone(node);
    spawn("query", async move {
        let _turn = Rc::clone(&node.finds.turns).acquire().await;
        match asked {
            // Nobody is there any more to be told.
            _ if node.registry.get(to.conn).is_none() => (),
            Asked::Keys(what) => query(&node, to, what).await,
            Asked::Position(position) => view_at(&node, to, position).await,
        }
        drop(place);
    })
    .detach();
}

enum Asked {
    Keys(FindJob),
    Position(i64),
}

/// The queries of one executor's connections. A few are under way at a time; others wait for their turn.
#[derive(Debug)]
pub struct Finds {
    turns: Rc<Semaphore>,
    asked: Rc<Cell<usize>>,
}

impl Default for Finds {
    fn default() -> Self {
        Self { turns: Semaphore::new(FINDS_MAX), asked: Rc::default() }
    }
}

/// A query that is under way or waits, until it is dropped.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Finds {
    /// A place for one more; `None` if too many wait.
    fn join(&self) -> Option<Place> {
        let asked = self.asked.get();
        (asked < FINDS_MAX + FINDS_WAITING_MAX).then(|| {
            self.asked.set(asked + 1);
            Place(Rc::clone(&self.asked))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn query_of(settings: &Settings, view: &HeaderView<'_>) -> Result<FindJob, Refusal> {
    let header = QueryMessage::decode(view)?;
    let asked = if header.unique_key_query {
        settings.unique_query_max
    } else {
        let negative = |_| Refusal::failed(format!("maxNum is {}: ask for one message at least", header.max_num));
        usize::try_from(header.max_num).map_err(negative)?
    };
    Ok(FindJob {
        kind: kind(header.index_type.as_deref()),
        topic: header.topic,
        key: header.key,
        max: asked.min(settings.query_messages_max),
        begin_ms: header.begin_timestamp,
        end_ms: header.end_timestamp,
    })
}

/// Only an index type tells the kinds of keys apart. `_UNIQUE_KEY_QUERY` does not: it says how many messages are enough.
fn kind(index_type: Option<&str>) -> KeyKind {
    match index_type {
        Some("U") => KeyKind::Unique,
        Some("K") => KeyKind::Business,
        _ => KeyKind::Either,
    }
}

/// The messages with a key in one log of this executor.
pub async fn find(node: &Rc<Node>, log: u16, what: &FindJob) -> Told {
    let Some(log) = node.log(log) else { return Told::Failed(format!("log shard {log} is not open")) };
    let query = KeyQuery {
        topic: &what.topic,
        key: &what.key,
        kind: what.kind,
        max: what.max,
        max_bytes: QUERY_BYTES_MAX,
        begin_ms: what.begin_ms,
        end_ms: what.end_ms,
    };
    match log.shard.query(&query).await {
        Ok(found) => Told::Found(found, log.shard.last_key()),
        Err(error) => {
            tracing::error!(topic = %what.topic, key = %what.key, %error, "messages could not be looked for by key");
            Told::Failed(error.to_string())
        }
    }
}

async fn query(node: &Rc<Node>, to: Answer, what: FindJob) {
    let what = Arc::new(what);
    let asked: Vec<_> = (0..node.log_shards())
        .map(|log| {
            let (node, what) = (Rc::clone(node), Arc::clone(&what));
            spawn("query of a log", async move { node.ask(node.executor_of(log), Ask::Find { log, what }).await })
        })
        .collect();
    let (mut all, mut last) = (Vec::new(), None);
    for answer in asked {
        match answer.await {
            Told::Found(found, its_last) => {
                all.extend(found);
                last = its_last.map(|(position, ms)| (ms, position)).max(last);
            }
            other => return node.refuse(to, &other.unexpected()),
        }
    }
    let records = choose(all, what.max);
    // Nothing is known about an index in which nothing was found.
    let last = last.filter(|_| !records.is_empty());
    node.write_long(to, |out| write(to, &records, last, out));
}

/// The newest, as many as are wanted and fit, in the order in which they were stored.
fn choose(mut all: Vec<Found>, max: usize) -> Vec<Slice> {
    all.sort_by_key(|found| std::cmp::Reverse((found.store_ms, found.position)));
    let mut bytes = 0;
    let fitting = all.into_iter().take(max).take_while(|found| {
        bytes += found.record.len() as u64;
        bytes <= QUERY_BYTES_MAX
    });
    let mut records: Vec<Slice> = fitting.map(|found| found.record).collect();
    records.reverse();
    records
}

fn write(to: Answer, records: &[Slice], last: Option<(i64, Position)>, out: &mut Outbox) {
    let not_found = records.is_empty().then_some("can not find message, maybe time range not correct");
    let code = if records.is_empty() { ResponseCode::QUERY_NOT_FOUND } else { ResponseCode::SUCCESS };
    let (ms, position) = last.map_or((0, 0), |(ms, position)| (ms, position.to_wire()));
    out.write(|bytes| {
        let mut writer = ReplyHead { code: code.0, opaque: to.opaque, remark: not_found }.begin(bytes);
        writer.i64("indexLastUpdateTimestamp", ms);
        writer.i64("indexLastUpdatePhyoffset", position);
        log_frame_error(writer.finish(records.iter().map(|record| record.len()).sum()));
    });
    for record in records {
        out.push(record.clone());
    }
}

/// The message at a position of a log of this executor.
pub async fn view(node: &Rc<Node>, position: Position) -> Told {
    let number = u16::from(position.shard().get());
    let Some(log) = node.log(number) else { return Told::Failed(format!("log shard {number} is not open")) };
    if let Err(why) = log.readable(position).await {
        return Told::Failed(why.to_string());
    }
    match log.shard.record_near(position).await {
        Ok(found) => Told::Viewed(found),
        Err(error) => {
            tracing::error!(%position, %error, "a message could not be looked at");
            Told::Failed(error.to_string())
        }
    }
}

async fn view_at(node: &Rc<Node>, to: Answer, asked: i64) {
    let position = Position::from_wire(asked).filter(|position| u16::from(position.shard().get()) < node.log_shards());
    let told = match position {
        Some(position) => {
            let executor = node.executor_of(u16::from(position.shard().get()));
            node.ask(executor, Ask::View { position }).await
        }
        None => Told::Viewed(None),
    };
    match told {
        Told::Viewed(Some(record)) => node.write_long(to, |out| {
            out.write(|bytes| {
                let head = ReplyHead { code: ResponseCode::SUCCESS.0, opaque: to.opaque, remark: None };
                log_frame_error(head.begin(bytes).finish(record.len()));
            });
            out.push(record);
        }),
        Told::Refused(refusal) => node.refuse(to, &refusal),
        Told::Failed(why) => node.refuse(to, &Refusal::failed(why)),
        _ => node.refuse(to, &Refusal::failed(format!("can not find message by the offset, {asked}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_queries_are_taken_in_and_have_their_turn_and_a_further_one_when_one_has_ended() {
        let finds = Finds::default();
        let mut places: Vec<_> = (0..FINDS_MAX + FINDS_WAITING_MAX).map(|_| finds.join().unwrap()).collect();
        assert!(finds.join().is_none());
        places.pop();
        let one_more = finds.join().unwrap();
        assert!(finds.join().is_none());
        drop((one_more, places));
        assert_eq!(finds.asked.get(), 0);
        let turns: Vec<_> = (0..FINDS_MAX).map(|_| finds.turns.try_acquire().unwrap()).collect();
        assert!(finds.turns.try_acquire().is_none(), "{} have their turn at a time", turns.len());
    }
}
