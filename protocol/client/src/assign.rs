//! Which member of a group reads which queue, where members share a topic by queue: pure functions,
//! so that every member that knows the same members comes to the same answer.
//!
//! | strategy | what it does | RocketMQ's name |
//! |---|---|---|
//! | `average` | consecutive queues, as many to each as to any other, or one more | `AVG` |
//! | `circle` | queues in turns | `AVG_BY_CIRCLE` |
//! | `consistent-hash` | by hashes: who comes or goes moves its own queues | `CONSISTENT_HASH` |
//! | `rack` | `average` of the queues whose rack has a member, among all members | `MACHINE_ROOM` |
//! | `near` | queues of a rack to its members, others to all | `MACHINE_ROOM_NEARBY` |
//! | `fixed` | each member the queues that it names | `CONFIG` |
//! | `sticky` | as even as `average`, with as few moves from what was as possible | none |
//!
//! All but `rack` and `fixed` are complete: every queue has a member. In none has a queue two.
use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;
use yard_wire::{Code, QueueIndex};

use crate::Error;

yard_wire::word! {
    /// How queues are assigned to members.
    pub enum Strategy {
        /// Consecutive queues, as many to each as to any other, or one more.
        Average = 0 "average",
        /// Queues in turns.
        Circle = 1 "circle",
        /// By rendezvous hashing. Source: Thaler, Ravishankar, "Using name-based mappings to
        /// increase hit rates", 1998; more even than RocketMQ's ring of ten points a member.
        ConsistentHash = 2 "consistent-hash",
        /// Only queues whose rack has a member, on average.
        Rack = 3 "rack",
        /// Queues of a rack to its members, those of a rack without any to all.
        Near = 4 "near",
        /// What each member names.
        Fixed = 5 "fixed",
        /// As even as `average`, with as few moves as possible.
        Sticky = 6 "sticky",
    }
}

impl Strategy {
    /// The strategy of this name.
    ///
    /// # Errors
    /// [`Code::UnknownStrategy`], naming those that there are.
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::parse(name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|strategy| strategy.text()).collect();
            let name: String = name.chars().take(40).collect();
            let detail = format!("{name:?} is none of {}", names.join(", "));
            Error::new(Code::UnknownStrategy, detail)
        })
    }
}

/// A queue that is to be assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueAt {
    /// The queue.
    pub queue: QueueIndex,
    /// Where the node that holds it stands; empty: not known.
    pub rack: String,
}

/// A member that queues are assigned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAt {
    /// Its name, other than that of every other member.
    pub name: String,
    /// Where it stands; empty: not known.
    pub rack: String,
    /// For [`Strategy::Fixed`], the queues that it reads; for [`Strategy::Sticky`], those that it
    /// has now. Meaningless otherwise.
    pub queues: Vec<QueueIndex>,
}

/// The queues of each member by its name, in order; members without queues included.
pub type Assignment = BTreeMap<String, Vec<QueueIndex>>;

/// Assigns queues to members; the order in which either are given does not matter. Without members
/// nothing is assigned.
///
/// # Errors
/// [`Code::BadArgument`] where a queue is given twice, or two members have one name;
/// [`Code::UnknownStrategy`] for [`Strategy::Fixed`] where no member names a queue;
/// [`Code::QueueOutOfRange`] where one names a queue that is not there or that another names, too.
pub fn assign(
    strategy: Strategy,
    queues: &[QueueAt],
    members: &[MemberAt],
) -> Result<Assignment, Error> {
    let by_queue: BTreeMap<QueueIndex, &str> =
        queues.iter().map(|at| (at.queue, at.rack.as_str())).collect();
    let by_name: BTreeMap<&str, &MemberAt> =
        members.iter().map(|member| (member.name.as_str(), member)).collect();
    if by_queue.len() < queues.len() || by_name.len() < members.len() {
        let detail = "a queue is given twice, or two members have one name";
        return Err(Error::new(Code::BadArgument, detail));
    }
    let mut assigned: Assignment =
        by_name.keys().map(|name| ((*name).to_owned(), Vec::new())).collect();
    if by_name.is_empty() {
        return Ok(assigned);
    }
    let all: Vec<QueueIndex> = by_queue.keys().copied().collect();
    let names: Vec<&str> = by_name.keys().copied().collect();
    match strategy {
        Strategy::Average => average(&all, &names, &mut assigned),
        Strategy::Circle => {
            for (at, queue) in all.iter().enumerate() {
                give(&mut assigned, names[at % names.len()], *queue);
            }
        }
        Strategy::ConsistentHash => {
            for queue in &all {
                give(&mut assigned, rendezvous(*queue, &names), *queue);
            }
        }
        Strategy::Rack => {
            let racks: BTreeSet<&str> = members.iter().map(|it| it.rack.as_str()).collect();
            let near = all.into_iter().filter(|queue| racks.contains(by_queue[queue]));
            average(&near.collect::<Vec<_>>(), &names, &mut assigned);
        }
        Strategy::Near => near(&by_queue, &by_name, &mut assigned),
        Strategy::Fixed => fixed(&by_queue, &by_name, &mut assigned)?,
        Strategy::Sticky => sticky(&all, &by_name, &mut assigned),
    }
    assigned.values_mut().for_each(|queues| queues.sort_unstable());
    let given: usize = assigned.values().map(Vec::len).sum();
    assert!(given <= by_queue.len(), "a queue has one member at most");
    Ok(assigned)
}

