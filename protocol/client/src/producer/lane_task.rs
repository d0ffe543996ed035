//! The task of a lane: time, room in the stream, and the connection to the shard's leader.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use yard_wire::{Code, Refusal};

use super::lane_sender::{Ending, LaneSender, Next};
use crate::Error;
use crate::connection::{Connection, Permit};
use crate::link::{Link, LinkState};

/// How long to sleep when nothing is to be done at any time.
const LONG: Duration = Duration::from_secs(3_600);

/// Runs until the producer or the client is closed or dropped and everything is completed.
pub(super) async fn run(ending: Ending) {
    let lane = &ending.lane;
    let client = &lane.client;
    let mut closing = client.closing();
    let Ok(mut link) = client.topology.link(lane.shard) else {
        return;
    };
    let mut state = link.watch();
    follow(lane, &mut state);
    if *closing.borrow_and_update() {
        lane.close();
    }
    while let Next::Wait { wake_ms, room } = lane.look() {
        let wake = wake_ms.map(|at_ms| client.instant(at_ms));
        let wake = wake.unwrap_or_else(|| tokio::time::Instant::now() + LONG);
        // Work comes last: it only has the lane looked at, which is done in any case.
        tokio::select! {
            biased;
            permit = reserve(room.as_deref(), lane.lane.0), if room.is_some() => {
                let connection = room.as_ref().expect("there is a connection to reserve room of");
                lane.has_room(connection, permit);
            }
            changed = state.changed() => {
                if changed.is_err() && !relink(lane, &mut link, &mut state) {
                    lane.give_up(&Refusal::new(Code::Closed, "the client was closed"));
                }
                follow(lane, &mut state);
                if !lane.is_connected() {
                    relink(lane, &mut link, &mut state);
                }
            }
            _ = closing.changed() => lane.close(),
            () = tokio::time::sleep_until(wake) => {}
            () = lane.work.notified() => {}
        }
    }
}

/// Takes the way to the shard that the newest route shows; false if that is no other.
fn relink(lane: &LaneSender, link: &mut Arc<Link>, state: &mut watch::Receiver<LinkState>) -> bool {
    match lane.client.topology.link(lane.shard) {
        Ok(found) if !Arc::ptr_eq(&found, link) => {
            *state = found.watch();
            state.mark_changed();
            *link = found;
            true
        }
        Ok(_) | Err(_) => false,
    }
}

fn follow(lane: &Arc<LaneSender>, state: &mut watch::Receiver<LinkState>) {
    let found = match &*state.borrow_and_update() {
        LinkState::Up(connection) => Some(connection.clone()),
        LinkState::Down(_) => None,
    };
    lane.follow(found);
}

async fn reserve(connection: Option<&Connection>, lane: u16) -> Result<Permit<'_>, Error> {
    match connection {
        Some(connection) => connection.reserve(Some(lane)).await,
        None => Err(Error::new(Code::Disconnected, "there is no connection")),
    }
}
