//! The routes a client knows. Whoever needs the route of a topic that is known has it at once, however old it is and
//! whatever the name servers do; one thread asks for all of them again from time to time, and soon where there is doubt. A
//! route is replaced by a newer one and never thrown away, because it is needed most when there is no newer one.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_protocol::names::AUTO_CREATE_TOPIC_KEY;

use super::{NameServers, ROUTE_AGE_MAX, Route, fetch_route};
use crate::driver::blocking::{Remoting, lock};
use crate::error::{Error, Result};

/// Routes that are kept at most; one more puts another one out.
const ROUTES_MAX: usize = 65_536;

/// Name servers are left alone for so long after the routes in doubt have been asked for, and after none could be reached.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_UNREACHABLE: Duration = Duration::from_secs(5);

/// The routes a client knows. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct Routes {
    shared: Arc<Shared>,
    wake: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    remoting: Remoting,
    names: NameServers,
    timeout: Duration,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    route: Arc<Route>,
    /// The topic does not exist yet; it will have so many queues a broker.
    model_queues: Option<i32>,
    /// When it is asked for again.
    due: Instant,
}

impl Routes {
    /// `timeout` is for one question to all name servers.
    pub fn start(remoting: Remoting, names: NameServers, timeout: Duration) -> Result<Routes> {
        let shared = Arc::new(Shared { remoting, names, timeout, known: Mutex::default() });
        let (wake, woken) = mpsc::channel();
        let keeping = Arc::clone(&shared);
        thread::Builder::new()
            .name("ringmq-routes".to_owned())
            .spawn(move || keeping.keep_fresh(&woken))
            .map_err(Error::Thread)?;
        Ok(Routes { shared, wake })
    }

    /// The name servers that it asks.
    pub fn names(&self) -> &NameServers {
        &self.shared.names
    }

    /// The route of a topic that exists. Only one that is not known yet is waited for.
    pub fn get(&self, topic: &str) -> Result<Option<Arc<Route>>> {
        let known = lock(&self.shared.known)
            .get(topic)
            .filter(|known| known.model_queues.is_none())
            .map(|known| Arc::clone(&known.route));
        match known {
            Some(route) => Ok(Some(route)),
            None => self.shared.learn(topic, None, self.shared.timeout),
        }
    }

    /// The route to send by: as [`get`](Routes::get), or the one that a new topic will have, with at most `queues` queues a
    /// broker. One that is not known yet is waited for as long as `timeout`.
    pub fn to_write(&self, topic: &str, queues: i32, timeout: Duration) -> Result<Option<Arc<Route>>> {
        let known = lock(&self.shared.known).get(topic).map(|known| Arc::clone(&known.route));
        match known {
            Some(route) => Ok(Some(route)),
            None => self.shared.learn(topic, Some(queues), timeout),
        }
    }

    /// The route may have changed: it is asked for soon, and used until there is another one.
    pub fn doubt(&self, topic: &str) {
        let now = Instant::now();
        let mut known = lock(&self.shared.known);
        if let Some(known) = known.get_mut(topic).filter(|known| known.due > now) {
            known.due = now;
            // The thread ends only with the last of these.
            let _ = self.wake.send(());
        }
    }
}

impl Shared {
    fn learn(&self, topic: &str, model_queues: Option<i32>, timeout: Duration) -> Result<Option<Arc<Route>>> {
        let Some((route, model_queues)) = self.fetch(topic, model_queues, timeout)? else { return Ok(None) };
        Ok(Some(self.keep(topic, route, model_queues)))
    }

    fn keep(&self, topic: &str, route: Route, model_queues: Option<i32>) -> Arc<Route> {
        let route = Arc::new(route);
        let mut known = lock(&self.known);
        if known.len() >= ROUTES_MAX
            && !known.contains_key(topic)
            && let Some(other) = known.keys().next().cloned()
        {
            known.remove(&other);
        }
        let due = Instant::now() + ROUTE_AGE_MAX;
        known.insert(topic.to_owned(), Known { route: Arc::clone(&route), model_queues, due });
        route
    }

    /// The route and, of a topic that does not exist yet, the queues it will have.
    fn fetch(&self, topic: &str, model_queues: Option<i32>, timeout: Duration) -> Result<Option<(Route, Option<i32>)>> {
        let deadline = Instant::now() + timeout;
        if let Some(route) = fetch_route(&self.remoting, &self.names, topic, timeout)? {
            return Ok(Some((route, None)));
        }
        let Some(queues) = model_queues else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        let model = fetch_route(&self.remoting, &self.names, AUTO_CREATE_TOPIC_KEY, left)?;
        Ok(model.map(|route| (route.modelled_on(topic, queues), Some(queues))))
    }

