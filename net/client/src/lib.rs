//! A RocketMQ client for Rust: producer, pull consumer and admin calls.
