//! Whole runs of `bench send` and `bench consume` against a broker that is played by the test, honest or not. What the
//! audit is for is that no dishonest run passes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod played;

use clap::Parser;
use played::{Cli, Plays, Served, check_finding, record, reply_to, run, topic_config};
use ringmq_protocol::batch::BatchReader;
use ringmq_protocol::command::Command;

/// How the broker fails, if it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Gives one offset out twice.
    Twice,
    /// Leaves an offset out.
    Gap,
    /// Forgets its last acknowledged message.
    Loses,
    Busy,
    HangsUp,
    Silent,
    /// Is gone after the first sends, and stays so.
    Dies,
    /// Does not deliver one message.
    Skips,
    /// Gives two offsets out in the wrong order.
    Disorders,
    /// Drops one message that asks for no answer.
    Drops,
    /// Its topics may not be written.
    ReadOnly,
}

const QUEUES: usize = 3;

struct Broker {
    fault: Fault,
    next: [i64; QUEUES],
    sends: u64,
}

impl Broker {
    fn start(fault: Fault, stored: i64) -> String {
        played::start(Broker { fault, next: [stored; QUEUES], sends: 0 })
    }

    /// `None`: no answer and the end of the connection.
    fn answer(&mut self, request: &Command, content: &[u8]) -> Option<(Command, Vec<u8>)> {
        let mut reply = reply_to(request);
        let mut body = Vec::new();
        let queue = |name| request.ext(name).unwrap().parse::<usize>().unwrap();
        let mut put = |name: &str, value: i64| reply.ext.push((name.to_owned(), value.to_string()));
        match request.code {
            310 | 320 => {
                self.sends += 1;
                let queue = queue("e");
                let batch = request.ext("m") == Some("true");
                let count = if batch { BatchReader::new(content, 4096).check().unwrap() as i64 } else { 1 };
                let mut offset = self.next[queue];
                if self.sends == 100 {
                    match self.fault {
                        Fault::Twice => self.next[queue] -= 1,
                        Fault::Gap => self.next[queue] += 1,
                        Fault::HangsUp => return None,
                        Fault::Busy => {
                            reply.code = 2;
                            reply.remark = Some("[TIMEOUT_CLEAN_QUEUE]broker busy".to_owned());
                            return Some((reply, body));
                        }
                        Fault::Drops => return None,
                        _ => {}
                    }
                    offset = self.next[queue];
                }
                if self.fault == Fault::Disorders && (100..102).contains(&self.sends) {
                    offset += if self.sends == 100 { 1 } else { -1 };
                }
                put("queueId", queue as i64);
                put("queueOffset", offset);
                self.next[queue] += count;
            }
            30 => put("offset", self.next[queue("queueId")] - i64::from(self.fault == Fault::Loses && self.sends > 0)),
            31 => put("offset", 0),
            351 => {
                let perm = if self.fault == Fault::ReadOnly { 4 } else { 6 };
                body = topic_config(perm, QUEUES);
            }
            11 => {
                let begin: i64 = request.ext("queueOffset").unwrap().parse().unwrap();
                let count: i64 = request.ext("maxMsgNums").unwrap().parse().unwrap();
                for offset in begin..begin + count {
                    if self.fault != Fault::Skips || offset != 40 {
                        body.extend(record(queue("queueId") as i32, offset, &[], b"a body"));
                    }
                }
                put("nextBeginOffset", begin + count);
            }
            other => panic!("code {other}"),
        }
        Some((reply, body))
    }
}

impl Plays for Broker {
    fn play(&mut self, request: &Command, content: &[u8]) -> Served {
        if self.fault == Fault::Dies && self.sends >= 100 {
            return Served::HangUp;
        }
        if self.fault == Fault::Silent && request.code == 310 {
            return Served::Silence;
        }
        match self.answer(request, content) {
            Some((reply, body)) => Served::Answer(reply, body),
            // Nobody waits for it.
            None if request.is_oneway() => Served::Silence,
            None => Served::HangUp,
        }
    }
}

fn send(fault: Fault, more: &str) -> serde_json::Value {
    let addr = Broker::start(fault, 50);
    let rate = if more.contains("--rate") { "" } else { "--closed 4" };
    let more = if more.contains("-c ") { more } else { &format!("-c 4 -i 4 --patience 0.5 {rate} {more}") };
    run(&format!("send --broker {addr} --queues {QUEUES} --seconds 0.4 --warmup 0.1 {more}"))
}

#[test]
fn an_honest_broker_passes_with_either_header_and_loop() {
    for more in [
        "",
        "--header rocketmq",
        "--rate 2000",
        "--rate 2000 --arrivals poisson",
        "--wait spin --properties-like none",
        "--size 10..300 --keys 5 --tags 3 --property a=b",
        "--compress --size 4096",
        "--ordered",
        "--batch 7 --keys 3",
    ] {
        let report = send(Fault::None, more);
        assert_eq!(report["findings"], serde_json::json!([]), "{more}: {report:#}");
        assert_eq!(report["requests"], report["successes"]);
        assert!(report["requests"].as_u64().unwrap() > 100);
        assert!(report["latency_us"]["count"].as_u64().unwrap() > 50);
    }
}

