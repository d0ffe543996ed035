//! When a message that failed comes again, where a plugin says so.
//!
//! ```text
//!   nack, end of lease ──► step Returned by the native table ──► AskPolicy
//!                             │                                     │ outside, off the writer
//!                             │ no answer, or late: it stays        ▼
//!                             ▼                                PolicyAnswered
//!                          due then ◄── step Returned, Doomed or Dropped: never asked again
//!                   in another topic ◄── step Dropped, and the Release into it, in one entry
//! ```
//!
//! What the native table says is recorded with the failure, so a message always has an answer; the
//! plugin's is recorded in its place when it comes. So a restart asks nobody: what was not answered
//! before goes by the table. Where the disk has no room for the end of a lease, the plugin is heard
//! all the same; where it has none for the answer either, a delay holds until a restart.
use std::borrow::Cow;

use yard_wire::limits::{ERROR_TEXT_BYTES_MAX, NAME_BYTES_MAX};
use yard_wire::name::is_system;
use yard_wire::order::TopicType;
use yard_wire::plugin_use::PluginUse;
use yard_wire::release::Release;
use yard_wire::retry::RetryPolicy;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TenantId, Timestamp, TopicId};

use crate::bounds::{POLICY_ANSWER_MS_MAX, RETRY_ASK_MAX};
use crate::broker::Broker;
use crate::burial::{self, Ways};
use crate::effect::Effect;
use crate::entry::{Doom, Entry, GroupId, Outcome, Progress, Step};
use crate::group::Group;
use crate::group::queue::{GroupQueue, push_step};
use crate::group::returned::Returned;
use crate::meta_table::queues_on;
use crate::transaction::{CheckAnswer, CheckQuestion};

/// Something that a plugin is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyQuestion {
    /// What becomes of messages that failed.
    Retry(RetryQuestion),
    /// What becomes of a transaction that nobody has decided.
    Check(CheckQuestion),
}

/// What a plugin has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyAnswer {
    /// About messages that failed.
    Retry(RetryAnswer),
    /// About a transaction.
    Check(CheckAnswer),
}

/// Messages of one queue that failed, for a plugin to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryQuestion {
    /// Whose they are.
    pub tenant: TenantId,
    /// The group, as the answer names it.
    pub group: GroupId,
    /// Its name.
    pub group_name: String,
    /// Topic of the queue.
    pub topic: TopicId,
    /// Its name.
    pub topic_name: String,
    /// The queue.
    pub queue: QueueIndex,
    /// Queues of the topic.
    pub queues: u16,
    /// The plugin.
    pub policy: PluginUse,
    /// How often the group wants a message delivered at most; 0: without end.
    pub attempts_max: u32,
    /// When they failed.
    pub asked: Timestamp,
    /// The messages, in the order of their offsets; 1 to 256.
    pub failures: Vec<Failure>,
}

/// A message that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// Deliveries so far, this one included.
    pub attempt: u32,
    /// Its place in the log.
    pub place: RecordPlace,
    /// From its delivery before until this one was due, in milliseconds; 0 at the first.
    pub last_delay_ms: u64,
    /// What the consumer said; `lease-ended` where it said nothing in time.
    pub reason: String,
}

/// What a plugin decided about messages that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryAnswer {
    /// See [`RetryQuestion::group`].
    pub group: GroupId,
    /// See [`RetryQuestion::queue`].
    pub queue: QueueIndex,
    /// See [`RetryQuestion::asked`].
    pub asked: Timestamp,
    /// In the order of the offsets; messages that are not named go by the native table.
    pub decisions: Vec<Decision>,
}

/// What becomes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The message.
    pub offset: QueueOffset,
    /// After which delivery.
    pub attempt: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a message that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes again so long after it failed, in milliseconds.
    Again {
        /// At most `RETRY_DELAY_MS_MAX`.
        delay_ms: u32,
    },
    /// It becomes a dead letter.
    Dead {
        /// Why: at most `ERROR_TEXT_BYTES_MAX`; empty: as the consumer said.
        reason: String,
    },
    /// It counts as consumed.
    Dropped,
    /// It goes to another topic of the tenant, in the same shard, and counts as consumed; where
    /// there is no such topic it becomes a dead letter.
    Moved {
        /// Name of the topic.
        topic: String,
        /// See [`Failure::place`].
        place: RecordPlace,
    },
}

