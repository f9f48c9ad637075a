//! The runtime seam: executors, sockets, direct-I/O files, timers and mailboxes.
