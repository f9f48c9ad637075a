use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::body::MessageQueue;

fn read(text: &str) -> Json {
    parse(text.as_bytes()).unwrap()
}

#[test]
fn fastjsons_dialect_is_understood() {
    let text = r#" {brokerAddrs:{0:"a:1", 1 : 'b\'s'},"n":"12",'q':null,"t":[1,2.5,-3e2,true,5L,],
        "m":{{"brokerName":"b","queueId":0,"topic":"t"}:5},"r":{"$ref":"$.t"},} "#;
    let json = read(text);
    let addresses: BTreeMap<i64, String> = FromJson::from_json(json.get("brokerAddrs").unwrap(), "x").unwrap();
    assert_eq!(addresses, [(0, "a:1".to_owned()), (1, "b's".to_owned())].into());
    assert_eq!(i32::from_json(json.get("n").unwrap(), "n"), Ok(12));
    assert_eq!(json.get("q"), None);
    let list = [Json::Int(1), Json::Float(2.5), Json::Float(-300.0), Json::Bool(true), Json::Int(5)];
    assert_eq!(json.get("t"), Some(&Json::Array(list.to_vec())));
    let offsets: BTreeMap<MessageQueue, i64> = FromJson::from_json(json.get("m").unwrap(), "m").unwrap();
    assert_eq!(offsets[&MessageQueue::new("t", "b", 0)], 5);
    assert!(json.get("r").unwrap().get("$ref").is_some());
    assert_eq!(read("  "), Json::Null);
}

#[test]
fn queue_keys_go_out_inline_and_number_keys_quoted() {
    let offsets: BTreeMap<MessageQueue, i64> = [(MessageQueue::new("t\"", "b", 3), 7)].into();
    assert_eq!(to_vec(&offsets), br#"{{"brokerName":"b","queueId":3,"topic":"t\""}:7}"#);
    let numbers: BTreeMap<i32, f64> = [(-1, 2.0), (3, f64::NAN)].into();
    assert_eq!(to_vec(&numbers), br#"{"-1":2.0,"3":0.0}"#);
}

#[test]
fn broken_bodies_are_refused() {
    for text in [
        "{",
        "[1",
        "{a}",
        "{a:}",
        "[,]",
        "\"x",
        "tru",
        "1 2",
        "{\"a\":1}}",
        "[1 2]",
        "'",
        "nan",
        "inf",
        "\"\\x\"",
        "{\"a\" 1}",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(parse(b"\xff"), Err(JsonError::Utf8));
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse("{".repeat(100_000).as_bytes()), Err(JsonError::TooDeep));
    let wide = format!("[{}", "0,".repeat(NODES_MAX));
    assert_eq!(parse(wide.as_bytes()), Err(JsonError::TooMany));
    let deepest = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert!(parse(deepest.as_bytes()).is_ok());
}

#[test]
fn a_number_that_does_not_fit_is_an_error() {
    assert_eq!(i32::from_json(&read("3000000000"), "perm"), Err(JsonError::Type("perm")));
    assert_eq!(i64::from_json(&read("\"12x\""), "perm"), Err(JsonError::Type("perm")));
    assert_eq!(bool::from_json(&read("\"TRUE\""), "order"), Ok(true));
}

fn trees() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::Int),
        (-1e12..1e12f64).prop_map(Json::Float),
        ".{0,12}".prop_map(Json::Str),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::vec((".{0,6}", inner), 0..6).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn every_tree_comes_back_and_is_strict_json(tree in trees()) {
        let text = to_vec(&tree);
        prop_assert_eq!(parse(&text).unwrap(), tree);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn any_text_is_an_answer(text in r#"[{}\[\]:,"'a0.\\-]{0,60}"#) {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes);
    }
}