fn give(assigned: &mut Assignment, name: &str, queue: QueueIndex) {
    assigned.get_mut(name).expect("every member is listed").push(queue);
}

/// Consecutive queues: the first members get the one more.
fn average(queues: &[QueueIndex], names: &[&str], assigned: &mut Assignment) {
    let (each, more) = (queues.len() / names.len(), queues.len() % names.len());
    let mut left = queues.iter();
    for (at, name) in names.iter().enumerate() {
        let count = each + usize::from(at < more);
        left.by_ref().take(count).for_each(|queue| give(assigned, name, *queue));
    }
    assert_eq!(left.len(), 0, "every queue is given");
}

fn rendezvous<'a>(queue: QueueIndex, names: &[&'a str]) -> &'a str {
    let weight = |name: &&&str| xxh3_64_with_seed(name.as_bytes(), u64::from(queue.0));
    names.iter().max_by_key(|name| (weight(name), **name)).expect("there are members")
}

fn near(
    queues: &BTreeMap<QueueIndex, &str>,
    members: &BTreeMap<&str, &MemberAt>,
    assigned: &mut Assignment,
) {
    let mut of_rack: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, member) in members {
        of_rack.entry(&member.rack).or_default().push(name);
    }
    let mut of_nobody = Vec::new();
    let mut by_rack: BTreeMap<&str, Vec<QueueIndex>> = BTreeMap::new();
    for (queue, rack) in queues {
        if of_rack.contains_key(rack) {
            by_rack.entry(rack).or_default().push(*queue);
        } else {
            of_nobody.push(*queue);
        }
    }
    for (rack, queues) in by_rack {
        average(&queues, &of_rack[rack], assigned);
    }
    let names: Vec<&str> = members.keys().copied().collect();
    average(&of_nobody, &names, assigned);
}

fn fixed(
    queues: &BTreeMap<QueueIndex, &str>,
    members: &BTreeMap<&str, &MemberAt>,
    assigned: &mut Assignment,
) -> Result<(), Error> {
    let mut taken = BTreeSet::new();
    for (name, member) in members {
        for queue in &member.queues {
            if !queues.contains_key(queue) || !taken.insert(*queue) {
                let detail = format!("queue {queue} of {name:?} is not there, or another's, too");
                return Err(Error::new(Code::QueueOutOfRange, detail));
            }
            give(assigned, name, *queue);
        }
    }
    if taken.is_empty() && !queues.is_empty() {
        let detail = "`fixed` assigns the queues that members name, and none names one";
        return Err(Error::new(Code::UnknownStrategy, detail));
    }
    Ok(())
}

