//! What every client has once: its connections, the routes it knows, who it is, and its heartbeat. Producers and
//! consumers are built on it and share nothing else.

use std::time::Duration;

use ringmq_protocol::header::UnregisterClient;

use crate::driver::blocking::{OnAsked, Options, Remoting};
use crate::error::Result;
use crate::heartbeat::{Content, Heart};
use crate::identity::Identity;
use crate::route::{NameServers, Routes};

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) remoting: Remoting,
    pub(crate) routes: Routes,
    pub(crate) identity: Identity,
    pub(crate) heart: Heart,
}

impl Session {
    /// `content` makes the heartbeat's content for the client id that it is given.
    pub(crate) fn open(
        names: NameServers,
        connection: &Options,
        timeout: Duration,
        content: impl FnOnce(String) -> Box<Content>,
        on_asked: Box<OnAsked>,
    ) -> Result<Session> {
        let remoting = Remoting::with_listener(connection.clone(), on_asked);
        let identity = Identity::towards(names.addrs().first().map(String::as_str), connection.connect_timeout);
        let routes = Routes::start(remoting.clone(), names, timeout)?;
        let heart = Heart::start(remoting.clone(), routes.clone(), content(identity.client_id.clone()))?;
        Ok(Session { remoting, routes, identity, heart })
    }

    /// Leaves the groups at every broker that knows of them.
    pub(crate) fn leave(&self, producer_group: Option<&str>, consumer_group: Option<&str>) {
        self.heart.unregister(&UnregisterClient {
            client_id: self.identity.client_id.clone(),
            producer_group: producer_group.map(str::to_owned),
            consumer_group: consumer_group.map(str::to_owned),
        });
    }
}
