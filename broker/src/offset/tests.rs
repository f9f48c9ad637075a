use super::*;
use crate::group_config::GroupSettings;
use crate::topic::TopicSettings;
use proptest::prelude::*;
use ringmq_protocol::code::ResponseCode;

fn commit<'a>(group: &'a str, topic: &'a str, queue_id: i32, offset: i64) -> Commit<'a> {
    Commit { group, topic, queue_id, offset }
}

#[test]
fn an_update_needs_its_group_its_topic_and_an_offset() {
    let topics = TopicTable::open(TopicSettings::new("c", "b", 1), None, 0);
    let groups = GroupTable::open(GroupSettings { auto_create: true, create_system: true }, None, 0);
    let mut table = OffsetTable::default();
    let asked = |group: &str, topic: &str, commit_offset| UpdateConsumerOffset {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: 0,
        commit_offset,
    };
    let refusal = table.update(&asked("nobody", "TBW102", Some(1)), &groups, &topics).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.remark.as_str()),
        (ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, "Group nobody not exist!")
    );
    let refusal = table.update(&asked("TOOLS_CONSUMER", "nothing", Some(1)), &groups, &topics).unwrap_err();
    assert_eq!((refusal.code, refusal.remark.as_str()), (ResponseCode::TOPIC_NOT_EXIST, "Topic nothing not exist!"));
    let refusal = table.update(&asked("TOOLS_CONSUMER", "TBW102", None), &groups, &topics).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.remark.as_str()),
        (ResponseCode::INVALID_PARAMETER, "Offset is null, topic is TBW102")
    );
    assert!(table.is_empty());
    assert_eq!(table.update(&asked("TOOLS_CONSUMER", "TBW102", Some(1)), &groups, &topics), Ok(()));
    assert_eq!(table.stored("TOOLS_CONSUMER", "TBW102", 0), Some(1));
}

#[test]
fn offsets_may_go_back_and_negative_ones_are_ignored() {
    let mut table = OffsetTable::default();
    table.commit(commit("g", "T", 0, 9)).unwrap();
    table.commit(commit("g", "T", 0, 4)).unwrap();
    table.commit(commit("g", "T", 0, -1)).unwrap();
    table.commit(commit("g", "T", 1, -1)).unwrap();
    assert_eq!((table.stored("g", "T", 0), table.stored("g", "T", 1)), (Some(4), None));
}

#[test]
fn nobody_but_the_brokers_own_readers_moves_their_progress() {
    use crate::own_group::{LEVELS, OWN};
    let mut table = OffsetTable::default();
    for (group, topic) in OWN {
        table.progress(commit(group, topic, 0, 3)).unwrap();
        table.commit(commit("ahead", topic, 0, 9)).unwrap();
        let refusals = [
            table.commit(commit(group, topic, 0, 9)),
            table.reset(group, topic, &[(0, 9)].into()),
            table.clone_group(topic, "ahead", group),
            table.clone_group(topic, "nobody", group),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().code, ResponseCode::NO_PERMISSION);
        }
        table.remove_group(group);
        table.progress(commit(group, topic, 1, 4)).unwrap();
        assert_eq!((table.stored(group, topic, 0), table.stored(group, topic, 1)), (Some(3), Some(4)));
        table.clone_group(topic, group, "copy").unwrap();
        assert_eq!(table.stored("copy", topic, 0), Some(3), "others may begin where the broker is");
    }
    // Such a group is like any other in other topics.
    table.commit(commit(LEVELS, "T", 0, 9)).unwrap();
    table.remove_group(LEVELS);
    assert_eq!(table.stored(LEVELS, "T", 0), None);
    let file = OffsetFile::parse(&table.to_file(0)).unwrap();
    assert_eq!(OffsetTable::open(Some(file)).list().offset_table, table.list().offset_table);
}

