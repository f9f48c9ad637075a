use proptest::prelude::*;

use super::*;
use crate::frame::{FRAME_MAX, FrameHead, PREFIX_LEN};
use crate::value::Value;

fn json(text: &str) -> Result<Command, HeaderError> {
    Command::decode(Serialize::Json, text.as_bytes())
}

#[test]
fn json_is_taken_in_any_order_with_unknown_members() {
    let command = json(
        r#" { "extFields" : { "b" : "T" , "d":4,"x":1.50,"n":null,"o":{"deep":[1,{"a":2}]},"t":true } ,
            "future": [[{"a":"b"}], null, -1e5], "opaque":-7, "language":"GO", "remark":"a\nb",
            "version":"317", "flag":2, "code":310 } "#,
    )
    .unwrap();
    assert_eq!((command.code, command.opaque, command.version), (310, -7, 317));
    assert_eq!(command.language, Language::GO);
    assert!(command.is_oneway() && !command.is_response());
    assert_eq!(command.remark.as_deref(), Some("a\nb"));
    let ext: Vec<_> = command.ext.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(ext, [("b", "T"), ("d", "4"), ("x", "1.50"), ("t", "true")]);
}

#[test]
fn broken_json_is_refused() {
    let broken = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        r#"{"code":}"#,
        r#"{"code":1"#,
        r#"{"code":1}x"#,
        r#"{"code":1,}"#,
        r#"{"code":"ten"}"#,
        r#"{"code":99999999999}"#,
        r#"{"code":1,"extFields":{"a":"b}}"#,
        r#"{"code":1,"extFields":{"a":"\u12"}}"#,
        r#"{"code":1,"extFields":{"a":"\x"}}"#,
        r#"{"code":1,"extFields":{"a":nope}}"#,
        r#"{"code":1,"extFields":"a"}"#,
    ];
    for text in broken {
        assert!(json(text).is_err(), "{text}");
    }
    let nested = format!(r#"{{"code":1,"x":{}}}"#, "[".repeat(1000));
    assert!(json(&nested).is_err());
    assert_eq!(Command::decode(Serialize::Json, b"{\"code\":1,\"remark\":\"\xff\"}"), Err(HeaderError::Utf8));
}

