//! Whole runs of `bench transactions` and `bench timers` against a broker that is played by the test, honest or not.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod played;

use std::time::{SystemTime, UNIX_EPOCH};

use played::{Plays, Served, check_finding, record, reply_to, run, topic_config};
use ringmq_protocol::command::Command;

/// How the broker fails, if it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Acknowledges one commit, or one timed message, and forgets it.
    Forgets,
    /// Delivers one message twice.
    Doubles,
    /// Delivers a message whose transaction was rolled back.
    Keeps,
    /// Delivers one message long before its time.
    Early,
    /// Does not end one transaction and says why.
    Refuses,
}

const QUEUES: usize = 2;
/// The request at which it fails.
const FAILS_AT: usize = 50;

#[derive(Default)]
struct Broker {
    fault: Option<Fault>,
    /// Queue and body, by the position that is told.
    halves: Vec<(usize, Vec<u8>)>,
    ends: usize,
    sends: usize,
    /// Due time, queue and body of those that are not delivered yet.
    timed: Vec<(u128, usize, Vec<u8>)>,
    bodies: [Vec<Vec<u8>>; QUEUES],
}

impl Broker {
    fn start(fault: Fault) -> String {
        played::start(Broker { fault: Some(fault), ..Broker::default() })
    }

    fn fails(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn deliver(&mut self, queue: usize, body: Vec<u8>, count: usize) {
        self.bodies[queue].extend(vec![body; count]);
    }

    fn end(&mut self, position: usize, mut commit: bool) -> Result<(), ()> {
        self.ends += 1;
        let (queue, body) = self.halves[position].clone();
        let mut count = 1;
        // Whatever the first fitting end is, from there on.
        if self.ends >= FAILS_AT {
            match self.fault {
                Some(Fault::Refuses) => {
                    self.fault = None;
                    return Err(());
                }
                Some(Fault::Forgets) if commit => (count, self.fault) = (0, None),
                Some(Fault::Doubles) if commit => (count, self.fault) = (2, None),
                Some(Fault::Keeps) if !commit => (commit, self.fault) = (true, None),
                _ => {}
            }
        }
        if commit {
            self.deliver(queue, body, count);
        }
        Ok(())
    }

    fn time(&mut self, queue: usize, mut due: u128, body: &[u8]) {
        self.sends += 1;
        let is_at = self.sends == FAILS_AT;
        let count = match self.fault {
            Some(Fault::Forgets) if is_at => 0,
            Some(Fault::Doubles) if is_at => 2,
            _ => 1,
        };
        if is_at && self.fails(Fault::Early) {
            due = 0;
        }
        self.timed.extend(vec![(due, queue, body.to_vec()); count]);
    }

    fn release(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let (due, waiting) = std::mem::take(&mut self.timed).into_iter().partition(|(due, ..)| *due <= now);
        self.timed = waiting;
        for (_, queue, body) in due {
            self.deliver(queue, body, 1);
        }
    }
}

impl Plays for Broker {
    fn play(&mut self, request: &Command, content: &[u8]) -> Served {
        let mut reply = reply_to(request);
        let mut body = Vec::new();
        let number = |name| request.ext(name).unwrap().parse::<usize>().unwrap();
        let mut put = |name: &str, value: String| reply.ext.push((name.to_owned(), value));
        match request.code {
            310 => {
                let queue = number("e");
                let properties = request.ext("i").unwrap();
                let due = properties.split('\u{2}').find_map(|one| one.strip_prefix("TIMER_DELIVER_MS\u{1}"));
                if let Some(due) = due {
                    self.time(queue, due.parse().unwrap(), content);
                } else {
                    assert!(properties.contains("TRAN_MSG\u{1}true") && request.ext("f") == Some("4"));
                    self.halves.push((queue, content.to_vec()));
                }
                let position = self.halves.len().saturating_sub(1);
                put("queueId", queue.to_string());
                put("queueOffset", position.to_string());
                put("msgId", format!("7F00000100002A9F{position:016X}"));
            }
            37 => {
                assert_eq!(request.ext("tranStateTableOffset"), request.ext("commitLogOffset"));
                let commit = request.ext("commitOrRollback") == Some("8");
                if self.end(number("commitLogOffset"), commit).is_err() {
                    (reply.code, reply.remark) = (1, Some("cannot be ended".to_owned()));
                }
            }
            30 => put("offset", self.bodies[number("queueId")].len().to_string()),
            31 => put("offset", "0".to_owned()),
            351 => body = topic_config(6, QUEUES),
            11 => {
                self.release();
                let (queue, begin) = (number("queueId"), number("queueOffset"));
                let found = &self.bodies[queue][begin..];
                let found = &found[..found.len().min(number("maxMsgNums"))];
                for (offset, one) in (begin as i64..).zip(found) {
                    body.extend(record(queue as i32, offset, &[], one));
                }
                put("nextBeginOffset", (begin + found.len()).to_string());
                reply.code = if found.is_empty() { 19 } else { 0 };
            }
            other => panic!("code {other}"),
        }
        Served::Answer(reply, body)
    }
}

fn transactions(fault: Fault) -> serde_json::Value {
    let addr = Broker::start(fault);
    run(&format!(
        "transactions --broker {addr} --queues {QUEUES} --closed 4 -c 3 --size 40 --roll-back 0.3 --patience 0.5 \
         --seconds 0.4 --warmup 0.1"
    ))
}

fn timers(fault: Fault) -> serde_json::Value {
    let addr = Broker::start(fault);
    run(&format!(
        "timers --broker {addr} --queues {QUEUES} --closed 2 -c 3 --size 40 --due-rate 400 --ahead 1 --patience 1 \
         --seconds 0.5 --warmup 0"
    ))
}

#[test]
fn an_honest_broker_passes() {
    let report = transactions(Fault::None);
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    let count = |name: &str| report["figures"][name].as_u64().unwrap();
    assert!(count("committed") > 100 && count("rolled_back") > 30);
    assert_eq!(count("seen"), count("committed"));
    let report = timers(Fault::None);
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    assert_eq!(report["figures"]["delivered"], 200);
}

#[test]
fn a_message_that_was_promised_and_does_not_come_fails() {
    check_finding(&transactions(Fault::Forgets), "1 messages that were promised to consumers did not come");
    check_finding(&timers(Fault::Forgets), "1 messages that were promised to consumers did not come");
}

#[test]
fn a_message_that_comes_twice_fails() {
    check_finding(&transactions(Fault::Doubles), "1 messages came more than once");
    check_finding(&timers(Fault::Doubles), "1 messages came more than once");
}

#[test]
fn a_message_that_was_rolled_back_and_comes_fails() {
    check_finding(&transactions(Fault::Keeps), "1 messages that were rolled back came");
}

#[test]
fn a_transaction_that_is_not_ended_fails_with_the_remark() {
    check_finding(&transactions(Fault::Refuses), "code 1 cannot be ended");
}

#[test]
fn a_message_before_its_time_fails() {
    check_finding(&timers(Fault::Early), "1 messages came before they were due");
}
