use super::*;
use crate::command::{Command, HeaderView};
use crate::frame::Serialize;

/// What the Java client 4.9 writes for a V2 send.
const JAVA_V2: &str = r#"{"code":310,"extFields":{"a":"PG","b":"TopicTest","c":"TBW102","d":"4","e":"3","f":"0","g":"1700000000000","h":"0","i":"UNIQ_KEY\u0001AC1100010001\u0002WAIT\u0001true\u0002TAGS\u0001TagA","j":"0","k":"false","m":"false"},"flag":0,"language":"JAVA","opaque":12,"serializeTypeCurrentRPC":"JSON","version":409}"#;

fn view(json: &str) -> HeaderView<'_> {
    HeaderView::parse(Serialize::Json, json.as_bytes()).unwrap()
}

#[test]
fn a_java_send_reads_by_its_short_names() {
    let header = SendHeader::parse(&view(JAVA_V2), Names::V2).unwrap();
    let bytes = JAVA_V2.as_bytes();
    assert_eq!(header.topic.get(bytes).as_plain(), Some("TopicTest"));
    assert_eq!((header.queue_id, header.born_timestamp, header.batch), (3, 1_700_000_000_000, false));
    assert_eq!(header.max_reconsume_times, None);
    let properties = header.properties.unwrap();
    assert!(properties.escaped());
    assert_eq!(properties.get(bytes).to_string(), "UNIQ_KEY\u{1}AC1100010001\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA");
    let owned = SendRequest::decode_names(&view(JAVA_V2), Names::V2).unwrap();
    assert_eq!(owned.producer_group, "PG");
}

#[test]
fn numbers_and_booleans_are_taken_for_strings() {
    let json = r#"{"extFields":{"a":"PG","b":"T","c":"TBW102","d":4,"e":3,"f":0,"g":17,"h":0,"m":true,"l":null,"k":false},"code":310}"#;
    let header = SendHeader::parse(&view(json), Names::V2).unwrap();
    assert_eq!((header.default_topic_queue_nums, header.batch, header.max_reconsume_times), (4, true, None));
}

#[test]
fn a_missing_required_field_is_named() {
    let json = r#"{"code":10,"extFields":{"producerGroup":"PG"}}"#;
    let error = SendHeader::parse(&view(json), Names::V1).unwrap_err();
    assert_eq!(error.to_string(), "the custom field <topic> is null");
    let unreadable = r#"{"code":30,"extFields":{"topic":"T","queueId":"many"}}"#;
    assert_eq!(GetMaxOffset::decode(&view(unreadable)), Err(HeaderError::MissingField("queueId")));
}

#[test]
fn without_ext_fields_everything_is_default() {
    for json in [r#"{"code":10}"#, r#"{"code":10,"extFields":null}"#] {
        assert_eq!(SendHeader::parse(&view(json), Names::V1).unwrap(), SendHeader::default());
    }
    let present = r#"{"code":10,"extFields":{}}"#;
    assert!(SendHeader::parse(&view(present), Names::V1).is_err());
}

#[test]
fn a_header_survives_both_codecs_and_both_names() {
    let header = SendRequest {
        producer_group: "组\"x\"".to_owned(),
        topic: "T".to_owned(),
        default_topic: "TBW102".to_owned(),
        queue_id: -1,
        properties: Some("KEYS\u{1}k\u{2}".to_owned()),
        max_reconsume_times: Some(16),
        ..SendRequest::default()
    };
    for (names, code) in [(Names::V1, 10), (Names::V2, 310)] {
        for serialize in [Serialize::Json, Serialize::RocketMq] {
            let mut command = Command::request(code, 1);
            header.encode_names(names, &mut command.ext);
            let mut bytes = Vec::new();
            command.encode(serialize, &mut bytes).unwrap();
            let view = HeaderView::parse(serialize, &bytes).unwrap();
            assert_eq!(SendRequest::decode_names(&view, names).unwrap(), header);
            let spans = SendHeader::parse(&view, names).unwrap();
            assert_eq!(spans.producer_group.get(&bytes).to_string(), header.producer_group);
        }
    }
}
