//! What was asked of objects of one kind, and the search for an order in which it is right.
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::AddAssign;

use todc_utils::{Action, History, Specification, WGLChecker};

/// A moment on the recorder's clock, in any unit.
pub type Time = u64;

/// Operations of an object at most: the search takes the square of it and more.
pub const OPERATIONS_MAX: usize = 240;
/// Those without an answer among them: each may double the search.
pub const OPEN_MAX: usize = 8;

/// An operation: what was asked, and the answer, if there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Did<A, R> {
    /// What was asked.
    pub ask: A,
    /// What was answered. None: it may have taken effect at any time since, or never.
    pub answer: Option<R>,
    /// Something was asked before this one was answered and never was: a refusal may tell of it.
    pub is_beside_open: bool,
}

impl<A, R: PartialEq> Did<A, R> {
    /// Whether this is the answer, as far as there is one.
    pub(crate) fn says(&self, expected: &R) -> bool {
        self.answer.as_ref().is_none_or(|answer| answer == expected)
    }

    /// Whether it is this refusal, and may tell of what has not happened in the end.
    pub(crate) fn may_be_early(&self, refusals: &[R]) -> bool {
        self.is_beside_open && self.answer.as_ref().is_some_and(|it| refusals.contains(it))
    }
}

#[derive(Debug, Clone)]
struct Call<A, R> {
    did: Did<A, R>,
    invoked: Time,
    completed: Option<Time>,
    /// It was refused for a reason that has nothing to do with the object.
    is_void: bool,
}

/// Names an operation that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    object: u64,
    call: usize,
}

/// What was judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Objects.
    pub objects: u64,
    /// Operations that took effect, or may have.
    pub operations: u64,
    /// Those without an answer among them.
    pub open: u64,
}

impl AddAssign for Judged {
    fn add_assign(&mut self, other: Judged) {
        self.objects += other.objects;
        self.operations += other.operations;
        self.open += other.open;
    }
}

/// The operations on all objects of one kind.
#[derive(Debug, Clone)]
pub struct Histories<A, R> {
    objects: BTreeMap<u64, Vec<Call<A, R>>>,
}

impl<A, R> Default for Histories<A, R> {
    fn default() -> Self {
        Histories { objects: BTreeMap::new() }
    }
}

impl<A: Clone + Debug, R: Clone + Debug> Histories<A, R> {
    /// Whether one more operation on an object can be judged.
    pub fn has_room(&self, object: u64) -> bool {
        let calls = self.objects.get(&object).map_or(&[][..], |calls| calls);
        let open = calls.iter().filter(|call| call.completed.is_none() && !call.is_void);
        calls.len() < OPERATIONS_MAX && open.count() < OPEN_MAX
    }

    /// Somebody asks something of an object: not later than it can have reached the broker.
    pub fn invoked(&mut self, object: u64, at: Time, ask: A) -> Ticket {
        let calls = self.objects.entry(object).or_default();
        let did = Did { ask, answer: None, is_beside_open: false };
        calls.push(Call { did, invoked: at, completed: None, is_void: false });
        Ticket { object, call: calls.len() - 1 }
    }

    /// The answer has come: not earlier than it can have left the broker.
    pub fn completed(&mut self, ticket: Ticket, at: Time, answer: R) {
        let call = self.call(ticket);
        assert!(call.completed.is_none() && call.invoked <= at, "an operation ends once, later");
        (call.did.answer, call.completed) = (Some(answer), Some(at));
    }

    /// It was refused, for certain and for a reason that says nothing about the object.
    pub fn refused(&mut self, ticket: Ticket) {
        self.call(ticket).is_void = true;
    }

    fn call(&mut self, ticket: Ticket) -> &mut Call<A, R> {
        let calls = self.objects.get_mut(&ticket.object).expect("a ticket is of an object");
        &mut calls[ticket.call]
    }

    /// Judges each object by itself.
    ///
    /// # Errors
    /// The operations of the first one that are in no order right.
    pub fn judge<S>(&self) -> Result<Judged, String>
    where
        S: Specification<Operation = Did<A, R>>,
    {
        let mut judged = Judged::default();
        for (object, calls) in &self.objects {
            let calls: Vec<&Call<A, R>> = calls.iter().filter(|call| !call.is_void).collect();
            if calls.is_empty() {
                continue;
            }
            assert!(calls.len() <= OPERATIONS_MAX, "the recorder goes on to another object");
            if !WGLChecker::<S>::is_linearizable(history(&calls)) {
                return Err(format!("object {object} is not linearizable:\n{}", listed(&calls)));
            }
            let open = calls.iter().filter(|call| call.completed.is_none()).count() as u64;
            judged += Judged { objects: 1, operations: calls.len() as u64, open };
        }
        Ok(judged)
    }
}

