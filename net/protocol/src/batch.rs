//! The body of a batch send: messages one behind the other, each with its own flag, body and properties.
//!
//! Topic, queue and times are the header's. The reader borrows and stops at the first thing that is not a message; the
//! writer is for clients.

use thiserror::Error;

use crate::properties::PROPERTIES_MAX;

/// The bytes of a message with neither body nor properties.
const MESSAGE_MIN: usize = 22;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMessage<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a str,
}

/// Why the body of a batch is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// A length of the message that begins at this byte leads out of it or out of the batch.
    #[error("the batch has a bad length in the message at byte {0}")]
    Length(usize),
    #[error("the properties of the batch message at byte {0} are not UTF-8")]
    Utf8(usize),
    #[error("a batch holds more than {0} messages")]
    TooMany(usize),
    #[error("a batch message has properties of {0} bytes, more than {PROPERTIES_MAX}")]
    PropertiesTooLong(usize),
    #[error("a batch message of {0} bytes is longer than a frame")]
    TooLong(usize),
}

/// Reads a batch body message by message.
#[derive(Clone, Debug)]
pub struct BatchReader<'a> {
    body: &'a [u8],
    at: usize,
    left: usize,
    max: usize,
}

impl<'a> BatchReader<'a> {
    /// A reader that refuses a batch of more than `messages_max` messages.
    pub const fn new(body: &'a [u8], messages_max: usize) -> BatchReader<'a> {
        BatchReader { body, at: 0, left: messages_max, max: messages_max }
    }

    /// Checks the whole body and counts its messages, so that a second pass can append them without an error path.
    pub fn check(&self) -> Result<usize, BatchError> {
        let mut count = 0;
        for message in self.clone() {
            message?;
            count += 1;
        }
        Ok(count)
    }

    fn read(&mut self) -> Result<BatchMessage<'a>, BatchError> {
        let start = self.at;
        let bad = BatchError::Length(start);
        let rest = &self.body[start..];
        let total = rest.first_chunk::<4>().map(|total| i32::from_be_bytes(*total)).ok_or(bad)?;
        let total = usize::try_from(total).ok().filter(|total| *total >= MESSAGE_MIN).ok_or(bad)?;
        let message = rest.get(4..total).ok_or(bad)?;
        // Magic and checksum are zero on the wire; the broker computes its own.
        let (head, rest) = message.split_first_chunk::<16>().ok_or(bad)?;
        let [.., f0, f1, f2, f3, b0, b1, b2, b3] = *head;
        let body_len = usize::try_from(i32::from_be_bytes([b0, b1, b2, b3])).map_err(|_| bad)?;
        let (body, rest) = rest.split_at_checked(body_len).ok_or(bad)?;
        let (properties_len, properties) = rest.split_first_chunk::<2>().ok_or(bad)?;
        if usize::try_from(i16::from_be_bytes(*properties_len)) != Ok(properties.len()) {
            return Err(bad);
        }
        let properties = std::str::from_utf8(properties).map_err(|_| BatchError::Utf8(start))?;
        self.at += total;
        Ok(BatchMessage { flag: i32::from_be_bytes([f0, f1, f2, f3]), body, properties })
    }
}

impl<'a> Iterator for BatchReader<'a> {
    type Item = Result<BatchMessage<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.body.len() {
            return None;
        }
        let message = if self.left == 0 { Err(BatchError::TooMany(self.max)) } else { self.read() };
        match message {
            Ok(_) => self.left -= 1,
            // Nothing behind a bad message can be found.
            Err(_) => self.at = self.body.len(),
        }
        Some(message)
    }
}

/// Appends a message to a batch body. On an error `out` is as before.
pub fn push_message(out: &mut Vec<u8>, message: &BatchMessage<'_>) -> Result<(), BatchError> {
    let properties_len = message.properties.len();
    if properties_len > PROPERTIES_MAX {
        return Err(BatchError::PropertiesTooLong(properties_len));
    }
    let total = MESSAGE_MIN + message.body.len() + properties_len;
    if total > crate::frame::FRAME_MAX {
        return Err(BatchError::TooLong(total));
    }
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&message.flag.to_be_bytes());
    out.extend_from_slice(&(message.body.len() as u32).to_be_bytes());
    out.extend_from_slice(message.body);
    out.extend_from_slice(&(properties_len as u16).to_be_bytes());
    out.extend_from_slice(message.properties.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bad_length_ends_the_batch() {
        let mut body = Vec::new();
        push_message(&mut body, &BatchMessage { flag: 1, body: b"one", properties: "a\u{1}b\u{2}" }).unwrap();
        let second = body.len();
        push_message(&mut body, &BatchMessage { flag: 2, body: b"", properties: "" }).unwrap();
        assert_eq!(BatchReader::new(&body, 2).check(), Ok(2));
        assert_eq!(BatchReader::new(&body, 1).check(), Err(BatchError::TooMany(1)));
        for (at, byte) in [(3, 0xFF), (3, 1), (0, 0x80), (19, 200), (16, 0x80), (second + 3, 23), (second + 21, 1)] {
            let mut damaged = body.clone();
            damaged[at] = byte;
            assert!(BatchReader::new(&damaged, 9).check().is_err(), "byte {at}");
        }
        for cut in 1..body.len() {
            assert_eq!(BatchReader::new(&body[..cut], 9).check().is_ok(), cut == second, "cut at {cut}");
        }
        assert_eq!(BatchReader::new(&[], 9).check(), Ok(0));
    }

    #[test]
    fn properties_beyond_an_i16_are_refused() {
        let properties = "p".repeat(PROPERTIES_MAX + 1);
        let mut out = Vec::new();
        let error = push_message(&mut out, &BatchMessage { flag: 0, body: b"", properties: &properties });
        assert_eq!(error, Err(BatchError::PropertiesTooLong(PROPERTIES_MAX + 1)));
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn every_batch_comes_back(messages in prop::collection::vec((any::<i32>(), prop::collection::vec(any::<u8>(), 0..50), ".{0,30}"), 0..10)) {
            let mut body = Vec::new();
            for (flag, content, properties) in &messages {
                push_message(&mut body, &BatchMessage { flag: *flag, body: content, properties }).unwrap();
            }
            let read: Vec<_> = BatchReader::new(&body, 10).map(|message| {
                let message = message.unwrap();
                (message.flag, message.body.to_vec(), message.properties.to_owned())
            }).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BatchReader::new(&bytes, 100).check();
        }
    }
}
