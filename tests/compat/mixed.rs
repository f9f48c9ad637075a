//! Deployments of both makes: our broker under Apache's name server, Apache's broker under ours, both under both.

use std::time::Duration;

use super::assert_same_messages;
use super::support::java::{self, of};
use super::support::server::{self, Broker, Make, NameServer, Settings};
use super::support::turn::alone;
use super::support::{eventually, skip};

/// A mixed deployment needs two makes; when the run is against Apache's servers, both are Apache's, of two versions.
fn pairs() -> Vec<(Make, Make)> {
    let ours = Make::under_test();
    java::SERVERS
        .into_iter()
        .map(Make::Apache)
        .flat_map(|apache| [(ours, apache), (apache, ours)])
        .filter(|(one, other)| one != other)
        .collect()
}

/// Sends and receives through `namesrv` with both clients.
fn carries_messages(folder: &std::path::Path, namesrv: &str, broker: &Broker, mark: &str) {
    for version in java::CLIENTS {
        let topic = &*format!("mixed_{mark}_{}", version.replace('.', "_"));
        broker.create_topic(topic, 4);
        let client = java::Client::new(version, folder);
        let target = [("namesrv", namesrv), ("topic", topic)];
        let sent = client.run("send", &[&target[..], &[("count", "40"), ("tag", "TagA")]].concat());
        let received = client.run("push", &[&target[..], &[("count", "40"), ("sub", "TagA")]].concat());
        assert_same_messages(&sent, &of(&received, "message"));
    }
}

#[test]
fn a_broker_works_under_the_other_makes_name_server() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    for (index, (of_namesrv, of_broker)) in pairs().into_iter().enumerate() {
        println!("name server {of_namesrv:?}, broker {of_broker:?}");
        let folder = tempfile::tempdir().unwrap();
        let namesrv = NameServer::start(of_namesrv, folder.path());
        let settings = Settings::default();
        let mut broker = Broker::start(of_broker, folder.path(), "broker-a", &namesrv.address, settings);
        carries_messages(folder.path(), &namesrv.address, &broker, &index.to_string());
        // A broker that says goodbye, or whose connection closes, is gone from the route at once.
        broker.terminate();
        eventually("the broker is gone from the route", Duration::from_secs(15), || {
            let table = server::cluster(&namesrv.address)?["brokerAddrTable"].clone();
            table.as_object().is_none_or(serde_json::Map::is_empty).then_some(())
        });
    }
}

#[test]
fn a_broker_registers_with_name_servers_of_both_makes() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    let (one, other) = pairs()[0];
    let folder = tempfile::tempdir().unwrap();
    let first = NameServer::start(one, folder.path());
    let second = NameServer::start(other, folder.path());
    let both = format!("{};{}", first.address, second.address);
    let broker = Broker::start(Make::under_test(), folder.path(), "broker-a", &both, Settings::default());
    carries_messages(folder.path(), &first.address, &broker, "first");
    carries_messages(folder.path(), &second.address, &broker, "second");
}
