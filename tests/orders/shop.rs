//! The shop as processes: a broker, seven services, their databases, and the hand that kills and restarts them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::audit::{dead_by_group, unsettled};
use super::customers::{Doors, FROZEN, Goods};
use super::kills::Kill;
use super::queues;
use super::support::process::Process;
use super::support::server::{Cluster, Flush, Settings};
use super::support::wire::{self, Connection};
use super::support::{eventually, java, ports};

const SERVICES: [&str; 7] = ["stock", "coupon", "balance", "payment", "points", "log", "order"];

/// The time to pay is level 2, retries wait for the levels behind it.
const DELAY_LEVELS: &str = "1s 8s 1s 1s 1s 1s";
const UNPAID_LEVEL: &str = "2";

/// More often than a message may be refused.
const MANY_TRIES: i32 = 6;

/// How long a JVM may take to start on a busy machine, and a step until some customer gets there.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a run says what it still waits for.
const SAY_WHY: Duration = Duration::from_secs(5);

struct Service {
    arguments: Vec<String>,
    process: Process,
    /// Lines that the process had said when it was last armed.
    said: usize,
}

pub(crate) struct Shop {
    cluster: Cluster,
    version: &'static str,
    services: BTreeMap<&'static str, Service>,
    doors: Doors,
}

fn form(goods: &BTreeMap<String, i64>) -> String {
    let fields: Vec<_> = goods.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    fields.join("&")
}

/// What a service is told beyond what every one is.
fn options(name: &str, goods: &Goods, port: &BTreeMap<&str, String>) -> Vec<(&'static str, String)> {
    match name {
        "stock" => vec![("--initial", form(&goods.stock))],
        "coupon" => vec![("--initial", form(&goods.coupons))],
        "balance" => vec![("--initial", form(&goods.balances))],
        "points" => vec![("--frozen", FROZEN.to_owned())],
        "order" => vec![
            ("--stock", port["stock"].clone()),
            ("--coupon", port["coupon"].clone()),
            ("--balance", port["balance"].clone()),
            ("--unpaid-level", UNPAID_LEVEL.to_owned()),
        ],
        _ => vec![],
    }
}

impl Shop {
    pub(crate) fn open(version: &'static str, goods: &Goods) -> Shop {
        let property = |name, value: &str| (name, value.to_owned());
        let properties = vec![
            property("messageDelayLevel", DELAY_LEVELS),
            property("transactionTimeOut", "2000"),
            property("transactionCheckInterval", "2000"),
        ];
        // What a service was told is sent must be there after a kill.
        let cluster = Cluster::start(Settings { flush: Flush::Sync, properties, ..Settings::default() });
        for topic in queues::TOPICS {
            cluster.broker.create_topic(topic, queues::QUEUES);
        }
        let port: BTreeMap<_, _> = SERVICES.into_iter().map(|name| (name, ports::free().to_string())).collect();
        let mut services = BTreeMap::new();
        for name in SERVICES {
            let database = cluster.folder.path().join(format!("{name}.db")).display().to_string();
            let common = [name, "--database", &database, "--namesrv", cluster.namesrv(), "--port", &port[name]];
            let own = options(name, goods, &port);
            let own = own.iter().flat_map(|(option, value)| [*option, value]);
            let arguments: Vec<_> = common.into_iter().chain(own).map(str::to_owned).collect();
            let process = Process::spawn(&mut command(version, &cluster, &arguments));
            services.insert(name, Service { arguments, process, said: 0 });
        }
        services.values().for_each(wait_ready);
        let door = |name: &str| port[name].parse().unwrap();
        let doors = Doors { order: door("order"), payment: door("payment") };
        Shop { cluster, version, services, doors }
    }

    pub(crate) fn doors(&self) -> Doors {
        self.doors
    }

    /// Has the service stop at the step when it gets there next.
    pub(crate) fn hold(&mut self, kill: &Kill) {
        let service = self.services.get_mut(kill.service).unwrap();
        service.said = service.process.out.all().len();
        service.process.say(&format!("hold {}", kill.step));
        service.wait_line("armed");
    }

    pub(crate) fn wait_held(&self, kill: &Kill) {
        self.services[kill.service].wait_line(&format!("held {}", kill.step));
    }

    pub(crate) fn go_on(&mut self, service: &str) {
        self.services.get_mut(service).unwrap().process.say("go on");
    }

    /// `kill -9`, and a new process on the same database and port.
    pub(crate) fn kill_service(&mut self, name: &str) {
        let service = self.services.get_mut(name).unwrap();
        service.process.kill();
        service.process = Process::spawn(&mut command(self.version, &self.cluster, &service.arguments));
        wait_ready(service);
    }