#[test]
fn a_reset_is_proof_against_commits_until_the_group_was_told() {
    let mut table = OffsetTable::default();
    table.commit(commit("g", "T", 0, 9)).unwrap();
    table.reset("g", "T", &[(0, 2), (1, 3)].into()).unwrap();
    for queue_id in 0..2 {
        table.commit(commit("g", "T", queue_id, 8)).unwrap();
    }
    table.commit(commit("h", "T", 0, 8)).unwrap();
    let stored = |table: &OffsetTable, group| [0, 1].map(|id| table.stored(group, "T", id));
    assert_eq!(stored(&table, "g"), [Some(2), Some(3)]);
    assert_eq!(stored(&table, "h"), [Some(8), None]);
    table.reset_told(&GroupQueue { group: "g".into(), topic: "T".into(), queue_id: 0 });
    for queue_id in 0..2 {
        table.commit(commit("g", "T", queue_id, 5)).unwrap();
    }
    assert_eq!(stored(&table, "g"), [Some(5), Some(3)]);
    table.forget_resets("g");
    table.commit(commit("g", "T", 1, 5)).unwrap();
    assert_eq!(stored(&table, "g"), [Some(5), Some(5)]);
}

#[test]
fn resets_are_bounded() {
    let mut table = OffsetTable::default();
    let many: BTreeMap<i32, i64> = (0..OFFSET_QUEUE_MAX).map(|id| (id, 0)).collect();
    table.reset("g", "T", &many).unwrap();
    assert_eq!(table.reset("g", "U", &many).unwrap_err().code, ResponseCode::SYSTEM_ERROR);
    assert_eq!(table.stored("g", "U", 0), None, "all or none");
}

#[test]
fn a_clone_has_exactly_the_offsets_of_its_source() {
    let mut table = OffsetTable::default();
    for (group, queue_id, offset) in [("from", 0, 5), ("from", 1, 6), ("to", 1, 1), ("to", 2, 1)] {
        table.commit(commit(group, "T", queue_id, offset)).unwrap();
    }
    table.clone_group("T", "nobody", "to").unwrap();
    assert_eq!(table.queues("T", "to"), Some(&[(1, 1), (2, 1)].into()), "without a source nothing changes");
    table.clone_group("T", "from", "to").unwrap();
    assert_eq!(table.queues("T", "to"), Some(&[(0, 5), (1, 6)].into()));
    assert_eq!((table.len(), table.count), (2, 4));
}

#[test]
fn what_could_not_be_written_is_refused() {
    let mut table = OffsetTable::default();
    for bad in [
        commit("g", "T", -1, 0),
        commit("g", "T", OFFSET_QUEUE_MAX + 1, 0),
        commit("g@h", "T", 0, 0),
        commit("g", "T@U", 0, 0),
        commit("", "T", 0, 0),
        commit("g", "", 0, 0),
    ] {
        assert_eq!(table.commit(bad).unwrap_err().code, ResponseCode::INVALID_PARAMETER, "{bad:?}");
    }
    assert!(table.is_empty() && !table.revision().is_dirty());
}

