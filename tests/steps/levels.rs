//! Delay levels: a message is kept, comes due, is released into its queue, and the progress is saved.

use super::victim::{At, NEVER, Released, TOPIC, Victim, each, names, send, until_gone, wall_ms};

const KEPT: &str = "SCHEDULE_TOPIC_XXXX";
const KEEPER: &str = "CID_RMQ_SYS_SCHEDULE";
const LEVEL_1: &str = "DELAY\u{1}1\u{2}";
const LEVEL_1_MS: i64 = 1000;
const MESSAGES: usize = 6;

const STEPS: &[At] = &[
    At("send_appended:SCHEDULE_TOPIC_XXXX", 1),
    At("send_appended:SCHEDULE_TOPIC_XXXX", 4),
    At("send_written", 1),
    At("send_written", 4),
    At("send_answered", 1),
    At("send_answered", 4),
    At("level_read", 1),
    At("level_due", 1),
    At("put_appended:steps_topic", 1),
    At("put_appended:steps_topic", 4),
    At("put_written:steps_topic", 1),
    At("put_written:steps_topic", 4),
    At("level_noted", 1),
    At("file_written:consumerOffset.json", 1),
    At("file_renamed:consumerOffset.json", 1),
    At("file_flushed:consumerOffset.json", 1),
];

#[test]
fn a_delayed_message_survives_a_kill_at_each_step() {
    each(STEPS, |at| {
        let saves = if at.0.starts_with("file_") { "100" } else { NEVER };
        let properties = [("messageDelayLevel", "1s 2s"), ("flushConsumerOffsetInterval", saves)];
        let mut victim = Victim::start(at, 1, &properties);
        let (began_ms, mut connection) = (wall_ms(), victim.connect());
        let sent = until_gone(&names("level", MESSAGES), |name| send(&mut connection, name, LEVEL_1).map(drop));
        victim.bury();
        let saved = victim.saved_offsets(KEPT, KEEPER).get(&0).copied().unwrap_or(0);
        victim.restart();
        // The queue of a level is delivered in its order: behind this one nothing more is to come.
        send(&mut victim.connect(), "last", LEVEL_1).unwrap();
        let found = victim.wait_for(TOPIC, "last");
        assert!(found.iter().all(|record| record.stored >= began_ms + LEVEL_1_MS), "one came before its time");
        let released = Released::of(&found, victim.died_ms);
        for (offset, one) in (0..).zip(&sent) {
            // What was not acknowledged is kept if it was written.
            let is_kept = one.acknowledged || at.is(&["send_written", "send_answered"]);
            if is_kept {
                released.holds(&one.name, offset < saved);
            } else if at.is(&["send_appended:SCHEDULE_TOPIC_XXXX"]) {
                released.never(&one.name);
            }
        }
        let early = released.early();
        match at {
            At("send_appended:SCHEDULE_TOPIC_XXXX" | "send_written" | "send_answered", nth) => {
                assert_eq!(sent.len(), nth);
            }
            At("level_read" | "level_due" | "put_appended:steps_topic", 1) => assert_eq!(early, 0),
            At("put_appended:steps_topic", nth) => assert!(early < nth, "{early} were written"),
            At(_, nth) => assert!(early >= nth, "only {early} were written"),
        }
    });
}
