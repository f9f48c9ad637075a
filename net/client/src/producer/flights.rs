//! Sends that nobody waits for: the caller writes the request, one thread of the producer takes the answers, tries
//! again where that helps, and tells what became of each. A bound says how many may be under way; a caller beyond it
//! waits for a place.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use super::SendReceipt;
use super::prepare::Prepared;
use super::sending::{Sending, Target, is_retried, left_until, receipt};
use crate::conn::Received;
use crate::driver::blocking::{Call, lock};
use crate::error::{Error, Result};

/// Told once what became of a send.
pub(crate) type OnSent = Box<dyn FnOnce(Result<SendReceipt>) + Send>;

struct Flight {
    prepared: Prepared,
    target: Target,
    call: Option<Call>,
    deadline: Instant,
    tries_left: u32,
    on_sent: OnSent,
}

enum Event {
    Answered(u64, Result<Received>),
    /// There is a deadline where there was none.
    Started,
    Stop,
}

pub(crate) struct Flights {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    teller: ThreadId,
}

struct Shared {
    sending: Arc<Sending>,
    under_way: Mutex<UnderWay>,
    /// Somebody has landed.
    landed: Condvar,
    events: Sender<Event>,
}

#[derive(Default)]
struct UnderWay {
    next_id: u64,
    flights: HashMap<u64, Flight>,
    /// Of every flight, the earliest first.
    deadlines: BTreeSet<(Instant, u64)>,
    /// Places taken: more than the flights for as long as one is tried again or told of.
    places: usize,
}

impl UnderWay {
    fn take(&mut self, id: u64) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        self.deadlines.remove(&(flight.deadline, id));
        Some(flight)
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").field("places", &lock(&self.shared.under_way).places).finish_non_exhaustive()
    }
}

impl Flights {
    pub(crate) fn start(sending: Arc<Sending>) -> Result<Flights> {
        let (events, incoming) = mpsc::channel();
        let shared = Arc::new(Shared { sending, under_way: Mutex::default(), landed: Condvar::new(), events });
        let running = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ringmq-async".to_owned())
            .spawn(move || running.run(&incoming))
            .map_err(Error::Thread)?;
        Ok(Flights { shared, teller: thread.thread().id(), thread: Some(thread) })
    }

    /// The thread that tells what became of sends.
    pub(crate) fn teller(&self) -> ThreadId {
        self.teller
    }

    /// Sends on the caller's thread as far as that goes; `on_sent` is called exactly once, from the flights' thread or,
    /// where no try gets off, from this one.
    pub(crate) fn send(&self, prepared: Prepared, on_sent: OnSent) -> Result<()> {
        let options = &self.shared.sending.options;
        let deadline = Instant::now() + options.send_timeout;
        // The thread that empties the places must not wait for one.
        if !self.is_own_thread() {
            self.shared.take_place(options.async_max.max(1), deadline)?;
        } else {
            lock(&self.shared.under_way).places += 1;
        }
        self.shared.launch(prepared, deadline, options.retries + 1, None, on_sent);
        Ok(())
    }

    fn is_own_thread(&self) -> bool {
        self.teller == thread::current().id()
    }
}