#[test]
fn ext_fields_are_bounded() {
    let fields: Vec<_> = (0..=EXT_FIELDS_MAX).map(|n| format!(r#""k{n}":"v""#)).collect();
    let text = format!(r#"{{"code":1,"extFields":{{{}}}}}"#, fields.join(","));
    assert_eq!(json(&text), Err(HeaderError::TooManyExtFields));
}

#[test]
fn the_last_of_equal_keys_counts() {
    let text = r#"{"code":1,"extFields":{"a":"1","a":"2"}}"#;
    let view = HeaderView::parse(Serialize::Json, text.as_bytes()).unwrap();
    assert!(view.get("a").unwrap().eq_str("2"));
    assert!(view.get("b").is_none());
    assert_eq!(json(text).unwrap().ext("a"), Some("2"));
}

#[test]
fn lengths_of_a_binary_header_are_checked() {
    let mut command = Command::request(310, 5);
    command.remark = Some("why".to_owned());
    command.ext = vec![("a".to_owned(), "PG".to_owned()), ("empty".to_owned(), String::new())];
    let mut bytes = Vec::new();
    command.encode(Serialize::RocketMq, &mut bytes).unwrap();
    assert_eq!(bytes.len(), 21 + 3 + (2 + 1 + 4 + 2) + (2 + 5 + 4));
    command.ext.pop();
    assert_eq!(Command::decode(Serialize::RocketMq, &bytes).unwrap(), command);
    for cut in 0..bytes.len() {
        assert!(Command::decode(Serialize::RocketMq, &bytes[..cut]).is_err(), "{cut}");
    }
    bytes.push(0);
    assert_eq!(Command::decode(Serialize::RocketMq, &bytes), Err(HeaderError::Truncated));
}

#[test]
fn the_binary_codec_refuses_what_it_cannot_hold() {
    let mut out = b"kept".to_vec();
    let error = Command::request(200_050, 1).encode_frame(Serialize::RocketMq, b"", &mut out).unwrap_err();
    assert_eq!(error, EncodeError::Header(HeaderError::Unencodable("code")));
    assert_eq!(out, b"kept");
}

#[test]
fn a_reply_has_what_every_client_needs() {
    let mut out = Vec::new();
    let mut writer = ReplyHead { code: 1, opaque: -3, remark: Some("no \"such\"\u{1} topic") }.begin(&mut out);
    writer.str("msgId", "0A\\").i64("queueOffset", i64::MIN).bool("TRACE_ON", true).value("v", Value::plain("a\"b"));
    writer.finish(11).unwrap();
    let head = FrameHead::parse(out[..PREFIX_LEN].try_into().unwrap()).unwrap();
    assert_eq!((head.serialize, head.body_len(), head.body_start()), (Serialize::Json, 11, out.len()));
    let header: serde_json::Value = serde_json::from_slice(&out[PREFIX_LEN..]).unwrap();
    let expected = serde_json::json!({
        "code": 1, "flag": 1, "language": "JAVA", "opaque": -3, "remark": "no \"such\"\u{1} topic",
        "serializeTypeCurrentRPC": "JSON", "version": 479,
        "extFields": {"msgId": "0A\\", "queueOffset": "-9223372036854775808", "TRACE_ON": "true", "v": "a\"b"},
    });
    assert_eq!(header, expected);
}

#[test]
fn a_reply_without_fields_still_has_the_object() {
    let mut out = Vec::new();
    ReplyHead { code: 0, opaque: 1, remark: None }.begin(&mut out).finish_with_body(b"body").unwrap();
    assert!(out.ends_with(br#""extFields":{}}body"#));
    let view = HeaderView::parse(Serialize::Json, &out[PREFIX_LEN..out.len() - 4]).unwrap();
    assert!(view.has_ext() && view.is_response());
}

#[test]
fn a_reply_beyond_the_frame_limit_is_taken_back() {
    let mut out = b"kept".to_vec();
    assert!(ReplyHead { code: 0, opaque: 1, remark: None }.begin(&mut out).finish(FRAME_MAX).is_err());
    assert_eq!(out, b"kept");
}

fn commands() -> impl Strategy<Value = Command> {
    let ext = prop::collection::vec((".{0,8}", ".{1,40}"), 0..30);
    let numbers = (0..=i32::from(i16::MAX), any::<i32>(), any::<i32>(), 0..=i32::from(i16::MAX), 0..14i32);
    (numbers, prop::option::of(".{1,40}"), ext).prop_map(|((code, flag, opaque, version, language), remark, ext)| {
        Command { code, flag, opaque, version, language: Language(language), remark, ext }
    })
}

proptest! {
    #[test]
    fn every_command_comes_back(command in commands(), body in prop::collection::vec(any::<u8>(), 0..50)) {
        for serialize in [Serialize::Json, Serialize::RocketMq] {
            let mut out = Vec::new();
            command.encode_frame(serialize, &body, &mut out).unwrap();
            let head = FrameHead::parse(out[..PREFIX_LEN].try_into().unwrap()).unwrap();
            prop_assert_eq!(head.frame_len(), out.len());
            let decoded = Command::decode(serialize, &out[PREFIX_LEN..head.body_start()]).unwrap();
            prop_assert_eq!(&decoded, &command);
            prop_assert_eq!(&out[head.body_start()..], &body[..]);
        }
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for serialize in [Serialize::Json, Serialize::RocketMq] {
            let _ = Command::decode(serialize, &bytes);
        }
    }

    #[test]
    fn damaged_headers_are_an_answer(command in commands(), at: prop::sample::Index, byte: u8) {
        for serialize in [Serialize::Json, Serialize::RocketMq] {
            let mut out = Vec::new();
            command.encode(serialize, &mut out).unwrap();
            let at = at.index(out.len());
            out[at] = byte;
            let _ = Command::decode(serialize, &out);
        }
    }
}