#[test]
fn a_new_group_starts_at_zero_while_the_first_message_is_there_and_recent() {
    let initial = |zero, min, behind_origin| OffsetTable::initial(zero, Some(Beginning { min, behind_origin }), 1000);
    for zero in [None, Some(true)] {
        for behind in [None, Some(0), Some(1), Some(1000)] {
            assert_eq!(initial(zero, 0, behind), Ok(0), "{behind:?}");
        }
    }
    let not_found = OffsetTable::initial(None, None, 1000).unwrap_err();
    assert_eq!(not_found.code, ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(not_found.remark, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first");
    for (min, behind) in [(0, Some(1001)), (0, Some(u64::MAX)), (5, None)] {
        assert_eq!(initial(None, min, behind).as_ref(), Err(&not_found), "{min} {behind:?}");
    }
    let unwanted = initial(Some(false), 0, None).unwrap_err();
    assert_eq!(unwanted.code, ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(unwanted.remark, "Not found, do not set to zero, maybe this group boot first");
}

#[test]
fn only_changes_make_the_table_dirty() {
    let mut table = OffsetTable::default();
    table.commit(commit("g", "T", 0, 1)).unwrap();
    let revision = table.revision();
    assert!(revision.is_dirty());
    table.saved(revision.current());
    table.commit(commit("g", "T", 0, 1)).unwrap();
    table.remove_topic("U");
    table.remove_group("h");
    assert!(!table.revision().is_dirty());
    table.remove_group("g");
    assert!(table.revision().is_dirty());
}

#[test]
fn the_table_outlives_a_restart() {
    let mut table = OffsetTable::default();
    for (topic, queue) in [("T", 0), ("T", 11), ("%RETRY%g", 0)] {
        table.commit(commit("g", topic, queue, i64::from(queue) + 5)).unwrap();
    }
    let again = OffsetTable::open(Some(OffsetFile::parse(&table.to_file(77)).unwrap()));
    assert_eq!(again.list(), table.list());
    assert_eq!(again.list().data_version.timestamp, 77);
    assert_eq!((again.len(), again.count), (table.len(), table.count));
    assert!(!again.revision().is_dirty());
}

/// As 4.9 writes it: queue numbers are not quoted and there is no version. 5.x adds one and more members.
const FILE_4_9: &str = "{\n\t\"offsetTable\":{\n\t\t\"T@g\":{0:12,1:7\n\t\t},\n\t\t\"%RETRY%g@g\":{0:3\n\t\t}\n\t}\n}";
const FILE_5: &str = r#"{"dataVersion":{"counter":4,"stateVersion":0,"timestamp":9},"groupTopicMap":{"g":["T"]},"offsetTable":{"T@g":{"0":12,"1":-1},"odd":{"0":1},"a@b@c":{"0":1}}}"#;

#[test]
fn the_files_of_rocketmq_are_taken_over() {
    let table = OffsetTable::open(Some(OffsetFile::parse(FILE_4_9.as_bytes()).unwrap()));
    assert_eq!((table.stored("g", "T", 0), table.stored("g", "T", 1)), (Some(12), Some(7)));
    assert_eq!(table.stored("g", "%RETRY%g", 0), Some(3));
    let table = OffsetTable::open(Some(OffsetFile::parse(FILE_5.as_bytes()).unwrap()));
    assert_eq!((table.stored("g", "T", 0), table.stored("g", "T", 1)), (Some(12), None));
    assert_eq!(table.len(), 1);
    assert_eq!(table.list().data_version.counter, 4);
}

#[test]
fn a_damaged_file_is_not_taken_for_an_empty_one() {
    for text in
        ["{}", "{\"offsetTable\":null}", "{\"offsetTable\":{\"T@g\":{0:}}}", "{\"offsetTable\":{\"T@g\":{x:1}}}"]
    {
        assert!(OffsetFile::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit { topic: u8, group: u8, queue_id: i32, offset: i64 },
    RemoveTopic(u8),
    RemoveGroup(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3u8, 0..3u8, 0..3i32, -1..20i64)
            .prop_map(|(topic, group, queue_id, offset)| Step::Commit { topic, group, queue_id, offset }),
        1 => (0..3u8).prop_map(Step::RemoveTopic),
        1 => (0..3u8).prop_map(Step::RemoveGroup),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// The table is a map from (topic, group, queue) to an offset, whatever is removed or restarted in between.
    #[test]
    fn offsets_follow_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = OffsetTable::default();
        let mut model: BTreeMap<(u8, u8, i32), i64> = BTreeMap::new();
        let name = |prefix: &str, n: u8| format!("{prefix}{n}");
        for step in steps {
            match step {
                Step::Commit { topic, group, queue_id, offset } => {
                    if offset >= 0 {
                        model.insert((topic, group, queue_id), offset);
                    }
                    let (topic, group) = (name("t", topic), name("g", group));
                    table.commit(Commit { topic: &topic, group: &group, queue_id, offset }).unwrap();
                }
                Step::RemoveTopic(topic) => {
                    model.retain(|(t, _, _), _| *t != topic);
                    table.remove_topic(&name("t", topic));
                }
                Step::RemoveGroup(group) => {
                    model.retain(|(_, g, _), _| *g != group);
                    table.remove_group(&name("g", group));
                }
                Step::Restart => table = OffsetTable::open(Some(OffsetFile::parse(&table.to_file(0)).unwrap())),
            }
            prop_assert_eq!(table.count, model.len());
            for topic in 0..3u8 {
                let has = |group: &u8| model.keys().any(|(t, g, _)| (*t, *g) == (topic, *group));
                let groups: Vec<String> = (0..3u8).filter(has).map(|group| name("g", group)).collect();
                prop_assert_eq!(table.groups_of(&name("t", topic)).collect::<Vec<_>>(), groups);
                for group in 0..3u8 {
                    let listed = table.topics_of(&name("g", group)).any(|t| t == name("t", topic));
                    prop_assert_eq!(listed, has(&group));
                    for queue_id in 0..3 {
                        let stored = table.stored(&name("g", group), &name("t", topic), queue_id);
                        prop_assert_eq!(stored, model.get(&(topic, group, queue_id)).copied());
                    }
                }
            }
        }
    }
}
