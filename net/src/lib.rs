//! Sockets: listeners, the connection loop, outbound calls.