/// Each operation is a process of its own; one without an answer ends after all others, so that
/// it may take its place anywhere, also where nobody sees it.
fn history<A: Clone, R: Clone>(calls: &[&Call<A, R>]) -> History<Did<A, R>> {
    let mut moments: Vec<(Time, bool, usize)> = Vec::with_capacity(2 * calls.len());
    for (number, call) in calls.iter().enumerate() {
        moments.push((call.invoked, false, number));
        moments.push((call.completed.unwrap_or(Time::MAX), true, number));
    }
    let open = calls.iter().filter(|call| call.completed.is_none()).map(|call| call.invoked).min();
    // At the same moment begins come before ends: such operations overlap.
    moments.sort_unstable();
    let actions = moments.into_iter().map(|(_, is_end, number)| {
        let Call { did, completed, .. } = calls[number];
        let end = completed.unwrap_or(Time::MAX);
        let is_beside_open = open.is_some_and(|open| open <= end);
        let did = Did { is_beside_open, ..did.clone() };
        (number, if is_end { Action::Response(did) } else { Action::Call(did) })
    });
    History::from_actions(actions.collect())
}

fn listed<A: Debug, R: Debug>(calls: &[&Call<A, R>]) -> String {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.invoked);
    let lines = calls.into_iter().map(|Call { did, invoked, completed, .. }| {
        let (end, ask) = (completed.map_or("?".to_owned(), |at| at.to_string()), &did.ask);
        match &did.answer {
            Some(answer) => format!("  {invoked}..{end} {ask:?} -> {answer:?}"),
            None => format!("  {invoked}..{end} {ask:?}"),
        }
    });
    lines.collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::key::{Answer, Key};

    /// Judges one object: begin, end (0: none), what was asked, what was answered.
    pub(crate) fn is_right<S, A, R>(calls: &[(Time, Time, A, Option<R>)]) -> bool
    where
        S: Specification<Operation = Did<A, R>>,
        A: Clone + Debug,
        R: Clone + Debug,
    {
        let mut histories = Histories::default();
        for (invoked, completed, ask, answer) in calls {
            let ticket = histories.invoked(0, *invoked, ask.clone());
            if let Some(answer) = answer {
                histories.completed(ticket, *completed, answer.clone());
            }
        }
        histories.judge::<S>().is_ok()
    }

    #[test]
    fn objects_are_judged_apart_and_counted() {
        let mut keys = Histories::default();
        for object in 0..3 {
            let stored = keys.invoked(object, 1, 10);
            keys.completed(stored, 2, Answer::Stored);
            keys.invoked(object, 1, 11);
            let refused = keys.invoked(object, 1, 12);
            keys.refused(refused);
        }
        let judged = Judged { objects: 3, operations: 6, open: 3 };
        assert_eq!(keys.judge::<Key>(), Ok(judged));
        let second = keys.invoked(1, 5, 13);
        keys.completed(second, 6, Answer::Stored);
        let wrong = keys.judge::<Key>().expect_err("two are stored");
        assert!(wrong.starts_with("object 1 is not linearizable:\n  1..2 10 -> Stored"), "{wrong}");
    }

    #[test]
    fn an_object_has_room_until_too_many_have_no_answer() {
        let mut keys = Histories::<u128, Answer>::default();
        let tickets: Vec<Ticket> = (0..OPEN_MAX).map(|id| keys.invoked(7, 1, id as u128)).collect();
        assert!(!keys.has_room(7) && keys.has_room(8));
        keys.completed(tickets[0], 2, Answer::Stored);
        assert!(keys.has_room(7), "an answer makes room");
    }

    /// The worst that the bounds allow, and wrong, so that every order is tried.
    #[test]
    fn the_search_is_bounded() {
        let mut keys = Histories::default();
        for id in 0..OPEN_MAX as u128 {
            keys.invoked(0, 0, id);
        }
        for at in 0..(OPERATIONS_MAX - OPEN_MAX) as u64 {
            let ticket = keys.invoked(0, at, 1_000 + u128::from(at));
            let answer = if at + 40 < OPERATIONS_MAX as u64 { 3 } else { 4 };
            keys.completed(ticket, at + 3, Answer::Original(answer));
        }
        assert!(keys.judge::<Key>().is_err(), "the original cannot become another");
    }
}
