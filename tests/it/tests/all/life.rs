//! Short slices of `yard-life`: what must be exact, on any machine.
use std::path::PathBuf;
use std::time::Duration;

use yard_it::life::{self, Report};
use yard_it::program::Verdict;
use yard_it::{Failed, yard};

use super::flights::file;

fn program() -> PathBuf {
    yard::locate(None).unwrap()
}

fn parts() -> PathBuf {
    env!("CARGO_BIN_EXE_yard-life").into()
}

#[track_caller]
fn check(report: Result<Report, Failed>) {
    let report = report.unwrap();
    assert!(report.is_good(), "{report}");
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_group_keeps_its_order_with_many_in_flight() {
    let (messages, alone, rounds, seed) = (1_000, 10, 1, 1);
    let way = Duration::from_millis(5);
    let yard = program();
    check(life::order(&life::OrderOptions { yard, messages, alone, rounds, way, seed }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_come_over_a_kill_and_never_early() {
    let (yard, messages, span) = (program(), 3_000, Duration::from_secs(3));
    check(life::delayed(&life::DelayedOptions { yard, messages, span, load: 500 }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_three_times_comes_four_times() {
    let (yard, messages, rounds) = (program(), 3_000, 1);
    check(life::storm(&life::StormOptions { yard, messages, rounds }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_killed_producers_are_whole_or_not_there() {
    let (transactions, kills, seed) = (1_500, 3, 1);
    let (yard, life) = (program(), parts());
    let options = life::TransactionsOptions { yard, life, transactions, kills, seed };
    check(life::transactions(&options).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn aircraft_stay_in_order_and_effects_happen_once_while_consumers_are_killed() {
    let file = file();
    if !file.is_file() {
        eprintln!("skipped: aircraft_stay_in_order: there is no {}", file.display());
        return;
    }
    let (yard, life, messages) = (program(), parts(), 2_000);
    let (every, kills_max) = (Duration::from_millis(300), 4);
    let options = life::FlightsOptions { yard, life, file, messages, every, kills_max };
    check(life::flights(&options).await);
}
