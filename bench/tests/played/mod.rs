//! A broker that the test plays, and the program run against it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

use clap::Parser;
use ringmq_protocol::command::{Command, FLAG_RESPONSE};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::RecordSpec;

#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) args: ringmq_bench::Args,
}

/// What the played broker does with a request.
pub(crate) enum Played {
    Answer(Command, Vec<u8>),
    Silence,
    HangUp,
}

pub(crate) trait Plays: Send + 'static {
    fn play(&mut self, request: &Command, content: &[u8]) -> Played;
}

/// Starts the broker and returns its address.
pub(crate) fn start(broker: impl Plays) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let broker = Arc::new(Mutex::new(broker));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let broker = Arc::clone(&broker);
            thread::spawn(move || serve(stream, &broker));
        }
    });
    addr
}

fn serve(mut stream: TcpStream, broker: &Mutex<impl Plays>) {
    let mut prefix = [0; PREFIX_LEN];
    while stream.read_exact(&mut prefix).is_ok() {
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - PREFIX_LEN];
        stream.read_exact(&mut rest).unwrap();
        let (header, content) = rest.split_at(head.header_len as usize);
        let request = Command::decode(head.serialize, header).unwrap();
        let played = broker.lock().unwrap().play(&request, content);
        let (reply, body) = match played {
            Played::HangUp => return,
            Played::Answer(reply, body) if !request.is_oneway() => (reply, body),
            Played::Answer(..) | Played::Silence => continue,
        };
        let mut frame = Vec::new();
        reply.encode_frame(Serialize::Json, &body, &mut frame).unwrap();
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

/// An answer that says success and nothing else yet.
pub(crate) fn reply_to(request: &Command) -> Command {
    let mut reply = Command::request(0, request.opaque);
    reply.flag = FLAG_RESPONSE;
    reply
}

/// What GET_TOPIC_CONFIG answers.
pub(crate) fn topic_config(perm: i32, queues: usize) -> Vec<u8> {
    format!("{{\"topicName\":\"T\",\"perm\":{perm},\"readQueueNums\":{queues},\"writeQueueNums\":{queues}}}").into()
}

pub(crate) fn record(queue_id: i32, offset: i64, body: &[u8]) -> Vec<u8> {
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
        body: &[body],
        body_max: 4096,
        properties: &[],
    };
    let mut bytes = vec![0; spec.encoded_len().unwrap()];
    spec.encode_into(&mut bytes, offset, 0, 2).unwrap();
    bytes
}

/// Runs the command line and returns the JSON report, having compared it with the exit code.
pub(crate) fn run(line: &str) -> serde_json::Value {
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

pub(crate) fn check_finding(report: &serde_json::Value, words: &str) {
    let findings: Vec<_> = report["findings"].as_array().unwrap().iter().filter_map(|f| f.as_str()).collect();
    assert!(findings.iter().any(|finding| finding.contains(words)), "{findings:?} does not say {words}");
}
