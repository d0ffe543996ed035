//! Versions on trial: taken back when they fail, made active when they have baked.
use std::sync::Weak;
use std::time::Duration;

use yard_broker::{Event, Origin, TrialKind};
use yard_shard::Input;
use yard_wasm::canary::{Decision, Rules};
use yard_wire::operation::{Operate, PluginPromote, PluginRollback};
use yard_wire::request::Request;
use yard_wire::requests::Call;
use yard_wire::{Correlation, ShardId, TenantId};

use crate::hub::{Hub, OWN_SESSION};

/// How often trials are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Looks at trials until the broker ends.
pub(crate) async fn run(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(hub) = hub.upgrade() else { return };
        look(&hub);
    }
}

fn look(hub: &Hub) {
    let now = crate::time::now();
    let policies = &hub.policies;
    for (whose, plugin, trial) in policies.registry.trials() {
        if trial.kind != TrialKind::Canary {
            continue;
        }
        let bake_ms = trial.until.0.saturating_sub(plugin.changed.0);
        let rules = Rules { bake_ms, ..Rules::default() };
        let evidence = policies.journal.evidence(&whose);
        let (tenant, name) = whose.clone();
        match rules.decide(plugin.changed.0, now.0, &evidence) {
            Decision::Abort(why) => {
                let text = format!("the canary is taken back: {why}");
                tracing::warn!(tenant = tenant.0, plugin = %name, %text, "plugin trial");
                policies.journal.say(&whose, now, trial.version, text);
                ask(hub, tenant, &PluginRollback { name });
            }
            Decision::Promote if trial.until.0 > 0 => {
                let text = "the canary has baked".to_owned();
                policies.journal.say(&whose, now, trial.version, text);
                let version = Some(trial.version);
                ask(hub, tenant, &PluginPromote { name, version });
            }
            Decision::Bake { .. } | Decision::Promote => {}
        }
    }
}

/// Runs an operation in a tenant's name. Nobody waits for its answer.
fn ask<T: Operate>(hub: &Hub, tenant: TenantId, arguments: &T) {
    let (operation, args) = (T::OPERATION as u16, arguments.to_bytes());
    let request = Request::Call(Call { operation, args });
    let origin = Origin { session: OWN_SESSION, stream: 0, correlation: Correlation(0) };
    if let Some(inbox) = hub.inbox(ShardId(0)) {
        inbox.put_after(tenant, Input::Event(Event::Request { origin, tenant, request }));
    }
}