#[test]
fn an_open_loop_sends_what_was_ordered() {
    let report = send(Fault::None, "--rate 1000");
    assert_eq!(report["requests"], 500);
    assert!(report["generator_lateness_us"]["count"].as_u64().unwrap() > 0);
}

#[test]
fn a_rate_that_the_broker_cannot_take_fails() {
    // One request under way on one connection, at ten million a second.
    let report = send(Fault::None, "--rate 10000000 -c 1 -i 1 --patience 0.5");
    check_finding(&report, "the rate could not be kept");
    assert_eq!(report["unanswered"], 0);
}

#[test]
fn an_offset_given_out_twice_fails() {
    check_finding(&send(Fault::Twice, ""), "given out twice");
}

#[test]
fn an_offset_left_out_fails_unless_others_send_too() {
    check_finding(&send(Fault::Gap, ""), "left 1 offsets out");
    assert_eq!(send(Fault::Gap, "--shared-topic")["findings"], serde_json::json!([]));
}

#[test]
fn an_acknowledged_message_that_is_not_there_fails() {
    check_finding(&send(Fault::Loses, ""), "but has only");
}

#[test]
fn a_refusal_fails_with_its_remark() {
    let report = send(Fault::Busy, "");
    check_finding(&report, "code 2 [TIMEOUT_CLEAN_QUEUE]broker busy");
    assert_eq!(report["refused"]["2"]["count"], 1);
}

#[test]
fn offsets_of_a_key_in_the_wrong_order_fail() {
    // One key on one connection; every offset is given out, and once.
    let report = send(Fault::Disorders, "-c 1 --closed 1 --ordered");
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{report:#}");
    check_finding(&report, "1 messages have a lower offset than an earlier one of their key");
}

#[test]
fn one_way_messages_are_counted_where_they_arrive() {
    let report = send(Fault::None, "--one-way --rate 2000");
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    assert_eq!((&report["requests"], &report["successes"]), (&1000.into(), &0.into()));
    assert_eq!(report["latency_us"]["count"], 0);
    let report = send(Fault::Drops, "--one-way --rate 2000");
    check_finding(&report, "1 of 1000 one-way messages did not arrive");
}

#[test]
fn a_lost_connection_is_a_partial_run() {
    let report = send(Fault::HangsUp, "");
    check_finding(&report, "partial run");
    check_finding(&report, "never answered");
    assert_eq!(report["lost_connections"], 1);
}

#[test]
fn a_broker_that_dies_leaves_a_partial_report() {
    let report = send(Fault::Dies, "");
    check_finding(&report, "4 connections broke");
    check_finding(&report, "the audit is incomplete");
    assert!(report["successes"].as_u64().unwrap() >= 50);
}

#[test]
fn silence_is_noticed() {
    let report = send(Fault::Silent, "");
    check_finding(&report, "16 requests were never answered");
    check_finding(&report, "no request succeeded");
    // All of it was spent waiting.
    assert!(report["generator_busy_share"].as_f64().unwrap() < 0.2);
}

fn consume(fault: Fault, more: &str) -> serde_json::Value {
    let addr = Broker::start(fault, 100);
    run(&format!("consume --broker {addr} -c 4 -i 2 --parts 2 --verify-crc --patience 0.5 {more}"))
}

#[test]
fn everything_is_read_once() {
    let report = consume(Fault::None, "");
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    // Parts of 50 messages, 32 at once.
    assert_eq!(report["successes"], QUEUES * 2 * 2);
    assert_eq!(report["setup"]["more"]["messages"], QUEUES * 100);
    let again = consume(Fault::None, "--seconds 0.3 --pull-batch 10");
    assert_eq!(again["findings"], serde_json::json!([]), "{again:#}");
    assert!(again["successes"].as_u64().unwrap() > 60);
}

#[test]
fn a_message_that_is_not_delivered_fails() {
    let report = consume(Fault::Skips, "");
    check_finding(&report, "not the next of its queue");
    check_finding(&report, "messages were there and were not delivered");
}

#[test]
fn what_cannot_be_run_says_why() {
    let fails = |line: &str| {
        let args = ["bench"].into_iter().chain(line.split_whitespace());
        format!("{:#}", ringmq_bench::run(Cli::parse_from(args).args).unwrap_err())
    };
    let addr = Broker::start(Fault::None, 0);
    assert!(fails(&format!("send --broker {addr} --queues 9")).contains("has 3 queues"));
    assert!(fails(&format!("send --broker {addr} --queues 3 --cpu 1-0")).contains("--cpu"));
    assert!(fails(&format!("consume --broker {addr}")).contains("holds no message"));
    let error = fails("send --broker 127.0.0.1:1");
    assert!(error.contains("cannot connect") && error.contains("is the broker running"), "{error}");
    let addr = Broker::start(Fault::ReadOnly, 0);
    let error = fails(&format!("send --broker {addr} --queues 3"));
    assert!(error.contains("may not be written") && error.contains("updateTopicPerm"), "{error}");
}
