//! Which topics have plugins before them: a mirror of the metadata for who takes batches in.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use yard_broker::MetaChange;
use yard_wasm::Binding;
use yard_wire::plugin_use::PluginUse;
use yard_wire::{TenantId, TopicId};

/// The interceptor of a topic.
pub(crate) struct Interceptor {
    /// Whose topic it is.
    pub(crate) tenant: TenantId,
    /// The plugin.
    pub(crate) used: PluginUse,
    /// Its settings.
    pub(crate) binding: Arc<Binding>,
}

/// The topics that have plugins.
#[derive(Default)]
pub(crate) struct Points {
    topics: RwLock<BTreeMap<TopicId, Arc<Interceptor>>>,
    /// How many they are: mostly none, and then nobody looks further.
    count: AtomicUsize,
}

impl Points {
    /// Takes in a change of the metadata.
    pub(crate) fn learn(&self, change: &MetaChange) {
        let (topic, interceptor) = match change {
            MetaChange::TopicPut(topic) => {
                let interceptor = topic.settings.interceptor.clone().map(|used| {
                    let binding = Binding::new(String::new(), used.settings().to_vec());
                    Arc::new(Interceptor { tenant: topic.tenant, used, binding })
                });
                (topic.topic, interceptor)
            }
            MetaChange::TopicRemoved { topic, .. } => (*topic, None),
            MetaChange::ChecksPut(_)
            | MetaChange::GroupPut(_)
            | MetaChange::KeyPut(_)
            | MetaChange::KeyRemoved { .. }
            | MetaChange::PluginFile(_)
            | MetaChange::PluginPut(_)
            | MetaChange::PluginRemoved { .. }
            | MetaChange::TenantPut(_) => return,
        };
        if interceptor.is_none() && self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        match interceptor {
            Some(interceptor) => topics.insert(topic, interceptor),
            None => topics.remove(&topic),
        };
        self.count.store(topics.len(), Ordering::Relaxed);
    }

    /// The interceptor of a topic of this tenant.
    pub(crate) fn interceptor(&self, tenant: TenantId, topic: TopicId) -> Option<Arc<Interceptor>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(&topic).filter(|found| found.tenant == tenant).map(Arc::clone)
    }
}
