//! What a member asks of the brokers of a topic together: who else is in the group, and to remember how far it has got.
//! Brokers that take heartbeats come first, so that one that cannot be reached keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::mpsc;
use std::time::Instant;

use ringmq_protocol::body::{ConsumerIdList, MessageQueue};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::{ConsumerGroup, UpdateConsumerOffset};

use super::Member;
use crate::conn::Request;
use crate::driver::blocking::refused;
use crate::error::{Ability, Error, Result};

impl Member {
    /// Whether the queue's broker takes heartbeats.
    pub(crate) fn reaches(&self, queue: &MessageQueue) -> bool {
        self.master(queue).is_ok_and(|addr| self.session.heart.answers(&addr))
    }

    /// Sets how far the group has got in several queues at once: those first whose brokers answer, all of them within the
    /// time of one call. `told` gets the place of each that was set; the first failure is the result.
    pub(crate) fn update_offsets(&self, offsets: &[(&MessageQueue, i64)], mut told: impl FnMut(usize)) -> Result<()> {
        let code = RequestCode::UPDATE_CONSUMER_OFFSET;
        let deadline = Instant::now() + self.timeout;
        let mut order: Vec<usize> = (0..offsets.len()).collect();
        order.sort_by_cached_key(|at| !self.reaches(offsets[*at].0));
        let (sender, answers) = mpsc::channel();
        let (mut calls, mut unreached, mut outcome) = (BTreeMap::new(), BTreeSet::new(), Ok(()));
        for at in order {
            let (queue, offset) = offsets[at];
            // Its failure counts for all its queues.
            if unreached.contains(queue.broker_name.as_str()) {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = self.master(queue).and_then(|addr| {
                if left.is_zero() {
                    return Err(Error::Timeout { addr, request: code, after: self.timeout });
                }
                let call = self.session.remoting.ask_into(
                    &addr,
                    &self.offset_update(queue, offset),
                    left,
                    at,
                    sender.clone(),
                )?;
                Ok((addr, call))
            });
            match asked {
                Ok(asked) => drop(calls.insert(at, asked)),
                Err(error) => {
                    unreached.insert(queue.broker_name.as_str());
                    outcome = outcome.and(Err(error));
                }
            }
        }
        while !calls.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((at, answer)) = answers.recv_timeout(left) else { break };
            let Some((addr, _)) = calls.remove(&at) else { continue };
            let set = answer.and_then(|received| match ResponseCode(received.command.code) {
                ResponseCode::SUCCESS => {
                    told(at);
                    Ok(())
                }
                other => Err(refused(&addr, code, other, &received)),
            });
            outcome = outcome.and(set);
        }
        for (addr, call) in calls.into_values() {
            call.give_up();
            outcome = outcome.and(Err(Error::Timeout { addr, request: code, after: self.timeout }));
        }
        outcome
    }

    pub(super) fn offset_update(&self, queue: &MessageQueue, offset: i64) -> Request {
        let header = UpdateConsumerOffset {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset: Some(offset),
        };
        Request::new(RequestCode::UPDATE_CONSUMER_OFFSET).with_ext(header.to_ext())
    }

    /// The ids of the clients in the group, as the first broker of that topic knows them that says so.
    pub(crate) fn members(&self, topic: &str) -> Result<Vec<String>> {
        self.first_that_answers(topic, |addr| self.members_at(addr))
    }

    /// As [`members`](Member::members). A broker that does not count this client to the group, because it lost the
    /// connection, gets a heartbeat and is asked once more.
    pub(crate) fn members_and_me(&self, topic: &str) -> Result<Vec<String>> {
        self.first_that_answers(topic, |addr| {
            let members = self.members_at(addr);
            let is_settled = match &members {
                Ok(members) => members.iter().any(|member| member == self.client_id()),
                Err(error) => error.is_unreachable(),
            };
            if is_settled {
                return members;
            }
            self.session.heart.tell(iter::once(addr))?;
            self.members_at(addr)
        })
    }

    /// Asks the brokers of a topic one after another, those first that take heartbeats. The last failure, if all fail.
    fn first_that_answers<T>(&self, topic: &str, ask: impl Fn(&str) -> Result<T>) -> Result<T> {
        let route = self.route(topic)?;
        let mut addrs: Vec<&str> = route.addrs().collect();
        addrs.sort_by_key(|addr| !self.session.heart.answers(addr));
        let mut outcome = Err(Error::NoBroker { topic: topic.to_owned(), can: Ability::Read });
        for addr in addrs {
            outcome = ask(addr);
            match &outcome {
                Ok(_) => break,
                Err(error) => tracing::debug!(%error, "another broker of the topic is asked"),
            }
        }
        outcome
    }

    fn members_at(&self, addr: &str) -> Result<Vec<String>> {
        let header = ConsumerGroup { consumer_group: self.group.clone() };
        let code = RequestCode::GET_CONSUMER_LIST_BY_GROUP;
        let request = Request::new(code).with_ext(header.to_ext());
        let received = self.session.remoting.call(addr, &request, self.timeout)?;
        let list = ConsumerIdList::parse(&received.body).map_err(|e| Error::Reply {
            addr: addr.to_owned(),
            request: code,
            what: e.into(),
        })?;
        Ok(list.consumer_id_list)
    }
}
