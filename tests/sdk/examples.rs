//! Every example of the SDK runs, and prints what its own page promises.

use std::path::Path;
use std::process::Command;

use super::support::root;
use super::{alone, cluster};

/// Built as a user builds them, into the folder where the tests' own programs are.
fn build() {
    let target = Path::new(env!("CARGO_BIN_EXE_ringmq")).ancestors().nth(2).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "ringmq-client", "--examples", "--target-dir"])
        .arg(target)
        .args(if cfg!(debug_assertions) { &[][..] } else { &["--release"] })
        .current_dir(root())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// Runs one to its good end and gives what it printed.
fn run(name: &str, args: &[&str]) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_ringmq")).with_file_name("examples").join(name);
    let result = Command::new(program).args(args).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    assert!(result.status.success(), "{name}: {out}{err}");
    out.into_owned()
}

#[test]
fn every_example_does_what_it_says() {
    let _alone = alone();
    build();
    let cluster = cluster();
    for topic in ["plain", "steps", "asked"] {
        cluster.broker.create_topic(topic, 4);
    }
    let at = |topic: &'static str| [cluster.namesrv(), topic];
    let says = |name: &str, args: &[&str], wanted: &str| {
        let printed = run(name, args);
        assert!(printed.contains(wanted), "{name} did not print {wanted:?}: {printed}");
        printed
    };
    says("send", &at("plain"), "Stored");
    says("async", &at("plain"), "100 messages are stored");
    says("oneway", &at("plain"), "10 messages are on their way");
    says("batch", &at("plain"), "10 messages are stored");
    says("delayed", &at("plain"), "will be seen later");
    let transaction = says("transaction", &at("plain"), "Commit");
    assert!(transaction.contains("Rollback"), "{transaction}");
    says("ordered", &at("steps"), "order-3 sent");
    // 1 sent, 101 asynchronously, 10 one way, 10 in the batch, 1 later, 1 committed.
    let pushed = says("push", &[cluster.namesrv(), "plain", "124"], "order-1 is paid");
    assert!(!pushed.contains("order-2 is paid"), "{pushed}");
    assert!(pushed.contains("a reminder"), "{pushed}");
    let orderly = run("orderly", &[cluster.namesrv(), "steps", "9"]);
    for order in ["order-1", "order-2", "order-3"] {
        let steps: Vec<usize> =
            ["created", "paid", "sent"].iter().map(|step| orderly.find(&format!("{order} {step}")).unwrap()).collect();
        assert!(steps.is_sorted(), "{orderly}");
    }
    let offsets = cluster.folder.path().join("offsets");
    says("broadcast", &[cluster.namesrv(), "steps", "9", offsets.to_str().unwrap()], "order-1 created");
    assert!(offsets.exists());
    let pulled = says("pull", &at("steps"), "order-2 paid");
    assert_eq!(pulled.lines().count(), 9, "{pulled}");
    says("request_reply", &at("asked"), "WHAT IS THE TIME?");
    let made = says("admin", &at("made"), "topic made is gone");
    assert_eq!(made.matches("offsets").count(), 4, "{made}");
}
