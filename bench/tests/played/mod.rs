//! A broker that the test plays, and the program run against it.

#[path = "../../../net/client/tests/served/record.rs"]
mod record;
#[expect(dead_code, reason = "the SDK's tests use all of it")]
#[path = "../../../net/client/tests/served/mod.rs"]
mod served;

use std::process::ExitCode;
use std::thread;

use clap::Parser;
pub(crate) use record::record;
use ringmq_protocol::command::Command;
pub(crate) use served::Served;

#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) args: ringmq_bench::Args,
}

pub(crate) trait Plays: Send + 'static {
    fn play(&mut self, request: &Command, content: &[u8]) -> Served;
}

/// Starts the broker and returns its address.
pub(crate) fn start(mut broker: impl Plays) -> String {
    served::serve(move |request, content| broker.play(request, content)).0
}

/// An answer that says success and nothing else yet.
pub(crate) fn reply_to(request: &Command) -> Command {
    served::reply_to(request, 0)
}

/// What GET_TOPIC_CONFIG answers.
pub(crate) fn topic_config(perm: i32, queues: usize) -> Vec<u8> {
    format!("{{\"topicName\":\"T\",\"perm\":{perm},\"readQueueNums\":{queues},\"writeQueueNums\":{queues}}}").into()
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