    /// Asks for what is due until nobody needs routes any more.
    fn keep_fresh(&self, woken: &Receiver<()>) {
        loop {
            match woken.recv_timeout(self.next_due().saturating_duration_since(Instant::now())) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let Some(pause) = self.ask_due(woken) else { continue };
            let until = Instant::now() + pause;
            loop {
                match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    // It stays due until the pause is over.
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn next_due(&self) -> Instant {
        let idle = Instant::now() + ROUTE_AGE_MAX;
        lock(&self.known).values().map(|known| known.due).min().map_or(idle, |due| due.min(idle))
    }

    /// How long to leave the name servers alone, if they were asked anything.
    fn ask_due(&self, woken: &Receiver<()>) -> Option<Duration> {
        let now = Instant::now();
        let due = lock(&self.known).iter().filter(|(_, known)| known.due <= now).map(due_topic).collect::<Vec<_>>();
        let mut pause = None;
        for (topic, model_queues) in due {
            if matches!(woken.try_recv(), Err(TryRecvError::Disconnected)) {
                break;
            }
            if let Err(error) = self.refresh(&topic, model_queues) {
                tracing::warn!(%error, "no name server can be reached, the routes that are known are used");
                return Some(PAUSE_UNREACHABLE);
            }
            pause = Some(PAUSE);
        }
        pause
    }

    /// Fails only when no name server can be reached.
    fn refresh(&self, topic: &str, model_queues: Option<i32>) -> Result<()> {
        let set_due = |due| {
            if let Some(known) = lock(&self.known).get_mut(topic) {
                known.due = due;
            }
        };
        // Before the question, so that doubt that comes meanwhile counts.
        set_due(Instant::now() + ROUTE_AGE_MAX);
        match self.fetch(topic, model_queues, self.timeout) {
            Ok(Some((route, model_queues))) => {
                if let Some(known) = lock(&self.known).get_mut(topic) {
                    (known.route, known.model_queues) = (Arc::new(route), model_queues);
                }
            }
            Ok(None) => tracing::debug!(topic, "no name server knows the topic any more, its last route is used"),
            Err(error) if error.is_unreachable() => {
                set_due(Instant::now());
                return Err(error);
            }
            Err(error) => tracing::warn!(topic, %error, "the route cannot be read, the last one is used"),
        }
        Ok(())
    }
}

fn due_topic((topic, known): (&String, &Known)) -> (String, Option<i32>) {
    (topic.clone(), known.model_queues)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use ringmq_protocol::body::TopicRouteData;

    use super::*;

    /// A name server that takes connections and never answers.
    fn silent() -> (TcpListener, NameServers) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let names = NameServers::new(&listener.local_addr().unwrap().to_string()).unwrap();
        (listener, names)
    }

    #[test]
    fn a_route_that_is_known_is_never_waited_for() {
        let (_listener, names) = silent();
        let routes = Routes::start(Remoting::default(), names, Duration::from_secs(600)).unwrap();
        routes.shared.keep("T", Route::new("T", TopicRouteData::default()), None);
        lock(&routes.shared.known).get_mut("T").unwrap().due = Instant::now();
        let _ = routes.wake.send(());
        let (sender, given) = mpsc::channel();
        thread::spawn(move || {
            routes.doubt("T");
            let _ = sender.send((routes.get("T"), routes.to_write("T", 4, Duration::from_secs(600))));
        });
        let (read, written) = given.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(read.unwrap().is_some() && written.unwrap().is_some());
    }

    #[test]
    fn a_topic_that_does_not_exist_yet_can_be_sent_to_and_not_read() {
        let (_listener, names) = silent();
        let routes = Routes::start(Remoting::default(), names, Duration::from_millis(50)).unwrap();
        routes.shared.keep("T", Route::new("T", TopicRouteData::default()), Some(4));
        assert!(routes.to_write("T", 4, Duration::from_millis(50)).unwrap().is_some());
        assert!(routes.get("T").unwrap_err().is_unreachable());
    }

    #[test]
    fn the_most_routes_that_there_may_be_are_kept() {
        let (_listener, names) = silent();
        let routes = Routes::start(Remoting::default(), names, Duration::from_secs(600)).unwrap();
        for number in 0..=ROUTES_MAX {
            routes.shared.keep(&format!("T{number}"), Route::new("T", TopicRouteData::default()), None);
        }
        assert_eq!(lock(&routes.shared.known).len(), ROUTES_MAX);
    }
}
