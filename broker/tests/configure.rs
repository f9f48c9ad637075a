//! A configuration that is changed while the broker runs is the same in its file and on every executor, or unchanged in
//! both: where a mailbox is full, and where the file's directory cannot be flushed.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringmq_broker::control_shard::ControlShard;
use ringmq_broker::mail::Mail;
use ringmq_broker::node::Node;
use ringmq_broker::requests::config;
use ringmq_broker::settings::{Current, Settings, Source};
use ringmq_engine::FlushPolicy;
use ringmq_net::{ConnId, Registry};
use ringmq_rt::mesh::Mesh;
use ringmq_rt::sim::{Failure, Fault, Request, Sim};
use ringmq_rt::{fs, sleep, spawn};

const FILE: &str = "/etc/ringmq/broker.conf";
const BEFORE: &[u8] = b"brokerName=broker-a\n";
const CHANGE: &[u8] = b"traceOn=false\n";
const MAILBOX: usize = 4;

/// Any change switches the trace off.
#[derive(Debug)]
struct Text;

impl Source for Text {
    fn file(&self) -> Option<&Path> {
        Some(Path::new(FILE))
    }

    fn change(&self, now: &Settings, change: &[u8]) -> Result<Settings, String> {
        let properties = String::from_utf8_lossy(change).into_owned();
        Ok(Settings { trace_on: false, properties, ..now.clone() })
    }

    fn edit(&self, content: &[u8], change: &[u8]) -> Result<Vec<u8>, String> {
        Ok([content, change].concat())
    }
}

/// Two executors of one broker. The second takes in its mail only when it is told to.
struct Pair {
    control: Rc<ControlShard>,
    first: Rc<Node>,
    second: Rc<Node>,
}

fn read_mail(node: &Rc<Node>) {
    spawn("mail", take_in(Rc::clone(node))).detach();
}

async fn take_in(node: Rc<Node>) {
    loop {
        node.receive(node.post.recv().await);
    }
}

impl Pair {
    async fn new() -> Self {
        let source: Arc<dyn Source> = Arc::new(Text);
        let store = PathBuf::from("/store");
        let settings =
            Current::keep(Settings { source: Some(source), ..support::settings(&store, 2, FlushPolicy::Async) });
        let mesh = Mesh::<Mail>::new(2, MAILBOX);
        let node = |me: u8| {
            let post = mesh.bind(usize::from(me));
            Node::new(post, Registry::new(me, settings.limits), settings)
        };
        let (first, second) = (node(0), node(1));
        read_mail(&first);
        let control = ControlShard::open(Rc::clone(&first), store.join("config")).await.unwrap();
        first.set_control(&control);
        Self { control, first, second }
    }

    fn traces(&self) -> [bool; 2] {
        [self.first.settings.trace_on, self.second.settings.trace_on]
    }
}

async fn file() -> Vec<u8> {
    fs::read(Path::new(FILE), 1 << 20).await.unwrap().unwrap()
}

fn world(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.run(async {
        fs::create_dir_all(Path::new(FILE).parent().unwrap()).await.unwrap();
        fs::replace(Path::new(FILE), BEFORE.to_vec(), false).await.unwrap();
    });
    sim
}

#[test]
fn a_change_waits_for_a_mailbox_that_is_full() {
    world(1).run(async {
        let pair = Pair::new().await;
        // In simulated time: what was sent is on its way, and below, all that can happen has happened.
        while pair.first.post.send(1, Mail::Closed(ConnId(0))).is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
        let (answered, control) = (Rc::new(Cell::new(false)), Rc::clone(&pair.control));
        let changing = spawn("change", {
            let answered = Rc::clone(&answered);
            async move {
                let changed = config::change(&control, CHANGE).await;
                answered.set(true);
                changed
            }
        });
        sleep(Duration::from_secs(10)).await;
        assert_eq!(file().await, [BEFORE, CHANGE].concat());
        assert_eq!(
            (pair.traces(), answered.get()),
            ([false, true], false),
            "answered before it is in force everywhere"
        );
        read_mail(&pair.second);
        changing.await.unwrap();
        assert_eq!(pair.traces(), [false, false]);
    });
}

#[test]
fn a_file_that_cannot_be_flushed_changes_nothing() {
    // The text's own flush fails, or that of the directory, when the text has its place already.
    for skip in [0, 1] {
        let sim = world(2);
        sim.run(async {
            let pair = Pair::new().await;
            read_mail(&pair.second);
            let path = Some(PathBuf::from(FILE).parent().unwrap().to_path_buf());
            sim.disk().inject(Fault { request: Request::Sync, failure: Failure::Once, path, skip });
            let refused = config::change(&pair.control, CHANGE).await.unwrap_err();
            assert!(refused.remark.contains("nothing is changed"), "{refused}");
            assert_eq!((file().await, pair.traces()), (BEFORE.to_vec(), [true, true]), "skip {skip}");
            config::change(&pair.control, CHANGE).await.unwrap();
            assert_eq!((file().await, pair.traces()), ([BEFORE, CHANGE].concat(), [false, false]));
        });
    }
}

#[test]
fn a_file_that_cannot_be_put_back_is_named() {
    let sim = world(3);
    sim.run(async {
        let pair = Pair::new().await;
        read_mail(&pair.second);
        let path = Some(PathBuf::from(FILE).parent().unwrap().to_path_buf());
        sim.disk().inject(Fault { request: Request::Sync, failure: Failure::Sticky, path, skip: 1 });
        let refused = config::change(&pair.control, CHANGE).await.unwrap_err();
        assert!(refused.remark.contains("look at the file before the next start"), "{refused}");
        assert!(refused.remark.contains(FILE), "{refused}");
        assert_eq!(pair.traces(), [true, true]);
    });
}
