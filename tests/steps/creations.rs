//! Groups and topics that are made at once: each is answered when the file that holds it is on the disk, and those that
//! come while it is written share the next write.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::thread;

use serde_json::json;

use super::support::wire::{self, Connection, Header};
use super::victim::{At, Victim, each, names};

/// Requests that one connection writes before it reads an answer.
const AT_ONCE: usize = 100;
const CONNECTIONS: usize = 10;

/// What is made.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Group,
    Topic,
}

impl Kind {
    fn of(file: &str) -> Kind {
        if file.ends_with("topics.json") { Kind::Topic } else { Kind::Group }
    }

    fn file(self) -> &'static str {
        match self {
            Kind::Group => "subscriptionGroup.json",
            Kind::Topic => "topics.json",
        }
    }

    fn request(self, opaque: i32, name: &str) -> Vec<u8> {
        match self {
            Kind::Group => {
                let body = json!({ "groupName": name, "consumeEnable": true }).to_string();
                wire::request(wire::UPDATE_AND_CREATE_GROUP, opaque, 0, &[], body.as_bytes())
            }
            Kind::Topic => wire::request(wire::UPDATE_AND_CREATE_TOPIC, opaque, 0, &wire::topic(name, 1), &[]),
        }
    }

    /// Those in the file on the disk, which must be whole.
    fn saved(self, victim: &Victim) -> BTreeMap<String, serde_json::Value> {
        let member = match self {
            Kind::Group => "subscriptionGroupTable",
            Kind::Topic => "topicConfigTable",
        };
        let table = victim.saved(self.file(), member);
        table.as_object().unwrap_or_else(|| panic!("no {member} in {}", self.file())).clone().into_iter().collect()
    }

    fn path(self, victim: &Victim) -> PathBuf {
        victim.cluster.broker.store().join("config").join(self.file())
    }
}

/// Asks for all of `names` in one write, then reads the answers that come, by name.
fn make(connection: &mut Connection, kind: Kind, names: &[String]) -> io::Result<BTreeMap<String, Header>> {
    let frames = names.iter().zip(1..).map(|(name, opaque)| kind.request(opaque, name));
    connection.stream().write_all(&frames.collect::<Vec<_>>().concat())?;
    let mut answers = BTreeMap::new();
    while answers.len() < names.len() {
        match connection.next() {
            Ok(frame) if frame.header.is_reply() => {
                let at = usize::try_from(frame.header.opaque).unwrap() - 1;
                answers.insert(names[at].clone(), frame.header);
            }
            Ok(_) => (),
            Err(_) if !answers.is_empty() => break,
            Err(gone) => return Err(gone),
        }
    }
    Ok(answers)
}

fn good(answers: BTreeMap<String, Header>) -> Vec<String> {
    let check = |(name, header): (String, Header)| {
        assert_eq!(header.code, 0, "{name}: {:?}", header.remark);
        name
    };
    answers.into_iter().map(check).collect()
}

/// Each connection makes as many as one write holds, again and again, `rounds` times or until the broker is gone; those
/// that were answered.
fn make_on_all(victim: &Victim, kind: Kind, rounds: usize, at_once: usize) -> Vec<String> {
    thread::scope(|scope| {
        let run = |number: usize| {
            let mut connection = victim.connect();
            let made = (0..rounds).map_while(move |round| {
                let names = names(&format!("made-{number}-{round}"), at_once);
                make(&mut connection, kind, &names).ok().map(good)
            });
            made.flatten().collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || run(number))).collect();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

/// The broker would die of the first write that is one too many.
const WRITES_MAX: &[At] = &[At("file_renamed:subscriptionGroup.json", 101), At("file_renamed:topics.json", 101)];

#[test]
fn a_thousand_at_once_take_less_than_a_hundred_writes() {
    each(WRITES_MAX, |at| {
        let kind = Kind::of(at.0);
        let mut victim = Victim::start(at, 2, &[]);
        let made = make_on_all(&victim, kind, 1, AT_ONCE);
        assert_eq!(made.len(), CONNECTIONS * AT_ONCE, "the broker died of its hundred and first write");
        victim.cluster.broker.kill();
        let saved = kind.saved(&victim);
        assert!(made.iter().all(|name| saved.contains_key(name)), "one was answered that is not on the disk");
    });
}

const STEPS: &[At] = &[
    At("file_written:subscriptionGroup.json", 3),
    At("file_bak_removed:subscriptionGroup.json", 3),
    At("file_bak_kept:subscriptionGroup.json", 3),
    At("file_renamed:subscriptionGroup.json", 4),
    At("file_flushed:subscriptionGroup.json", 4),
    At("file_written:topics.json", 4),
    At("file_renamed:topics.json", 5),
    At("file_flushed:topics.json", 5),
    At("control_answered", 25),
];

#[test]
fn what_was_answered_is_there_after_a_kill_at_each_step_of_a_write() {
    each(STEPS, |at| {
        let kind = Kind::of(at.0);
        let mut victim = Victim::start(at, 2, &[]);
        let answered = make_on_all(&victim, kind, usize::MAX, 5);
        victim.bury();
        let saved = kind.saved(&victim);
        for name in &answered {
            assert!(saved.contains_key(name), "{name} was answered");
        }
        victim.restart();
        // It goes on from there.
        let more = good(make(&mut victim.connect(), kind, &names("more", 3)).unwrap());
        victim.cluster.broker.kill();
        let saved = kind.saved(&victim);
        assert!(more.iter().chain(&answered).all(|name| saved.contains_key(name)), "{saved:?}");
    });
}

#[test]
fn a_write_that_fails_fails_all_that_share_it_and_the_next_one_makes_up_for_it() {
    for kind in [Kind::Group, Kind::Topic] {
        let mut victim = Victim::start(At("nothing", 1), 2, &[]);
        let names = names("shared", 20);
        let mut connection = victim.connect();
        // What is to become the file cannot be opened.
        let in_the_way = kind.path(&victim).with_extension("json.tmp");
        fs::create_dir(&in_the_way).unwrap();
        let refused = make(&mut connection, kind, &names).unwrap();
        assert_eq!(refused.len(), names.len());
        for (name, header) in refused {
            let remark = header.remark.unwrap_or_default();
            let says = remark.contains("not on disk") && remark.contains(kind.file());
            assert!(header.code == 1 && says, "{name}: {} {remark}", header.code);
        }
        fs::remove_dir(&in_the_way).unwrap();
        // They are in force already, and there is nothing to change.
        let made = good(make(&mut connection, kind, &names).unwrap());
        assert_eq!(made.len(), names.len());
        victim.cluster.broker.kill();
        let saved = kind.saved(&victim);
        assert!(names.iter().all(|name| saved.contains_key(name)), "{kind:?}: answered, and not on the disk");
    }
}
