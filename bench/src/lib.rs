//! Load generator for brokers of the RocketMQ protocol.
