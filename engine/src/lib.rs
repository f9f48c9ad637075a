//! One shard's storage: commit log, group commit, queue index, recovery.
