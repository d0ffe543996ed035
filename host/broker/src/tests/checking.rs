//! Transactions of a group with a plugin: what it is asked, and what its answer changes.
use yard_wire::operation::{TxLs, TxSet};
use yard_wire::plugin_use::PluginUse;
use yard_wire::requests::TxVerdict;
use yard_wire::transaction::{CheckPolicy, CheckSpan};
use yard_wire::{TenantId, Timestamp};

use super::transactions::{Cluster, FOUR, GROUP, tx};
use super::world::Out;
use crate::*;

/// The shard of the transactions here.
const SHARD: usize = 0;

/// Two shards and a group whose transactions are looked at after a second, and each second, twice.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    let (first, every) = (Some(CheckSpan(1_000)), Some(CheckSpan(1_000)));
    let used = PluginUse::read("rules(commit=paid)").unwrap();
    let check = Some(CheckPolicy::Plugin(used));
    let set = TxSet { group: GROUP.into(), first, every, checks: Some(2), check };
    let row = cluster.call(0, &set).unwrap();
    assert_eq!(row.check.to_string(), "plugin:rules(commit=paid)");
    cluster
}

/// The questions that the plugin was asked.
fn questions(cluster: &mut Cluster) -> Vec<CheckQuestion> {
    let outs = std::mem::take(&mut cluster.outs).into_iter();
    let questions = outs.filter_map(|out| match out {
        Out::Look(question) => Some(question),
        Out::Check(..) => panic!("a producer is asked before the plugin has answered"),
        _ => None,
    });
    questions.collect()
}

fn one(cluster: &mut Cluster) -> CheckQuestion {
    let questions = questions(cluster);
    assert_eq!(questions.len(), 1, "{questions:?}");
    questions.into_iter().next().unwrap()
}

fn answer(cluster: &mut Cluster, question: &CheckQuestion, fate: CheckFate) {
    let CheckQuestion { tenant, tx, asked, .. } = *question;
    let answer = PolicyAnswer::Check(CheckAnswer { tenant, tx, asked, fate });
    cluster.worlds[SHARD].handle(Event::PolicyAnswered(answer));
    cluster.run();
}

#[test]
fn a_plugin_commits_and_rolls_back_and_nobody_else_is_asked() {
    for (fate, visible) in [(CheckFate::Commit, 4), (CheckFate::Rollback, 0)] {
        let mut cluster = cluster();
        cluster.join(0, 5);
        cluster.begin(tx(0, 0)).unwrap();
        let begun = cluster.worlds[SHARD].now;
        cluster.prepare(tx(0, 0), &FOUR).unwrap();
        cluster.outs.clear();
        cluster.advance(1_000);
        let question = one(&mut cluster);
        let CheckQuestion { tenant, tx: id, group, note, checks, policy, asked, .. } = &question;
        assert_eq!((*tenant, *id, &group[..]), (TenantId(0), tx(0, 0), GROUP));
        assert_eq!((&note[..], *checks, question.begun), ("order 0", 0, begun));
        assert_eq!((policy.plugin(), *asked), ("rules", begun.plus_ms(1_000)));
        cluster.advance(4_000);
        assert_eq!(questions(&mut cluster), [], "it is asked once");
        answer(&mut cluster, &question, fate);
        assert_eq!((cluster.visible(), cluster.left()), (visible, (0, 0, 0)));
        // What is said twice is heard once.
        let other = if fate == CheckFate::Commit { CheckFate::Rollback } else { CheckFate::Commit };
        answer(&mut cluster, &question, other);
        cluster.restart();
        cluster.advance(20_000);
        assert_eq!((cluster.visible(), cluster.left()), (visible, (0, 0, 0)));
        cluster.compare_with_log();
    }
}