    pub(crate) fn kill_broker(&mut self) {
        self.cluster.broker.kill();
        self.cluster.broker.restart();
    }

    /// From here on no points can be written, and what was taken from the stock cannot be given back.
    pub(crate) fn break_databases(&mut self) {
        for (service, change) in [("points", "INSERT ON points"), ("stock", "UPDATE ON deductions")] {
            self.change(
                service,
                &format!("CREATE TRIGGER broken BEFORE {change} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"),
            );
        }
    }

    pub(crate) fn mend_databases(&mut self) {
        for service in ["points", "stock"] {
            self.change(service, "DROP TRIGGER broken");
        }
    }

    /// A service never leaves its database to another writer, so it has to do it.
    fn change(&mut self, service: &str, statement: &str) {
        let service = self.services.get_mut(service).unwrap();
        service.said = service.process.out.all().len();
        service.process.say(&format!("sql {statement}"));
        service.wait_line("changed");
    }

    /// Waits until both have failed more often than a message may be refused.
    pub(crate) fn wait_tried_often(&self) {
        let mut broker = self.cluster.broker.connect();
        for group in ["points_group", "stock_group"] {
            eventually(&format!("{group} has tried often"), PATIENCE, || {
                (wire::most_tries(&mut broker, group) >= MANY_TRIES).then_some(())
            });
        }
    }

    /// Waits until nothing is under way: no message, no promise to send one, no order in between.
    pub(crate) fn wait_until_settled(&mut self, orders: usize, patience: Duration) {
        let began = Instant::now();
        let mut said = began;
        eventually("the shop has settled", patience, || {
            let mut broker = self.cluster.broker.connect();
            let cause = queues::unconsumed(&mut broker, orders).or_else(|| {
                let rows = self.rows();
                unsettled(&rows, orders).or_else(|| missing_dead_letters(&mut broker, &rows))
            });
            let Some(cause) = cause else { return Some(()) };
            if said.elapsed() > SAY_WHY {
                println!("not settled after {:.0} s: {cause}", began.elapsed().as_secs_f32());
                said = Instant::now();
            }
            None
        });
    }

    /// Every dead letter, as group and key.
    pub(crate) fn dead_letters(&self) -> Vec<(String, String)> {
        let broker = &self.cluster.broker;
        let groups = queues::with_dead_letters(&mut broker.connect());
        let letters = groups.into_iter().flat_map(|group| {
            // Nobody may read dead letters before an operator permits it.
            broker.create_topic(&queues::dead_letter_topic(group), 1);
            let keys = queues::dead_letter_keys(&mut broker.connect(), group);
            keys.into_iter().map(move |key| (group.to_owned(), key))
        });
        letters.collect()
    }

    /// Kills every service and gives what their databases hold.
    pub(crate) fn close(mut self) -> Vec<Value> {
        for service in self.services.values_mut() {
            assert!(service.process.is_running(), "a service has ended\n{}", service.process.transcript());
            service.process.kill();
        }
        self.rows()
    }

    /// Every row of every database.
    fn rows(&self) -> Vec<Value> {
        let folder = self.cluster.folder.path();
        let files = SERVICES.map(|name| format!("{name}.db"));
        let output = java::orders(self.version, "Rows", folder).args(files).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// A consumer that died after it gave up, and before it said so, is given the message again.
fn missing_dead_letters(broker: &mut Connection, rows: &[Value]) -> Option<String> {
    dead_by_group(rows).into_iter().find_map(|(group, dead)| {
        let letters = queues::dead_letters(broker, group);
        (letters < dead).then(|| format!("{group} gave up {dead} messages and has {letters} dead letters"))
    })
}

fn command(version: &str, cluster: &Cluster, arguments: &[String]) -> Command {
    let mut java = java::orders(version, "Shop", cluster.folder.path());
    java.args(arguments);
    java
}

fn wait_ready(service: &Service) {
    let ready = service.process.out.wait(PATIENCE, |lines| lines.iter().any(|line| line == "ready").then_some(()));
    assert!(ready.is_some(), "{:?} is not ready\n{}", service.arguments, service.process.transcript());
}

impl Service {
    /// Waits for a line that was said since the service was last armed.
    fn wait_line(&self, wanted: &str) {
        let found =
            self.process.out.wait(PATIENCE, |lines| lines[self.said..].iter().any(|line| line == wanted).then_some(()));
        assert!(found.is_some(), "{}: no `{wanted}`\n{}", self.arguments[0], self.process.transcript());
    }
}
