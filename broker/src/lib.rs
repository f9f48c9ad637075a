//! What RocketMQ means: send, pull, groups, offsets, topics.
