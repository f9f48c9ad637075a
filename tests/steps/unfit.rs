//! Messages that are long and kept for later: those whose properties have no room for more, and those that are taken in before
//! the broker is configured to take less.

use super::halves::{COMMIT, HALF, ROLL_BACK, end, end_of, place, producer};
use super::support::eventually;
use super::support::wire::{self, Connection, Outgoing, Record, runtime_numbers};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, due_at, send, wall_ms};

const HUGE: usize = 2 << 20;
/// Of the one level, and of the timers: long enough for a stop and a start.
const LATER_MS: i64 = 15_000;
const LEVEL: &str = "DELAY\u{1}1\u{2}";

/// What a broker answers to a message with this body.
fn code(connection: &mut Connection, properties: &str, body: &[u8]) -> i32 {
    let ext = Outgoing { topic: TOPIC, queue: 0, properties, body }.ext();
    connection.call(wire::SEND_MESSAGE_V2, &ext, body).unwrap().header.code
}

#[test]
fn the_longest_that_is_kept_is_released() {
    const PROPERTIES_MAX: usize = 32_767;
    /// So little is left that nothing has room in it.
    const STEP: usize = 16;
    const ILLEGAL: i32 = 13;
    let victim = Victim::start(At("nothing", 1), 1, &[("messageDelayLevel", "1s")]);
    let mut connection = victim.connect();
    for (name, asked) in [("timer", "TIMER_DELAY_MS\u{1}500\u{2}"), ("level", LEVEL)] {
        let longest = (1..PROPERTIES_MAX / STEP).find(|steps| {
            let filler = "x".repeat(PROPERTIES_MAX - steps * STEP);
            let properties = format!("{asked}UNIQ_KEY\u{1}{name}\u{2}filler\u{1}{filler}");
            let code = code(&mut connection, &properties, name.as_bytes());
            assert!(code == 0 || code == ILLEGAL, "{name}: {code}");
            code == 0
        });
        assert!(longest.is_some_and(|steps| steps > 1), "{name}: {longest:?}");
        send(&mut connection, &format!("behind the {name}"), asked).unwrap();
    }
    let mut found = Vec::new();
    for name in ["timer", "behind the timer", "level", "behind the level"] {
        found = victim.wait_for(TOPIC, name);
    }
    let found = count(&found);
    assert!(found.len() == 4 && found.values().all(|times| *times == 1), "{found:?}");
}

/// Sends a huge message between two others, delayed and timed, and starts the broker again with these properties.
fn lowered(properties: &[(&'static str, &str)]) -> Victim {
    let levels = format!("{}s", LATER_MS / 1000);
    let mut victim = Victim::start(At("nothing", 1), 1, &[("messageDelayLevel", &levels)]);
    let mut connection = victim.connect();
    let due = due_at(wall_ms() + LATER_MS);
    for (kind, asked) in [("timer", due.as_str()), ("level", LEVEL)] {
        send(&mut connection, &format!("{kind} in front"), asked).unwrap();
        let huge = vec![kind.as_bytes()[0]; HUGE];
        assert_eq!(code(&mut connection, &format!("{asked}UNIQ_KEY\u{1}huge {kind}"), &huge), 0);
        send(&mut connection, &format!("{kind} behind"), asked).unwrap();
    }
    assert!(victim.cluster.broker.terminate().success());
    let lowered = properties.iter().map(|(key, value)| (*key, (*value).to_owned()));
    victim.cluster.broker.settings().properties.extend(lowered);
    victim.restart();
    victim
}

/// Waits for the small messages, each of which has come once; the huge ones.
fn released(victim: &Victim) -> Vec<Record> {
    victim.wait_for(TOPIC, "timer behind");
    let found = victim.wait_for(TOPIC, "level behind");
    let (huge, small): (Vec<_>, Vec<_>) = found.into_iter().partition(|record| record.body.len() == HUGE);
    let small = count(&small);
    assert!(small.len() == 4 && small.values().all(|times| *times == 1), "{small:?}");
    huge
}

#[test]
fn what_was_taken_in_is_released_whatever_is_taken_now() {
    let victim = lowered(&[("maxMessageSize", "65536")]);
    assert_eq!(released(&victim).len(), 2, "one timer, one of the level");
}

#[test]
fn what_no_log_takes_holds_up_no_other() {
    let victim = lowered(&[("maxMessageSize", "65536"), ("mappedFileSizeCommitLog", "1048576")]);
    assert_eq!(released(&victim), []);
    assert_eq!(runtime_numbers(&mut victim.connect(), ["ringmqDroppedDelayed"]), [2]);
}

#[test]
fn a_half_of_which_no_log_takes_a_copy_is_checked_where_it_lies_and_stays_open() {
    const ILLEGAL: i32 = 13;
    let properties = [("transactionCheckMax", "2"), ("transactionCheckInterval", "500"), ("transactionTimeOut", "500")];
    let mut victim = Victim::start(At("nothing", 1), 1, &[("transactionTimeOut", "3600000")]);
    let mut connection = victim.connect();
    let huge = vec![b'h'; HUGE];
    let ext = Outgoing { topic: TOPIC, queue: 0, properties: &format!("{HALF}UNIQ_KEY\u{1}huge"), body: &huge }.ext();
    let huge = place(&connection.call(wire::SEND_MESSAGE_V2, &ext, &huge).unwrap());
    send(&mut connection, "behind", HALF).unwrap();
    assert!(victim.cluster.broker.terminate().success());
    let lowered =
        properties.iter().copied().chain([("maxMessageSize", "65536"), ("mappedFileSizeCommitLog", "1048576")]);
    let settings = victim.cluster.broker.settings();
    settings.properties.retain(|(key, _)| *key != "transactionTimeOut");
    settings.properties.extend(lowered.map(|(key, value)| (key, value.to_owned())));
    victim.restart();
    let asked = producer(&victim, None);
    let mut connection = victim.connect();
    eventually("the one behind is parked", PATIENCE, || {
        (runtime_numbers(&mut connection, ["ringmqHalvesParked"]) == [1]).then_some(())
    });
    let told = |victim: &Victim| {
        let process = &victim.cluster.broker.process;
        let lines = [process.out.all(), process.err.all()].concat();
        lines.iter().filter(|line| line.contains("no log takes a copy of a half message")).count()
    };
    eventually("its checks are over", PATIENCE, || {
        let lines = victim.cluster.broker.process.err.all();
        let lines = [lines, victim.cluster.broker.process.out.all()].concat();
        lines.iter().any(|line| line.contains("is not asked about any more")).then_some(())
    });
    assert_eq!(told(&victim), 1, "it is told of once");
    assert_eq!(runtime_numbers(&mut connection, ["ringmqHalvesOpen", "ringmqHalvesUnfit"]), [1, 1]);
    // It can be ended as far as a log takes what that needs.
    let reply = connection.call(wire::END_TRANSACTION, &end_of(huge, COMMIT, false), &[]).unwrap();
    assert_eq!(reply.header.code, ILLEGAL, "{:?}", reply.header.remark);
    assert_eq!(runtime_numbers(&mut connection, ["ringmqHalvesOpen"]), [1]);
    end(&mut connection, huge, ROLL_BACK).unwrap();
    assert_eq!(runtime_numbers(&mut connection, ["ringmqHalvesOpen"]), [0]);
    victim.cluster.broker.kill();
    let asked = asked.join().unwrap();
    assert_eq!(asked, ["behind", "huge"].map(str::to_owned).into());
    victim.restart();
    assert_eq!(runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]), [0]);
}
