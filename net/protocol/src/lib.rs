//! The RocketMQ remoting protocol and stored record: bytes to meaning and back, without I/O.