/// The reason that a message carries which was moved.
const MOVED: &str = "moved";

/// What follows from an answer.
#[derive(Default)]
struct Answered {
    /// Of messages that stay in their queue, or become dead letters.
    steps: Vec<Step>,
    errors: Vec<String>,
    wakes_at: Option<Timestamp>,
    /// Messages that go to another topic,
    items: Vec<Release>,
    /// and their steps.
    moves: Vec<Step>,
}

impl Answered {
    /// The number of a text, as steps name it; 0 of none.
    fn error(&mut self, text: &str) -> u32 {
        assert!(text.len() <= ERROR_TEXT_BYTES_MAX, "whoever asked has cut it");
        if text.is_empty() {
            return 0;
        }
        if self.errors.last().is_none_or(|last| last != text) {
            self.errors.push(text.to_owned());
        }
        u32::try_from(self.errors.len()).expect("answers are bounded")
    }
}

impl Broker {
    /// Asks the plugin of a group about messages that failed, where it has one.
    pub(crate) fn ask_retry(
        &self,
        id: GroupId,
        queue: QueueIndex,
        failures: &[Failure],
        effects: &mut Vec<Effect>,
    ) {
        let group = self.groups.get(id).expect("the caller has the group");
        let settings = self.meta.group(group.tenant, &group.name);
        let RetryPolicy::Plugin(policy) = &settings.retry else { return };
        let Some(topic) = self.meta.topic(group.topic) else { return };
        for failures in failures.chunks(RETRY_ASK_MAX) {
            assert!(failures.is_sorted_by_key(|it| it.offset), "they are in order");
            let question = PolicyQuestion::Retry(RetryQuestion {
                tenant: group.tenant,
                group: id,
                group_name: group.name.clone(),
                topic: group.topic,
                topic_name: topic.name.to_string(),
                queue,
                queues: topic.queues(),
                policy: policy.clone(),
                attempts_max: settings.attempts.0,
                asked: self.now,
                failures: failures.to_vec(),
            });
            effects.push(Effect::AskPolicy(Box::new(question)));
        }
    }

    /// A plugin has decided. What it says too late, or of a message that was delivered again or
    /// settled meanwhile, is not heard.
    pub(crate) fn retry_answered(&mut self, answer: &RetryAnswer, effects: &mut Vec<Effect>) {
        let RetryAnswer { group: id, queue, asked, ref decisions } = *answer;
        assert!(decisions.len() <= RETRY_ASK_MAX, "there are no more answers than questions");
        if asked.plus_ms(POLICY_ANSWER_MS_MAX) < self.now {
            yard_wire::mark!(PolicyLate);
            return;
        }
        let Some(group) = self.groups.get(id) else { return };
        let Some(state) = group.queues.get(&queue) else { return };
        let mut answered = Answered::default();
        for Decision { offset, attempt, fate } in decisions {
            let Some(returned) = failed_at(state, *offset, *attempt) else {
                yard_wire::mark!(PolicyOvertaken);
                continue;
            };
            self.take_fate(group, (queue, *offset), &returned, (asked, fate), &mut answered);
        }
        let (tenant, Answered { steps, errors, wakes_at, items, moves }) = (group.tenant, answered);
        if let Some(at) = wakes_at {
            let progress = Progress { group: id, steps, errors };
            let entry = Entry::Progress { tenant, progress };
            effects.push(Effect::Append { entry, then: Vec::new() });
            self.wake(at);
        }
        if !items.is_empty() {
            let settle = Some(Progress { group: id, steps: moves, errors: Vec::new() });
            let entry = Entry::Release { tenant, items, settle, dues: Vec::new(), tx: None };
            effects.push(Effect::Append { entry, then: Vec::new() });
            self.wake(self.now);
        }
    }