#[test]
fn a_plugin_waits_and_asks_as_often_as_the_group_wants() {
    let mut cluster = cluster();
    cluster.join(0, 5);
    cluster.begin(tx(0, 0)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_000);
    let first = one(&mut cluster);
    answer(&mut cluster, &first, CheckFate::Wait);
    assert_eq!(cluster.take_checks(), []);
    // What it said is recorded: a restart asks when it wanted to be asked.
    cluster.restart();
    cluster.join(0, 5);
    cluster.advance(900);
    assert_eq!(questions(&mut cluster), []);
    cluster.advance(600);
    let second = one(&mut cluster);
    assert_eq!(second.checks, 1);
    answer(&mut cluster, &second, CheckFate::Ask);
    let checks = cluster.take_checks();
    assert_eq!(checks.iter().map(|(to, it)| (*to, it.check)).collect::<Vec<_>>(), [(5, 2)]);
    cluster.advance(1_500);
    let third = one(&mut cluster);
    assert_eq!(third.checks, 2);
    // The number of checks holds whatever it says; only a decision ends it.
    answer(&mut cluster, &third, CheckFate::Wait);
    assert_eq!(cluster.left(), (1, 1, 0));
    cluster.advance(20_000);
    assert_eq!(questions(&mut cluster), []);
    let rows = cluster.call(0, &TxLs { limit: 9, ..TxLs::default() }).unwrap().rows;
    assert_eq!((rows[0].checks, rows[0].next_check_ms), (2, Timestamp(0)));
    cluster.compare_with_log();
}

#[test]
fn where_a_plugin_says_nothing_producers_are_asked() {
    let mut cluster = cluster();
    cluster.join(0, 5);
    cluster.begin(tx(0, 0)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_000);
    let first = one(&mut cluster);
    cluster.advance(4_500);
    assert_eq!(questions(&mut cluster), []);
    cluster.advance(500);
    let checks = cluster.take_checks();
    assert_eq!(checks.iter().map(|(_, it)| it.check).collect::<Vec<_>>(), [1]);
    // Too late, and about an earlier check.
    answer(&mut cluster, &first, CheckFate::Commit);
    assert_eq!(cluster.left(), (1, 0, 0));
    cluster.advance(1_500);
    let second = one(&mut cluster);
    answer(&mut cluster, &first, CheckFate::Commit);
    assert_eq!(cluster.left(), (1, 0, 0));
    // Who decides first decides.
    cluster.decide(tx(0, 0), TxVerdict::Rollback, 0).unwrap();
    answer(&mut cluster, &second, CheckFate::Commit);
    assert_eq!(cluster.left(), (0, 0, 0));
    // A question that a restart has forgotten is asked again.
    cluster.begin(tx(0, 1)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_500);
    let asked = one(&mut cluster);
    cluster.restart();
    answer(&mut cluster, &asked, CheckFate::Commit);
    assert_eq!(cluster.left(), (1, 0, 0), "nobody has asked in this life");
    cluster.advance(500);
    let anew = one(&mut cluster);
    assert_eq!((anew.tx, anew.checks), (tx(0, 1), 0));
    answer(&mut cluster, &anew, CheckFate::Commit);
    assert_eq!(cluster.left(), (0, 0, 0));
    cluster.compare_with_log();
}

#[test]
fn a_full_disk_loses_no_answer_for_good() {
    let mut cluster = cluster();
    cluster.begin(tx(0, 0)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_000);
    let first = one(&mut cluster);
    cluster.worlds[SHARD].full = true;
    answer(&mut cluster, &first, CheckFate::Commit);
    cluster.worlds[SHARD].full = false;
    assert_eq!(cluster.left(), (1, 0, 0), "nothing was recorded");
    cluster.advance(1_500);
    let again = one(&mut cluster);
    answer(&mut cluster, &again, CheckFate::Commit);
    assert_eq!(cluster.left(), (0, 0, 0));
    cluster.compare_with_log();
}

#[test]
fn a_group_goes_back_to_asking_its_producers() {
    let mut cluster = cluster();
    let set = |check, checks| TxSet { group: GROUP.into(), check, checks, ..TxSet::default() };
    let same = cluster.call(0, &set(None, None)).unwrap();
    assert_eq!((same.check.to_string(), same.checks), ("plugin:rules(commit=paid)".into(), 2));
    // A plugin has a look even where no producer is asked.
    cluster.call(0, &set(None, Some(0))).unwrap();
    cluster.begin(tx(0, 0)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_500);
    let only = one(&mut cluster);
    answer(&mut cluster, &only, CheckFate::Wait);
    assert_eq!(cluster.left(), (1, 1, 0));
    let row = cluster.call(0, &set(Some(CheckPolicy::Native), Some(2))).unwrap();
    assert_eq!(row.check, CheckPolicy::Native);
    cluster.restart();
    cluster.join(0, 5);
    cluster.begin(tx(0, 1)).unwrap();
    cluster.outs.clear();
    cluster.advance(1_500);
    assert_eq!(cluster.take_checks().len(), 1);
    cluster.compare_with_log();
}
