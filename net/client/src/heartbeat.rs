//! Heartbeats: what keeps a client a member of its groups at every broker it uses. One thread a client, which sleeps
//! between beats and ends with the client.
//!
//! A broker forgets a client with its connection, so that a lost one is followed by a heartbeat at once. Several brokers
//! are told at a time, and those first that answered before: one that cannot be reached keeps no other waiting. `table`
//! knows who is due.

mod table;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringmq_protocol::body::HeartbeatData;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::header::UnregisterClient;

use self::table::{HEARTBEAT_INTERVAL, Table};
use crate::conn::Request;
use crate::driver::blocking::{Remoting, lock};
use crate::error::{Error, Result};
use crate::route::Routes;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Brokers that are told at a time.
const AT_A_TIME: usize = 8;

/// What the next heartbeat says.
pub(crate) type Content = dyn Fn() -> HeartbeatData + Send + Sync;

/// The brokers of a topic that are to know a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    Masters,
    All,
}

enum Word {
    /// Something is due.
    Beat,
    /// The routes of the followed topics are to be looked at.
    Look,
    Stop,
}

pub(crate) struct Heart {
    shared: Arc<Shared>,
    words: Sender<Word>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    remoting: Remoting,
    routes: Routes,
    content: Box<Content>,
    brokers: Arc<Mutex<Table>>,
    /// Topics whose brokers get heartbeats, also those that the topics are given later.
    followed: Mutex<BTreeMap<String, Whom>>,
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart").field("brokers", &*lock(&self.shared.brokers)).finish_non_exhaustive()
    }
}

impl Heart {
    pub(crate) fn start(remoting: Remoting, routes: Routes, content: Box<Content>) -> Result<Heart> {
        let (words, heard) = mpsc::channel();
        let brokers = Arc::new(Mutex::new(Table::default()));
        let (known, on_lost) = (Arc::clone(&brokers), words.clone());
        remoting.on_lost(Box::new(move |addr| {
            lock(&known).lost(addr, Instant::now());
            // A client that has ended has no heartbeats.
            let _ = on_lost.send(Word::Beat);
        }));
        let shared = Arc::new(Shared { remoting, routes, content, brokers, followed: Mutex::default() });
        let beating = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ringmq-heartbeat".to_owned())
            .spawn(move || beating.run(&heard))
            .map_err(Error::Thread)?;
        Ok(Heart { shared, words, thread: Some(thread) })
    }