    /// What follows from the decision about one message.
    fn take_fate(
        &self,
        group: &Group,
        (queue, offset): (QueueIndex, QueueOffset),
        returned: &Returned,
        (asked, fate): (Timestamp, &Fate),
        answered: &mut Answered,
    ) {
        let (attempts, delivered) = (returned.attempts, returned.last);
        let mut doomed = |text: &str| {
            let (reason, error) = (Doom::Policy, answered.error(text));
            Outcome::Doomed { attempts, delivered, reason, error }
        };
        let (outcome, wake) = match fate {
            Fate::Again { delay_ms } => {
                yard_wire::mark!(PolicyAgain);
                // 0 would say that the lease was taken away already.
                let due = asked.plus_ms((*delay_ms).into()).max(Timestamp(1));
                (Outcome::Returned { attempts, due, delivered, error: 0 }, due)
            }
            Fate::Dead { reason } => {
                yard_wire::mark!(PolicyDead);
                (doomed(reason), self.now)
            }
            Fate::Dropped => {
                yard_wire::mark!(PolicyDropped);
                (Outcome::Dropped, self.now)
            }
            Fate::Moved { topic, place } => match self.destination(group, topic, queue) {
                Some((from, to)) => {
                    yard_wire::mark!(PolicyMoved);
                    let (at, what) = ((queue, offset), (returned, MOVED));
                    answered.items.push(burial::release(group, from, at, what, place, to));
                    let step = Step::of_one(queue, offset, Outcome::Dropped);
                    push_step(&mut answered.moves, 0, step);
                    return;
                }
                None => {
                    yard_wire::mark!(PolicyNotMoved);
                    let name: String = topic.chars().take(NAME_BYTES_MAX).collect();
                    (doomed(&format!("cannot be moved to topic {name}")), self.now)
                }
            },
        };
        answered.wakes_at = Some(answered.wakes_at.map_or(wake, |at| at.min(wake)));
        push_step(&mut answered.steps, 0, Step::of_one(queue, offset, outcome));
    }

    /// The topic that a group's messages come from, and the queue of another one to which those of
    /// a queue may go: what is released lies in the same log, and has no order to keep.
    fn destination(
        &self,
        group: &Group,
        name: &str,
        queue: QueueIndex,
    ) -> Option<(Ways<'_>, (TopicId, QueueIndex))> {
        let from = self.topics_of(group)?;
        let to = self.meta.topic_named(group.tenant, name)?;
        let is_free = to.settings.order.r#type == TopicType::Normal && !is_system(&to.name);
        assert_eq!(to.tenant, group.tenant, "a message stays with its tenant");
        let here: Vec<QueueIndex> = queues_on(to, self.config.shard).collect();
        if !is_free || here.is_empty() {
            return None;
        }
        let queue = here[usize::from(queue.0) % here.len()];
        Some((from, (to.topic, queue)))
    }
}

/// What is known of a message that waits since it failed at this attempt. The end of its lease may
/// not be recorded: the disk was full.
fn failed_at(state: &GroupQueue, offset: QueueOffset, attempt: u32) -> Option<Cow<'_, Returned>> {
    let known = state.progress.returned().get(offset).filter(|it| it.doom.is_none());
    let recorded = known.filter(|it| it.attempts == attempt).map(Cow::Borrowed);
    let Some(flight) = &state.flight else { return recorded };
    let last = flight.waits_since(offset, attempt)?;
    Some(recorded.unwrap_or_else(|| {
        yard_wire::mark!(PolicyUnrecorded);
        let (due, doom, stopped) = (Timestamp(0), None, None);
        let first = known.map_or(last, |known| known.first);
        let error = known.and_then(|known| known.error.clone());
        Cow::Owned(Returned { attempts: attempt, due, first, last, error, doom, stopped })
    }))
}

const _: () = assert!(
    POLICY_ANSWER_MS_MAX < yard_wire::retry::RETRY_LEVELS_MS[0] as u64,
    "a message waits by the native table for as long as it may be answered for"
);
