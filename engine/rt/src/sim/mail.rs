//! Moves what shards post to each other. A hop takes its time, and what was posted meanwhile travels along, as with the
//! production backend's driver.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::NodeId;
use super::world::{World, world};
use crate::mesh::Port;

/// The mailboxes of a world.
#[derive(Default)]
pub(super) struct Mail {
    ports: RefCell<Vec<(NodeId, Rc<dyn Port>)>>,
    /// A hop is under way.
    posted: Cell<bool>,
    /// A mailbox was full: it is tried again after every turn of a task.
    held_back: Cell<bool>,
}

/// The longest that a hop takes.
const HOP_NS: u64 = 60_000;

/// A mailbox of the node whose task asks.
pub(crate) fn add_port(port: Rc<dyn Port>) {
    let world = world();
    world.mail.ports.borrow_mut().push((world.node(), port));
}

/// Something was posted and will be moved.
pub(crate) fn mail_posted() {
    let world = world();
    if !world.mail.posted.replace(true) {
        let at = world.now() + world.rng().between(200, HOP_NS);
        world.at(at, |world| {
            world.mail.posted.set(false);
            move_mail(world);
        });
    }
}

/// A task had its turn: there may be room now.
pub(super) fn after_turn(world: &World) {
    if world.mail.held_back.get() {
        move_mail(world);
    }
}

fn move_mail(world: &World) {
    let ports = world.mail.ports.borrow();
    let held_back = ports.iter().filter(|(_, port)| port.flush()).count() > 0;
    world.mail.held_back.set(held_back);
    for (_, port) in ports.iter() {
        port.deliver();
    }
}

/// The mailboxes of a node end with its process.
pub(super) fn crash(world: &World, node: NodeId) {
    let (gone, kept) = world.mail.ports.take().into_iter().partition(|(on, _)| *on == node);
    world.mail.ports.replace(kept);
    drop::<Vec<_>>(gone);
}