    /// From now on those brokers get heartbeats. Those that had none yet get the first one before this returns; one that
    /// fails is tried again by the heart's thread.
    pub(crate) fn introduce<'a>(&self, addrs: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        let fresh: Vec<String> = {
            let mut brokers = lock(&self.shared.brokers);
            addrs.filter(|addr| brokers.name(addr, now)).map(str::to_owned).collect()
        };
        // Its failures have been logged.
        let _ = self.shared.beat_each(&fresh, TIMEOUT);
        self.say(Word::Beat);
    }

    /// From now on those brokers get heartbeats. Those that do not know this client, because they are new or their connection
    /// ended, get one before this returns; one that does not take it in this time is tried again by the heart's thread. Of those
    /// that failed last only `first` is waited for.
    pub(crate) fn make_known<'a>(&self, first: &str, addrs: impl Iterator<Item = &'a str>, patience: Duration) {
        let now = Instant::now();
        let unsure: Vec<String> = {
            let mut brokers = lock(&self.shared.brokers);
            let mut is_unsure = |addr: &str| brokers.name(addr, now) || brokers.is_unsure(addr, addr == first);
            addrs.filter(|addr| is_unsure(addr)).map(str::to_owned).collect()
        };
        if !unsure.is_empty() {
            // Its failures have been logged.
            let _ = self.shared.beat_each(&unsure, patience.min(TIMEOUT));
            self.say(Word::Beat);
        }
    }

    /// From now on those brokers get heartbeats, each one before this returns. The last failure, if none of them took it.
    pub(crate) fn tell<'a>(&self, addrs: impl Iterator<Item = &'a str>) -> Result<()> {
        let now = Instant::now();
        let all: Vec<String> = addrs.map(str::to_owned).collect();
        all.iter().for_each(|addr| {
            lock(&self.shared.brokers).name(addr, now);
        });
        let told = self.shared.beat_each(&all, TIMEOUT);
        self.say(Word::Beat);
        told
    }

    /// From now on that broker gets heartbeats, the first one soon, from the heart's own thread.
    pub(crate) fn introduce_soon(&self, addr: &str) {
        let is_fresh = lock(&self.shared.brokers).name_due(addr, Instant::now());
        if is_fresh {
            self.say(Word::Beat);
        }
    }

    /// From now on the brokers of the topic get heartbeats, from the heart's own thread, also those that its route names
    /// later.
    pub(crate) fn follow(&self, topic: &str, whom: Whom) {
        lock(&self.shared.followed).insert(topic.to_owned(), whom);
        self.say(Word::Look);
    }

    /// Tells all brokers soon that something has changed.
    pub(crate) fn beat_soon(&self) {
        lock(&self.shared.brokers).hasten(Instant::now());
        self.say(Word::Beat);
    }

    /// Whether the broker took its last heartbeat.
    pub(crate) fn answers(&self, addr: &str) -> bool {
        lock(&self.shared.brokers).answers(addr)
    }

    /// Leaves the groups at every broker.
    pub(crate) fn unregister(&self, header: &UnregisterClient) {
        let request = Request::new(RequestCode::UNREGISTER_CLIENT).with_ext(header.to_ext());
        lock(&self.shared.followed).clear();
        let brokers = lock(&self.shared.brokers).drain();
        several_at_a_time(&brokers, |addr| {
            if let Err(error) = self.shared.remoting.call(addr, &request, TIMEOUT) {
                tracing::debug!(%error, "a broker was not told that this client leaves; it will notice");
            }
        });
    }

    fn say(&self, word: Word) {
        // The thread ends only with this struct.
        let _ = self.words.send(word);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.say(Word::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, heard: &Receiver<Word>) {
        let mut look_at = Instant::now() + HEARTBEAT_INTERVAL;
        loop {
            let next = lock(&self.brokers).next_due().map_or(look_at, |due| due.min(look_at));
            match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Word::Look) => look_at = Instant::now(),
                Ok(Word::Beat) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if look_at <= Instant::now() {
                self.look();
                look_at = Instant::now() + HEARTBEAT_INTERVAL;
            }
            let due = lock(&self.brokers).take_due(Instant::now());
            // Its failures have been logged.
            let _ = self.beat_each(&due, TIMEOUT);
        }
    }

    /// Names the brokers of the topics that are followed.
    fn look(&self) {
        let followed = lock(&self.followed).clone();
        for (topic, whom) in followed {
            match self.routes.get(&topic) {
                Ok(Some(route)) => {
                    let (now, mut brokers) = (Instant::now(), lock(&self.brokers));
                    let mut name = |addr: &str| {
                        brokers.name_due(addr, now);
                    };
                    match whom {
                        Whom::Masters => route.masters().for_each(|(_, addr)| name(addr)),
                        Whom::All => route.addrs().for_each(name),
                    }
                }
                Ok(None) => tracing::debug!(topic, "no broker has the topic yet, none is told of this client"),
                Err(error) => tracing::warn!(topic, %error, "the brokers of a topic cannot be told of this client yet"),
            }
        }
    }

    /// The last failure, if none of them took the heartbeat.
    fn beat_each(&self, addrs: &[String], timeout: Duration) -> Result<()> {
        if addrs.is_empty() {
            return Ok(());
        }
        let request = Request::new(RequestCode::HEART_BEAT).with_body((self.content)().to_vec());
        let (taken, failed) = (Mutex::new(false), Mutex::new(None));
        several_at_a_time(addrs, |addr| {
            let answer = self.remoting.call(addr, &request, timeout);
            lock(&self.brokers).answered(addr, answer.is_ok(), Instant::now());
            match answer {
                Ok(_) => *lock(&taken) = true,
                Err(error) => {
                    tracing::warn!(%error, "a heartbeat failed, it is tried again");
                    *lock(&failed) = Some(error);
                }
            }
        });
        match failed.into_inner().ok().flatten() {
            Some(error) if !*lock(&taken) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Ends when all are done. The caller's thread does all that no other thread could be started for.
fn several_at_a_time(addrs: &[String], act: impl Fn(&str) + Sync) {
    let left = Mutex::new(addrs.iter());
    let work = || {
        loop {
            let next = lock(&left).next();
            let Some(addr) = next else { return };
            act(addr);
        }
    };
    thread::scope(|scope| {
        for _ in 1..addrs.len().min(AT_A_TIME) {
            if thread::Builder::new().name("ringmq-heartbeat".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}
