//! The body with which a broker registers at a name server, plain or compressed.

use thiserror::Error;

use super::{DataVersion, TopicConfig, TopicConfigSerializeWrapper};
use crate::code::version;
use crate::compress::{CompressError, deflate, inflate};
use crate::json::{FromJson, JsonError, parse, to_vec};

/// The most a compressed registration may unpack to: a million topics with long names.
pub const REGISTER_UNPACKED_MAX: usize = 128 * 1024 * 1024;

bodies! {
    /// Code 103.
    RegisterBrokerBody {
        filter_server_list: Vec<String> => "filterServerList";
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper => "topicConfigSerializeWrapper";
    }
}

/// Why a registration is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RegisterBodyError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// A length inside the unpacked body leads out of it, or a topic is not in its text form.
    #[error("the unpacked body has a bad {0}")]
    Layout(&'static str),
    /// The checksum in the header is not that of the body.
    #[error("body crc32 not match")]
    Checksum,
}

/// The checksum that the header of a registration carries, of the body as transmitted.
pub fn body_crc32(body: &[u8]) -> i32 {
    (crc32fast::hash(body) & 0x7FFF_FFFF) as i32
}

impl RegisterBrokerBody {
    /// Reads the body of a registration of any version: `compressed` and `crc32` are the header's, 0 is not checked.
    pub fn decode(
        body: &[u8],
        compressed: bool,
        crc32: i32,
        request_version: i32,
    ) -> Result<RegisterBrokerBody, RegisterBodyError> {
        if crc32 != 0 && crc32 != body_crc32(body) {
            return Err(RegisterBodyError::Checksum);
        }
        if request_version < version::V3_0_11 {
            let topic_config_serialize_wrapper = TopicConfigSerializeWrapper::parse(body)?;
            return Ok(RegisterBrokerBody { topic_config_serialize_wrapper, ..RegisterBrokerBody::default() });
        }
        // A broker that has nothing to say about topics sends no body.
        if body.is_empty() {
            return Ok(RegisterBrokerBody::default());
        }
        if compressed { RegisterBrokerBody::unpack(body) } else { Ok(RegisterBrokerBody::parse(body)?) }
    }

    /// The compressed form. With `mapping_part` it ends with an empty list of static topics, which name servers of 5.x
    /// expect when the request's version is at least that of 5.0.0.
    pub fn pack(&self, mapping_part: bool) -> Result<Vec<u8>, RegisterBodyError> {
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut out = Vec::new();
        put_part(&wrapper.data_version.to_vec(), &mut out);
        out.extend_from_slice(&(wrapper.topic_config_table.len() as u32).to_be_bytes());
        for config in wrapper.topic_config_table.values() {
            put_part(config.to_text().as_bytes(), &mut out);
        }
        put_part(&to_vec(&self.filter_server_list), &mut out);
        if mapping_part {
            out.extend_from_slice(&0_u32.to_be_bytes());
        }
        Ok(deflate(&out, 9)?)
    }

    fn unpack(body: &[u8]) -> Result<RegisterBrokerBody, RegisterBodyError> {
        let unpacked = inflate(body, REGISTER_UNPACKED_MAX)?;
        let mut rest = unpacked.as_slice();
        let data_version = take_part(&mut rest).ok_or(RegisterBodyError::Layout("data version"))?;
        let data_version = DataVersion::parse(data_version)?;
        let mut wrapper = TopicConfigSerializeWrapper { data_version, ..TopicConfigSerializeWrapper::default() };
        let count = take_number(&mut rest).ok_or(RegisterBodyError::Layout("topic count"))?;
        for _ in 0..count {
            let config = take_part(&mut rest)
                .and_then(|text| std::str::from_utf8(text).ok())
                .and_then(TopicConfig::from_text)
                .ok_or(RegisterBodyError::Layout("topic"))?;
            wrapper.topic_config_table.insert(config.topic_name.clone(), config);
        }
        let servers = take_part(&mut rest).ok_or(RegisterBodyError::Layout("filter server list"))?;
        let filter_server_list = Vec::from_json(&parse(servers)?, "filterServerList")?;
        // What may follow describes static topics.
        Ok(RegisterBrokerBody { filter_server_list, topic_config_serialize_wrapper: wrapper })
    }
}

fn put_part(part: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    usize::try_from(i32::from_be_bytes(*number)).ok()
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_number(rest)?;
    let (part, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(part)
}
