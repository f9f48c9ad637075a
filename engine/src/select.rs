//! How a reader says which messages of a queue it wants: by their tag hash alone, or by the records themselves.

/// What a reader wants of a queue's messages.
pub trait Select {
    /// By the tag hash of its entry, before the message is looked for.
    fn wants_tags(&mut self, tags_code: i64) -> bool;

    /// By the whole record. One that is refused costs the reader no message and no byte of its request.
    fn wants_record(&mut self, _record: &[u8]) -> bool {
        true
    }

    /// Asked before each message: whether looking at records has cost enough for one read. The reader then goes on from
    /// there with its next one.
    fn is_spent(&self) -> bool {
        false
    }
}

impl<F: FnMut(i64) -> bool> Select for F {
    fn wants_tags(&mut self, tags_code: i64) -> bool {
        self(tags_code)
    }
}
