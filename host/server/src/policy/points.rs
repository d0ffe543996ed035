//! Which topics have plugins before them: a mirror of the metadata for who takes batches in.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use yard_broker::{MetaChange, Topic};
use yard_wasm::Binding;
use yard_wire::plugin_use::PluginUse;
use yard_wire::{TenantId, TopicId};

/// A plugin before a topic.
pub(crate) struct Used {
    /// Its name.
    pub(crate) plugin: String,
    /// Its settings.
    pub(crate) binding: Arc<Binding>,
    /// Queues of the topic.
    pub(crate) queues: u16,
}

/// The plugins before a topic, in their order.
pub(crate) struct Before {
    /// Whose topic it is.
    pub(crate) tenant: TenantId,
    /// What becomes of messages before they are stored.
    pub(crate) interceptor: Option<Used>,
    /// Which of them are the same, as they will be stored.
    pub(crate) dedupe: Option<Used>,
    /// What that says nothing about is refused.
    pub(crate) is_strict: bool,
}

impl Before {
    fn of(topic: &Topic) -> Option<Arc<Self>> {
        let used = |used: &PluginUse| Used {
            plugin: used.plugin().to_owned(),
            binding: Binding::new(String::new(), used.settings().to_vec()),
            queues: topic.queues(),
        };
        let interceptor = topic.settings.interceptor.as_ref().map(used);
        let by = &topic.settings.dedupe_by;
        let (dedupe, is_strict) = (by.plugin.as_ref().map(used), by.strict);
        let has_any = interceptor.is_some() || dedupe.is_some();
        let tenant = topic.tenant;
        has_any.then(|| Arc::new(Self { tenant, interceptor, dedupe, is_strict }))
    }
}

/// The topics that have plugins.
#[derive(Default)]
pub(crate) struct Points {
    topics: RwLock<BTreeMap<TopicId, Arc<Before>>>,
    /// How many they are: mostly none, and then nobody looks further.
    count: AtomicUsize,
}

impl Points {
    /// Takes in a change of the metadata.
    pub(crate) fn learn(&self, change: &MetaChange) {
        let (topic, before) = match change {
            MetaChange::TopicPut(topic) => (topic.topic, Before::of(topic)),
            MetaChange::TopicRemoved { topic, .. } => (*topic, None),
            MetaChange::ChecksPut(_)
            | MetaChange::GroupPut(_)
            | MetaChange::GroupRemoved { .. }
            | MetaChange::KeyPut(_)
            | MetaChange::KeyRemoved { .. }
            | MetaChange::PluginFile(_)
            | MetaChange::PluginPut(_)
            | MetaChange::PluginRemoved { .. }
            | MetaChange::TenantPut(_) => return,
        };
        if before.is_none() && self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(before) => topics.insert(topic, before),
            None => topics.remove(&topic),
        };
        self.count.store(topics.len(), Ordering::Relaxed);
    }

    /// The plugins before a topic of this tenant.
    pub(crate) fn before(&self, tenant: TenantId, topic: TopicId) -> Option<Arc<Before>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(&topic).filter(|found| found.tenant == tenant).map(Arc::clone)
    }
}
