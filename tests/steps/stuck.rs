//! The end of a transaction that waits for a busy disk, while another one is done and the progress is saved.

use super::halves::{COMMIT, HALF, MESSAGES, UNASKED, end, end_of, place};
use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{self, Outgoing};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, names, send};

const HALVES: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const KEEPER: &str = "CID_RMQ_SYS_TRANS";
/// In the same log.
const FILLING: &str = "filling_topic";
/// Messages of a MiB: three times what the broker has memory for.
const FILLED: usize = 48;

#[test]
fn an_end_that_waits_for_the_disk_survives_a_kill_after_the_progress_of_another_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let properties =
        [("bufferMemory", "16777216"), ("brokerFastFailureEnable", "false"), ("flushConsumerOffsetInterval", "100")];
    let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![stuck.env()] };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    victim.cluster.broker.create_topic(FILLING, 1);
    let mut connection = victim.connect();
    let half = |name: &String| place(&send(&mut connection, name, &format!("{UNASKED}{HALF}")).unwrap());
    let halves: Vec<_> = names("half", MESSAGES).iter().map(half).collect();

    let open = || {
        let [open] = wire::runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]);
        usize::try_from(open).unwrap()
    };
    stuck.hold();
    let mut producer = victim.connect();
    let mut end_later = |place| producer.ask(wire::END_TRANSACTION, &end_of(place, COMMIT, false), &[]).unwrap();
    end_later(halves[0]);
    eventually("the first is being ended", PATIENCE, || (open() == MESSAGES - 1).then_some(()));
    let mut filling = victim.connect();
    let body = vec![b'.'; 1 << 20];
    let ext = Outgoing { topic: FILLING, queue: 0, properties: "", body: &body }.ext();
    for _ in 0..FILLED {
        filling.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
    }
    eventually("the memory is full", PATIENCE, || {
        let [waiting] = wire::runtime_numbers(&mut victim.connect(), ["sendThreadPoolQueueSize"]);
        (waiting > 0).then_some(())
    });
    // The others were never ended, so a start has to read from the second one on.
    for place in &halves[1..] {
        end_later(*place);
    }
    eventually("the others wait for room", PATIENCE, || (open() == 0).then_some(()));
    // The first is on the disk, the others not yet: what holds the log does not hold the tables.
    stuck.release();
    assert_eq!(producer.next().unwrap().header.code, 0);
    stuck.hold();
    eventually("the progress is saved", PATIENCE, || (!victim.saved_offsets(HALVES, KEEPER).is_empty()).then_some(()));
    victim.cluster.broker.kill();
    stuck.release();
    victim.restart();
    let mut connection = victim.connect();
    for place in halves {
        end(&mut connection, place, COMMIT).unwrap();
    }
    let came = count(&victim.all(TOPIC));
    let expected = (0..MESSAGES).map(|at| (format!("half-{at}"), 1)).collect();
    assert_eq!(came, expected);
}
