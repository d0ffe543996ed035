//! What goes wrong, at its time.
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yard_checker::{Crash, CrashKind, Event};

use crate::plan::Fault;
use crate::recorder::Recorder;
use crate::world::{Life, World};

/// Lets all faults of the plan strike; the broker's life at the end.
///
/// # Errors
/// When a start of the broker was refused, with why.
pub(crate) async fn strike(
    world: Arc<World>,
    recorder: Recorder,
    mut life: Life,
) -> Result<Life, String> {
    let began = Instant::now();
    for (at, fault) in world.plan.faults.clone() {
        tokio::time::sleep_until(began + at).await;
        recorder.note(&[6], || format!("fault: {fault:?}"));
        match fault {
            Fault::Cut { client, ways, ms } => {
                let clients = client.map_or(0..world.plan.clients(), |only| only..only + 1);
                for client in clients {
                    world.network.cut(client, ways, Duration::from_millis(ms));
                }
            }
            Fault::SlowDisk { factor, ms } => {
                world.slow_down(factor, Duration::from_millis(ms));
            }
            Fault::Move { client } => world.network.readdress(client),
            Fault::Rebind { client } => world.rebind(client),
            Fault::Crash { kind, ms } => {
                life.crash(&world, kind);
                let at = recorder.now();
                recorder.push(Event::Crash(Crash { at, kind }));
                tokio::time::sleep(Duration::from_millis(ms)).await;
                life = Life::begin(&world).await?;
            }
            Fault::Restart { ms } => {
                life.stop(&world).await;
                // What was acknowledged from memory has been written by then, so nothing is lost;
                // for the checker it is a death all the same.
                let at = recorder.now();
                recorder.push(Event::Crash(Crash { at, kind: CrashKind::Process }));
                tokio::time::sleep(Duration::from_millis(ms)).await;
                life = Life::begin(&world).await?;
            }
        }
    }
    Ok(life)
}
