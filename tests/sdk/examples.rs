//! Every example of the SDK runs, and prints what its own page promises.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::support::database::Broken;
use super::support::process::Process;
use super::support::server::{Cluster, Flush, Settings};
use super::support::{eventually, root, wire};
use super::{PATIENCE, alone, cluster, cluster_with};

/// How long a shop may take until nothing is under way any more: retries, times to pay, transactions asked about.
const SETTLED: Duration = Duration::from_secs(180);

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

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_ringmq")).with_file_name("examples").join(name)
}

/// Runs one to its good end and gives what it printed.
fn run(name: &str, args: &[&str]) -> String {
    let result = Command::new(program(name)).args(args).output().unwrap();
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
    let delayed = says("delayed", &at("plain"), "will be seen later");
    assert!(delayed.contains("will be seen at its time"), "{delayed}");
    let transaction = says("transaction", &at("plain"), "Commit");
    assert!(transaction.contains("Rollback"), "{transaction}");
    says("ordered", &at("steps"), "order-3 sent");
    // 1 sent, 101 asynchronously, 10 one way, 10 in the batch, 2 later, 1 committed.
    let pushed = says("push", &[cluster.namesrv(), "plain", "125"], "order-1 is paid");
    assert!(!pushed.contains("order-2 is paid"), "{pushed}");
    assert!(pushed.contains("a reminder") && pushed.contains("an alarm"), "{pushed}");
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

#[test]
fn the_books_of_the_order_example_balance() {
    let _alone = alone();
    build();
    let cluster = cluster_with(Flush::Sync);
    let folder = cluster.folder.path().join("shop");
    let printed = run("orders", &[cluster.namesrv(), folder.to_str().unwrap(), "20"]);
    assert!(printed.contains("the books balance"), "{printed}");
    for case in ["PAID", "UNPAID", "REFUSED"] {
        assert!(printed.lines().any(|line| line.ends_with(&format!(": {case}"))), "nobody was told {case}: {printed}");
    }
    assert!(printed.contains(" 2 dead letters"), "{printed}");
}

#[test]
fn the_books_of_the_order_example_balance_after_databases_failed_for_a_time() {
    let _alone = alone();
    build();
    // The time to pay is level 2, retries of what failed wait for the levels behind it.
    let properties = vec![("messageDelayLevel", "1s 5s 1s 1s 1s 1s".to_owned())];
    let cluster = Cluster::start(Settings { flush: Flush::Sync, properties, ..Settings::default() });
    let folder = cluster.folder.path().join("shop");
    let mut shop =
        Process::spawn(Command::new(program("orders")).args([cluster.namesrv(), folder.to_str().unwrap(), "200"]));
    let answered = shop.out.wait(PATIENCE, |lines| (lines.len() >= 10).then_some(()));
    assert!(answered.is_some(), "{}", shop.transcript());
    let broken = [
        Broken::new(&folder.join("points.db"), "INSERT ON points"),
        Broken::new(&folder.join("stock.db"), "UPDATE ON deductions"),
    ];
    let mut broker = cluster.broker.connect();
    for group in ["points_group", "stock_group"] {
        // More often than a message may be refused.
        let often = || (wire::most_tries(&mut broker, group) >= 6).then_some(());
        eventually(&format!("{group} has tried often"), PATIENCE, often);
    }
    broken.into_iter().for_each(Broken::mend);
    let ended = shop.wait(SETTLED + PATIENCE);
    assert!(ended.success(), "{}", shop.transcript());
    assert!(shop.out.all().iter().any(|line| line == "the books balance"), "{}", shop.transcript());
}

#[test]
fn the_books_of_the_order_example_balance_after_kills_of_the_broker_and_of_the_shop() {
    let _alone = alone();
    build();
    let mut cluster = cluster_with(Flush::Sync);
    let folder = cluster.folder.path().join("shop");
    let namesrv = cluster.namesrv().to_owned();
    let open =
        |orders| Process::spawn(Command::new(program("orders")).args([&namesrv, folder.to_str().unwrap(), orders]));
    let mut shop = open("500");
    let answered = |shop: &Process, count: usize| {
        let answer = shop.out.wait(PATIENCE, |lines| (lines.len() >= count).then_some(lines.len()));
        answer.unwrap_or_else(|| panic!("not {count} orders are answered\n{}", shop.transcript()))
    };
    answered(&shop, 10);
    cluster.broker.kill();
    // Somebody is told that the order is off, because its half cannot be sent.
    let until = shop.out.all().len();
    answered(&shop, until + 5);
    cluster.broker.restart();
    let until = shop.out.all().len();
    answered(&shop, until + 5);
    assert!(shop.is_running(), "the orders were over before the shop was killed\n{}", shop.transcript());
    shop.kill();
    let mut shop = open("10");
    let ended = shop.wait(SETTLED + PATIENCE);
    assert!(ended.success(), "{}", shop.transcript());
    assert!(shop.out.all().iter().any(|line| line == "the books balance"), "{}", shop.transcript());
}
