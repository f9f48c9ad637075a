//! What a wire is: listeners, the one connection loop, and calls to peers. What the requests mean is not known here.

mod call;
mod connection;
mod frames;
mod limits;
mod server;

pub use call::{CallError, Response};
pub use connection::{Conn, ConnId, Service, connect};
pub use frames::{BodyParts, Frame};
pub use limits::Limits;
pub use server::{Registry, Server, bind};