/// Each keeps what it has up to its share; the one more stays with who has it already.
fn sticky(queues: &[QueueIndex], members: &BTreeMap<&str, &MemberAt>, assigned: &mut Assignment) {
    let there: BTreeSet<QueueIndex> = queues.iter().copied().collect();
    let mut free = there.clone();
    let mut held: Vec<(&str, Vec<QueueIndex>)> = Vec::new();
    for (name, member) in members {
        // What is not there any more, and what somebody before it has as well, is not its.
        let own = member.queues.iter().copied().filter(|queue| free.remove(queue));
        held.push((name, own.collect()));
    }
    // Whoever has most keeps the one more.
    held.sort_by_key(|(name, own)| (std::cmp::Reverse(own.len()), *name));
    let (each, more) = (queues.len() / held.len(), queues.len() % held.len());
    let share = |at: usize| each + usize::from(at < more);
    for (at, (_, own)) in held.iter_mut().enumerate() {
        own.sort_unstable();
        free.extend(own.drain(share(at).min(own.len())..));
    }
    let mut free = free.into_iter();
    for (at, (name, own)) in held.iter_mut().enumerate() {
        let lacking = share(at) - own.len();
        own.extend(free.by_ref().take(lacking));
        own.iter().for_each(|queue| give(assigned, name, *queue));
    }
    assert_eq!(free.next(), None, "every queue is given");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    const RACKS: [&str; 3] = ["north", "south", ""];

    fn queues(count: usize) -> Vec<QueueAt> {
        let at = |n: usize| QueueAt { queue: QueueIndex(n as u16), rack: RACKS[n % 3].into() };
        (0..count).map(at).collect()
    }

    fn members(names: &BTreeSet<u8>) -> Vec<MemberAt> {
        let at = |n: &u8| MemberAt {
            name: format!("member-{n}"),
            rack: RACKS[usize::from(*n) % 2].into(),
            queues: Vec::new(),
        };
        names.iter().map(at).collect()
    }

    fn holder_of(assignment: &Assignment) -> BTreeMap<QueueIndex, &str> {
        let pairs = assignment
            .iter()
            .flat_map(|(name, queues)| queues.iter().map(move |queue| (*queue, name.as_str())));
        let holders: BTreeMap<_, _> = pairs.collect();
        let given: usize = assignment.values().map(Vec::len).sum();
        assert_eq!(holders.len(), given, "a queue has one member");
        holders
    }

    fn sizes(assignment: &Assignment) -> (usize, usize) {
        let counts = || assignment.values().map(Vec::len);
        (counts().min().unwrap_or(0), counts().max().unwrap_or(0))
    }

    fn with_held(members: &[MemberAt], held: &Assignment) -> Vec<MemberAt> {
        let mut members = members.to_vec();
        for member in &mut members {
            member.queues = held.get(&member.name).cloned().unwrap_or_default();
        }
        members
    }

    fn moved(before: &Assignment, after: &Assignment) -> usize {
        let (before, after) = (holder_of(before), holder_of(after));
        before.iter().filter(|(queue, name)| after.get(queue) != Some(name)).count()
    }

    /// The fewest moves to as even an assignment: what each has beyond its share.
    fn fewest_moves(before: &Assignment, names: &[MemberAt], queues: usize) -> usize {
        let mut counts: Vec<usize> =
            names.iter().map(|m| before.get(&m.name).map_or(0, Vec::len)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let (each, more) = (queues / counts.len(), queues % counts.len());
        let kept = counts.iter().enumerate();
        let kept: usize = kept.map(|(at, has)| (*has).min(each + usize::from(at < more))).sum();
        before.values().map(Vec::len).sum::<usize>() - kept
    }

    fn some_members() -> impl proptest::strategy::Strategy<Value = BTreeSet<u8>> {
        proptest::collection::btree_set(0u8..40, 1..12)
    }

    proptest! {
        #[test]
        fn complete_disjoint_and_the_same_in_any_order(
            count in 0usize..200, names in some_members(),
        ) {
            let (queues, members) = (queues(count), members(&names));
            let (mut turned, mut others) = (queues.clone(), members.clone());
            turned.reverse();
            others.reverse();
            for strategy in [
                Strategy::Average, Strategy::Circle, Strategy::ConsistentHash, Strategy::Near,
                Strategy::Sticky,
            ] {
                let assigned = assign(strategy, &queues, &members).unwrap();
                prop_assert_eq!(holder_of(&assigned).len(), count, "{}", strategy);
                prop_assert_eq!(&assign(strategy, &turned, &others).unwrap(), &assigned);
                prop_assert_eq!(assigned.len(), names.len());
                if !matches!(strategy, Strategy::ConsistentHash | Strategy::Near) {
                    let (least, most) = sizes(&assigned);
                    prop_assert!(most - least <= 1, "{}: {}..{}", strategy, least, most);
                }
            }
        }

        #[test]
        fn only_whose_queues_they_are_move_by_hash(
            count in 0usize..300, names in some_members(), comes in 40u8..60,
        ) {
            let queues = queues(count);
            let before = assign(Strategy::ConsistentHash, &queues, &members(&names)).unwrap();
            let mut more = names.clone();
            more.insert(comes);
            let after = assign(Strategy::ConsistentHash, &queues, &members(&more)).unwrap();
            let comer = format!("member-{comes}");
            // All that moves moves to who came; the other way round it is who goes.
            for (queue, name) in holder_of(&after) {
                prop_assert!(name == comer || holder_of(&before)[&queue] == name);
            }
        }

        #[test]
        fn sticky_moves_as_few_as_can_be(
            count in 0usize..120,
            grown in 0usize..40,
            first in some_members(),
            then in some_members(),
        ) {
            let before = assign(Strategy::Average, &queues(count), &members(&first)).unwrap();
            let members = with_held(&members(&then), &before);
            let after = assign(Strategy::Sticky, &queues(count + grown), &members).unwrap();
            let (least, most) = sizes(&after);
            prop_assert!(most - least <= 1);
            let fewest = fewest_moves(&before, &members, count + grown);
            prop_assert_eq!(moved(&before, &after), fewest);
        }

        #[test]
        fn racks_are_kept_to(count in 0usize..200, names in some_members()) {
            let (queues, members) = (queues(count), members(&names));
            let racks: BTreeSet<&str> = members.iter().map(|m| m.rack.as_str()).collect();
            let rack_of: BTreeMap<&str, &str> =
                members.iter().map(|m| (m.name.as_str(), m.rack.as_str())).collect();
            let near = assign(Strategy::Near, &queues, &members).unwrap();
            for (queue, name) in holder_of(&near) {
                let rack = RACKS[usize::from(queue.0) % 3];
                prop_assert!(rack_of[name] == rack || !racks.contains(rack));
            }
            let rack = assign(Strategy::Rack, &queues, &members).unwrap();
            let wanted = queues.iter().filter(|at| racks.contains(at.rack.as_str())).count();
            prop_assert_eq!(holder_of(&rack).len(), wanted);
            prop_assert!(sizes(&rack).1 - sizes(&rack).0 <= 1);
        }
    }

    #[test]
    fn average_gives_runs_and_circle_gives_turns() {
        let names = BTreeSet::from([1, 2, 3]);
        let check = |strategy: Strategy, expect: [&[u16]; 3]| {
            let assigned = assign(strategy, &queues(8), &members(&names)).unwrap();
            let found: Vec<Vec<u16>> =
                assigned.values().map(|queues| queues.iter().map(|q| q.0).collect()).collect();
            assert_eq!(found, expect, "{strategy}");
        };
        check(Strategy::Average, [&[0, 1, 2], &[3, 4, 5], &[6, 7]]);
        check(Strategy::Circle, [&[0, 3, 6], &[1, 4, 7], &[2, 5]]);
    }

    #[test]
    fn fixed_is_what_members_name_and_nothing_twice() {
        let named = |lists: [&[u16]; 2]| {
            let mut members = members(&BTreeSet::from([1, 2]));
            for (member, list) in members.iter_mut().zip(lists) {
                member.queues = list.iter().copied().map(QueueIndex).collect();
            }
            assign(Strategy::Fixed, &queues(4), &members)
        };
        let good = named([&[3, 0], &[1]]).unwrap();
        assert_eq!(good["member-1"], [QueueIndex(0), QueueIndex(3)]);
        assert_eq!(named([&[0], &[0]]).unwrap_err().code, Code::QueueOutOfRange);
        assert_eq!(named([&[0], &[4]]).unwrap_err().code, Code::QueueOutOfRange);
        assert_eq!(named([&[], &[]]).unwrap_err().code, Code::UnknownStrategy);
    }

    #[test]
    fn names_are_known_or_refused() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::named(strategy.text()).unwrap(), *strategy);
        }
        for unknown in ["", "AVG", "average ", "hash"] {
            assert_eq!(Strategy::named(unknown).unwrap_err().code, Code::UnknownStrategy);
        }
        let twice = [MemberAt::default(), MemberAt::default()];
        let error = assign(Strategy::Average, &queues(2), &twice).unwrap_err();
        assert_eq!(error.code, Code::BadArgument);
        assert!(assign(Strategy::Circle, &queues(2), &[]).unwrap().is_empty());
    }
}
