//! Whole runs of `bench send` and `bench consume` against a broker that is played by the test, honest or not. What the
//! audit is for is that no dishonest run passes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

use clap::Parser;
use ringmq_protocol::batch::BatchReader;
use ringmq_protocol::command::{Command, FLAG_RESPONSE};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::RecordSpec;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: ringmq_bench::Args,
}

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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let broker = Arc::new(Mutex::new(Broker { fault, next: [stored; QUEUES], sends: 0 }));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let broker = Arc::clone(&broker);
                thread::spawn(move || serve(stream, &broker));
            }
        });
        addr
    }

    /// `None`: no answer and the end of the connection.
    fn answer(&mut self, request: &Command, content: &[u8]) -> Option<(Command, Vec<u8>)> {
        let mut reply = Command::request(0, request.opaque);
        reply.flag = FLAG_RESPONSE;
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
                body = format!(
                    "{{\"topicName\":\"T\",\"perm\":{perm},\"readQueueNums\":{QUEUES},\"writeQueueNums\":{QUEUES}}}"
                )
                .into();
            }
            11 => {
                let begin: i64 = request.ext("queueOffset").unwrap().parse().unwrap();
                let count: i64 = request.ext("maxMsgNums").unwrap().parse().unwrap();
                for offset in begin..begin + count {
                    if self.fault != Fault::Skips || offset != 40 {
                        body.extend(record(queue("queueId") as i32, offset));
                    }
                }
                put("nextBeginOffset", begin + count);
            }
            other => panic!("code {other}"),
        }
        Some((reply, body))
    }
}

fn record(queue_id: i32, offset: i64) -> Vec<u8> {
    let host = Host::new([127, 0, 0, 1].into(), 10911);
    let spec = RecordSpec {
        topic: "T",
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body: &[b"a body"],
        body_max: 1024,
        properties: &[],
    };
    let mut bytes = vec![0; spec.encoded_len().unwrap()];
    spec.encode_into(&mut bytes, offset, 0, 2).unwrap();
    bytes
}

fn serve(mut stream: TcpStream, broker: &Mutex<Broker>) {
    let mut prefix = [0; PREFIX_LEN];
    while stream.read_exact(&mut prefix).is_ok() {
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - PREFIX_LEN];
        stream.read_exact(&mut rest).unwrap();
        let request = Command::decode(head.serialize, &rest[..head.header_len as usize]).unwrap();
        let mut broker = broker.lock().unwrap();
        if broker.fault == Fault::Dies && broker.sends >= 100 {
            return;
        }
        if broker.fault == Fault::Silent && request.code == 310 {
            continue;
        }
        let answer = broker.answer(&request, &rest[head.header_len as usize..]);
        if request.is_oneway() {
            continue;
        }
        let Some((reply, body)) = answer else { return };
        let mut frame = Vec::new();
        reply.encode_frame(Serialize::Json, &body, &mut frame).unwrap();
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

/// Runs the command line and returns the JSON report, having compared it with the exit code.
fn run(line: &str) -> serde_json::Value {
    let file =
        std::env::temp_dir().join(format!("ringmq-bench-{}-{:?}.json", std::process::id(), thread::current().id()));
    let args = ["bench"].into_iter().chain(line.split_whitespace()).chain(["--json", file.to_str().unwrap()]);
    let code = ringmq_bench::run(Cli::parse_from(args).args).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    let empty = |list: &str| report[list].as_array().unwrap().is_empty();
    let want = match (empty("findings"), empty("rejected")) {
        (true, true) => ExitCode::SUCCESS,
        // A machine that is busy with something else can make the generator late.
        (true, false) => ExitCode::from(5),
        (false, _) => ExitCode::FAILURE,
    };
    assert_eq!(code, want, "{report:#}");
    report
}

fn send(fault: Fault, more: &str) -> serde_json::Value {
    let addr = Broker::start(fault, 50);
    let rate = if more.contains("--rate") { "" } else { "--closed 4" };
    let more = if more.contains("-c ") { more } else { &format!("-c 4 -i 4 --patience 0.5 {rate} {more}") };
    run(&format!("send --broker {addr} --queues {QUEUES} --seconds 0.4 --warmup 0.1 {more}"))
}

fn check_finding(report: &serde_json::Value, words: &str) {
    let findings: Vec<_> = report["findings"].as_array().unwrap().iter().filter_map(|f| f.as_str()).collect();
    assert!(findings.iter().any(|finding| finding.contains(words)), "{findings:?} does not say {words}");
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