impl Drop for Flights {
    /// Waits until every send has been told of; none takes longer than a send may.
    fn drop(&mut self) {
        let own = self.is_own_thread();
        if !own {
            let mut under_way = lock(&self.shared.under_way);
            while under_way.places > 0 {
                under_way = self.shared.landed.wait(under_way).unwrap_or_else(PoisonError::into_inner);
            }
        }
        // The thread holds the receiver until it reads this.
        let _ = self.shared.events.send(Event::Stop);
        if let Some(thread) = self.thread.take().filter(|_| !own) {
            // What could panic there is caught there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn take_place(&self, places_max: usize, deadline: Instant) -> Result<()> {
        let mut under_way = lock(&self.under_way);
        while under_way.places >= places_max {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Full { places: places_max });
            }
            under_way = self.landed.wait_timeout(under_way, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        under_way.places += 1;
        Ok(())
    }

    /// Tries until one try has got off, or none can.
    fn launch(
        &self,
        mut prepared: Prepared,
        deadline: Instant,
        tries: u32,
        mut failed: Option<(String, Error)>,
        mut on_sent: OnSent,
    ) {
        for tries_left in (0..tries).rev() {
            if failed.is_some() && left_until(deadline).is_zero() {
                break;
            }
            let just_failed = failed.as_ref().map(|(name, _)| name.as_str());
            let mut target = match self.sending.target(&prepared.topic, just_failed, deadline) {
                Ok(target) => target,
                Err(error) => return self.land(on_sent, Err(failed.map_or(error, |(_, error)| error))),
            };
            let request = prepared.request(&self.sending.options, &target.queue);
            let addr = target.addr.clone();
            // In the table before the request is out: the answer may come at once.
            let id = self.take_off(Flight { prepared, target, call: None, deadline, tries_left, on_sent });
            let events = self.events.clone();
            let on_answer = move |answer| {
                // Without the thread nobody waits for it.
                let _ = events.send(Event::Answered(id, answer));
            };
            let (remoting, left) = (&self.sending.session.remoting, left_until(deadline));
            let error = match remoting.ask_then(&addr, &request, left, Box::new(on_answer)) {
                Ok(call) => {
                    self.sending.session.heart.introduce_soon(&addr);
                    match lock(&self.under_way).flights.get_mut(&id) {
                        Some(flight) => flight.call = Some(call),
                        // It was answered already, or its time was over before it was out.
                        None => call.give_up(),
                    }
                    return;
                }
                Err(error) => error,
            };
            // If it is not there any more, the thread was told that the connection ended, and goes on with it.
            let Some(back) = lock(&self.under_way).take(id) else { return };
            (prepared, target, on_sent) = (back.prepared, back.target, back.on_sent);
            if !is_retried(&error) {
                return self.land(on_sent, Err(error));
            }
            self.sending.failed(&prepared.topic, &target.queue.broker_name);
            failed = Some((target.queue.broker_name, error));
        }
        let error = failed.map_or_else(|| super::sending::no_broker(&prepared.topic), |(_, error)| error);
        self.land(on_sent, Err(error));
    }

    fn take_off(&self, flight: Flight) -> u64 {
        let (id, is_first) = {
            let mut under_way = lock(&self.under_way);
            under_way.next_id += 1;
            let id = under_way.next_id;
            under_way.deadlines.insert((flight.deadline, id));
            under_way.flights.insert(id, flight);
            (id, under_way.deadlines.first().is_some_and(|(_, first)| *first == id))
        };
        if is_first {
            // The thread waits for a later deadline or none. It reads until it is told to stop.
            let _ = self.events.send(Event::Started);
        }
        id
    }

    fn land(&self, on_sent: OnSent, result: Result<SendReceipt>) {
        if catch_unwind(AssertUnwindSafe(|| on_sent(result))).is_err() {
            tracing::error!("the function that takes the result of a send panicked");
        }
        lock(&self.under_way).places -= 1;
        self.landed.notify_all();
    }

    fn run(&self, events: &Receiver<Event>) {
        loop {
            let next = lock(&self.under_way).deadlines.first().map(|(at, _)| *at);
            let event = match next {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(Event::Answered(id, answer)) => {
                    let flight = lock(&self.under_way).take(id);
                    if let Some(flight) = flight {
                        self.answered(flight, answer);
                    }
                }
                Ok(Event::Started) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.expire(),
            }
        }
    }

    fn answered(&self, flight: Flight, answer: Result<Received>) {
        let Flight { prepared, target, deadline, tries_left, on_sent, .. } = flight;
        match answer.and_then(|received| receipt(&prepared, &target, &received)) {
            Err(error) if is_retried(&error) => {
                tracing::debug!(topic = prepared.topic, broker = target.queue.broker_name, %error, "a send failed");
                self.sending.failed(&prepared.topic, &target.queue.broker_name);
                self.launch(prepared, deadline, tries_left, Some((target.queue.broker_name, error)), on_sent);
            }
            Ok(receipt) => {
                self.sending.succeeded(&target.queue.broker_name);
                self.land(on_sent, Ok(receipt));
            }
            Err(error) => self.land(on_sent, Err(error)),
        }
    }

    /// A send whose time is over has no time for another try either.
    fn expire(&self) {
        let now = Instant::now();
        let over: Vec<Flight> = {
            let mut under_way = lock(&self.under_way);
            let over = under_way.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
            let over: Vec<u64> = over.collect();
            over.into_iter().filter_map(|id| under_way.take(id)).collect()
        };
        for flight in over {
            if let Some(call) = &flight.call {
                call.time_out();
            }
            self.sending.failed(&flight.prepared.topic, &flight.target.queue.broker_name);
            let (addr, request) = (flight.target.addr, flight.prepared.code);
            let after = self.sending.options.send_timeout;
            self.land(flight.on_sent, Err(Error::Timeout { addr, request, after }));
        }
    }
}
