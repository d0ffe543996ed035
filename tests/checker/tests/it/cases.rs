//! Each anomaly by a minimal history and its corrected twin. Events are separated by `;`.

use std::collections::BTreeSet;

use yard_checker::{History, Kind, Options, Queue, check};

/// Reads a history with `;` for the line ends.
pub(crate) fn history(text: &str) -> History {
    let lines = text.replace(';', "\n");
    History::read_from(lines.as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{lines}"))
}

fn expect(text: &str, options: &Options, expected: &[Kind]) {
    let verdict = check(&history(text), options);
    assert_eq!(verdict.kinds(), expected, "{}\n{verdict}", text.replace(';', "\n"));
}

/// `broken` must be found to be exactly of this kind, and `clean` to be clean.
fn pair_with(options: &Options, kind: Kind, broken: &str, clean: &str) {
    expect(broken, options, &[kind]);
    expect(clean, options, &[]);
    let ignored = Options { ignore: vec![kind], ..options.clone() };
    expect(broken, &ignored, &[]);
}

fn pair(kind: Kind, broken: &str, clean: &str) {
    pair_with(&Options::default(), kind, broken, clean);
}

#[test]
fn lost_write() {
    let stored = "send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=9 0=1.1";
    pair(Kind::LostWrite, "send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=9", stored);
    // What outlives which crash.
    for (level, crash, lost) in [
        ("memory", "", true),
        ("memory", "crash at=5 process", false),
        ("memory", "crash at=5 power", false),
        ("written", "", true),
        ("written", "crash at=5 process", true),
        ("written", "crash at=5 power", false),
        ("synced", "crash at=5 process", true),
        ("synced", "crash at=5 power", true),
        ("memory", "crash at=1 power", true),
        ("memory", "crash at=2 power", false),
    ] {
        let text =
            format!("send q=0/0 p=1 s=1 at=2..4 level={level} ok@0; {crash}; scan q=0/0 at=9");
        expect(&text, &Options::default(), if lost { &[Kind::LostWrite] } else { &[] });
    }
}

#[test]
fn lost_write_is_excused_by_what_can_have_caused_it() {
    let sends = "send q=0/0 p=1 s=1 level=memory at=1..2 ok@2; send q=0/0 p=2 s=1 at=1..3 ok@3;
        send q=0/0 p=3 s=1 at=1..4 ok@0; send q=0/0 p=4 s=1 at=1..5 ok@1; crash at=6 process;
        scan q=0/0 at=9 0=3.1 1=4.1 3=2.1";
    expect(sends, &Options::default(), &[Kind::LostWrite, Kind::OffsetGap]);
    // A delivery from a wrong offset proves nothing about others.
    let wrong = "send q=0/0 p=1 s=1 level=memory at=1..4 ok@1; send q=0/0 p=2 s=1 at=1..4 ok@0;
        poll q=0/0 at=3..4 5=2.1; crash at=6 process; scan q=0/0 at=9 0=2.1";
    expect(wrong, &Options::default(), &[Kind::InconsistentOffsets]);
    // What was synced before the crash, by an acknowledgement or a delivery behind it, is safe.
    for (behind, lost) in [
        ("send q=0/0 p=2 s=1 at=3..4 ok@1", true),
        ("send q=0/0 p=2 s=1 at=3..5 ok@1", false),
        ("send q=0/0 p=2 s=1 at=3..4 level=written ok@1", false),
        ("send q=0/0 p=2 s=1 at=3.. unknown; poll q=0/0 at=3..4 1=2.1", true),
        ("send q=0/0 p=2 s=1 at=3.. unknown; poll q=0/0 at=3..5 1=2.1", false),
        ("send q=0/0 p=2 s=1 at=3..4 ok@1; crash at=2 process", false),
    ] {
        let text = format!(
            "send q=0/0 p=1 s=1 at=1..2 level=memory ok@0; {behind}; crash at=5 process;
            scan q=0/0 at=9 from=0 1=2.1"
        );
        let options = Options { ignore: vec![Kind::OffsetGap], ..Options::default() };
        expect(&text, &options, if lost { &[Kind::LostWrite] } else { &[] });
    }
    let removed = "send q=0/0 p=1 s=1 at=1..2 ok@0; send q=0/0 p=1 s=2 at=3..4 ok@1;";
    let scan = "scan q=0/0 at=9 from=1 1=1.2; poll q=0/0 g=1 at=5..6 0=1.1 1=1.2";
    expect(&format!("{removed} {scan}"), &Options::default(), &[]);
    pair(
        Kind::LostWrite,
        "send q=0/0 p=1 s=1 due=8 at=1..2 ok; scan q=0/0 at=9",
        "send q=0/0 p=1 s=1 due=10 at=1..2 ok; scan q=0/0 at=9",
    );
}

#[test]
fn unseen() {
    let options = Options { expect_all_delivered: true, ..Options::default() };
    let send = "send q=0/0 p=1 s=1 at=1..2 ok@0";
    pair_with(&options, Kind::Unseen, send, &format!("{send}; poll q=0/0 g=1 at=3..4 0=1.1"));
    expect(send, &Options::default(), &[]);
}

#[test]
fn duplicate() {
    let send = "send q=0/0 p=1 s=1 at=1..2 unknown";
    pair(
        Kind::Duplicate,
        &format!("{send}; scan q=0/0 at=9 0=1.1 1=1.1"),
        &format!("{send}; scan q=0/0 at=9 0=1.1"),
    );
    let answered = "send q=0/0 p=1 s=1 at=1..2 ok@1; scan q=0/0 at=9 0=1.1 1=1.1";
    expect(answered, &Options::default(), &[Kind::Duplicate]);
    pair(
        Kind::Duplicate,
        &format!("{send}; poll q=0/0 at=3..4 0=1.1 1=1.1"),
        &format!("{send}; poll q=0/0 at=3..4 0=1.1; poll q=0/0 g=2 at=3..4 0=1.1"),
    );
}

#[test]
fn inconsistent_offsets() {
    let two = "send q=0/0 p=1 s=1 at=1..9 unknown; send q=0/0 p=2 s=1 at=1..9 unknown";
    pair(
        Kind::InconsistentOffsets,
        "send q=0/0 p=1 s=1 at=1..2 ok@1; scan q=0/0 at=9 0=1.1",
        "send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=9 0=1.1",
    );
    pair(
        Kind::InconsistentOffsets,
        &format!("{two}; poll q=0/0 at=3..4 1=1.1; scan q=0/0 at=10 0=1.1 1=2.1"),
        &format!("{two}; poll q=0/0 at=3..4 0=1.1; scan q=0/0 at=10 0=1.1 1=2.1"),
    );
    pair(
        Kind::InconsistentOffsets,
        &format!("{two}; poll q=0/0 at=3..4 0=1.1; poll q=0/0 g=2 at=3..4 0=2.1"),
        &format!("{two}; poll q=0/0 at=3..4 0=1.1; poll q=0/0 g=2 at=3..4 1=2.1"),
    );
    pair(
        Kind::InconsistentOffsets,
        "send q=0/0 p=1 s=1 at=1..2 ok@1; poll q=0/0 at=3..4 0=1.1",
        "send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 at=3..4 0=1.1",
    );
    // An offset that a crash took back is given again.
    let again = "send q=0/0 p=1 s=1 at=1..2 level=memory ok@0; crash at=3 process;
        send q=0/0 p=1 s=2 at=4..5 ok@0; scan q=0/0 at=9 0=1.2";
    expect(again, &Options::default(), &[]);
}

#[test]
fn aborted_read() {
    let seen = ["scan q=0/0 at=9 0=1.1", "poll q=0/0 at=3..4 0=1.1"];
    for seen in seen {
        pair(
            Kind::AbortedRead,
            &format!("send q=0/0 p=1 s=1 at=1..2 refused; {seen}"),
            &format!("send q=0/0 p=1 s=1 at=1..2 unknown; {seen}"),
        );
    }
}

#[test]
fn phantom() {
    let send = "send q=0/0 p=1 s=1 at=3..4 ok@0; scan q=0/0 at=9 0=1.1";
    pair(Kind::Phantom, "scan q=0/0 at=9 0=1.1", send);
    pair(Kind::Phantom, "send q=0/0 p=1 s=2 at=1.. unknown; poll q=0/0 at=3..4 0=1.1", send);
    pair(
        Kind::Phantom,
        "send q=0/1 p=1 s=1 at=1..2 unknown; scan q=0/0 at=9 0=1.1",
        "send q=0/0 p=1 s=1 at=1..2 unknown; scan q=0/0 at=9 0=1.1",
    );
    pair(
        Kind::Phantom,
        &format!("{send}; poll q=0/0 at=1..2 0=1.1"),
        &format!("{send}; poll q=0/0 at=1..3 0=1.1"),
    );
}

#[test]
fn corrupt() {
    for seen in ["scan q=0/0 at=9 0=1.1:", "poll q=0/0 at=3..4 0=1.1:"] {
        let send = "send q=0/0 p=1 s=1 h=ab at=1..2 ok@0";
        pair(Kind::Corrupt, &format!("{send}; {seen}ac"), &format!("{send}; {seen}ab"));
    }
}

#[test]
fn precommitted_read() {
    let text = |end: &str| {
        format!(
            "send q=0/0 p=1 s=1 at=1..2 level=memory ok@0; poll q=0/0 at=3..4 0=1.1;
            crash at=5 power; scan q=0/0 at=9 {end}"
        )
    };
    pair(Kind::PrecommittedRead, &text(""), &text("0=1.1"));
    // Retention took it since.
    expect(&text("from=1"), &Options::default(), &[]);
}

#[test]
fn offset_gap() {
    let sends = "send q=0/0 p=1 s=1 at=1..9 unknown; send q=0/0 p=2 s=1 at=1..9 unknown";
    let clean = format!("{sends}; scan q=0/0 at=9 0=1.1; scan q=0/0 at=10 1=2.1");
    pair(Kind::OffsetGap, &format!("{sends}; scan q=0/0 at=9 0=1.1 2=2.1"), &clean);
    pair(Kind::OffsetGap, &format!("{sends}; scan q=0/0 at=9 1=1.1 2=2.1"), &clean);
    pair(Kind::OffsetGap, &format!("{sends}; scan q=0/0 at=9 1=1.1 0=2.1"), &clean);
    pair(
        Kind::OffsetGap,
        &format!("{sends}; scan q=0/0 at=9 0=1.1; scan q=0/0 at=9 2=2.1"),
        &clean,
    );
}

#[test]
fn nonmonotonic_send() {
    let sends = "send q=0/0 p=1 s=1 at=1..4 unknown; send q=0/0 p=1 s=2 at=2..5 unknown";
    pair(
        Kind::NonmonotonicSend,
        &format!("{sends}; scan q=0/0 at=9 0=1.2 1=1.1"),
        &format!("{sends}; scan q=0/0 at=9 0=1.1 1=1.2"),
    );
    pair(
        Kind::NonmonotonicSend,
        &format!("{sends}; scan q=0/0 at=9 0=1.2 1=1.1"),
        "send q=0/0 p=1 s=1 due=3 at=1..2 ok; send q=0/0 p=1 s=2 at=2..5 ok@0;
        scan q=0/0 at=9 0=1.2 1=1.1",
    );
    let groups = "send q=0/0 p=1 s=1 o=1 at=1..4 ok@1; send q=0/0 p=1 s=2 o=2 at=1..5 ok@0";
    expect(groups, &Options::default(), &[Kind::NonmonotonicSend]);
}

#[test]
fn order_group() {
    let sends = "send q=0/0 p=1 s=1 o=7 at=1..4 unknown; send q=0/0 p=1 s=2 o=7 at=2..5 unknown";
    pair(
        Kind::OrderGroup,
        &format!("{sends}; scan q=0/0 at=9 0=1.2 1=1.1"),
        &format!("{sends}; scan q=0/0 at=9 0=1.1 1=1.2"),
    );
    let three = "send q=0/0 p=1 s=3 o=7 at=1..4 unknown; scan q=0/0 at=9 0=1.2 1=1.3 2=1.1";
    let verdict = check(&history(&format!("{sends}; {three}")), &Options::default());
    assert_eq!((verdict.count(Kind::OrderGroup), verdict.total()), (2, 2), "{verdict}");
}

#[test]
fn real_time_order() {
    let sends = |end: u64| {
        format!(
            "send q=0/0 p=1 s=1 at=1..{end} ok@1; send q=0/0 p=2 s=1 at=3..6 unknown;
            scan q=0/0 at=9 0=2.1 1=1.1"
        )
    };
    pair(Kind::RealTimeOrder, &sends(2), &sends(3));
    // A reader's having it is as good as its acknowledgement.
    let read = |end: u64| {
        format!(
            "send q=0/0 p=1 s=1 at=1.. unknown; poll q=0/0 at=1..{end} 1=1.1;
            send q=0/0 p=2 s=1 at=3..6 ok@0; scan q=0/0 at=9 0=2.1 1=1.1"
        )
    };
    pair(Kind::RealTimeOrder, &read(2), &read(4));
}

const THREE: &str = "send q=0/0 p=1 s=1 at=1..2 ok@0; send q=0/0 p=1 s=2 at=3..4 ok@1;
    send q=0/0 p=1 s=3 at=5..6 ok@2; scan q=0/0 at=99 0=1.1 1=1.2 2=1.3";

#[test]
fn nonmonotonic_poll() {
    let with = |polls: &str| format!("{THREE}; {polls}");
    let clean = with("poll q=0/0 at=10..11 0=1.1 1=1.2; poll q=0/0 at=12..13 2=1.3");
    pair(Kind::NonmonotonicPoll, &with("poll q=0/0 at=10..11 1=1.2 0=1.1 2=1.3"), &clean);
    pair(
        Kind::NonmonotonicPoll,
        &with("poll q=0/0 at=12..13 0=1.1 1=1.2; poll q=0/0 at=10..11 2=1.3"),
        &clean,
    );
    // Overlapping polls, other consumers, other groups, later attempts and crashes excuse it.
    let first = "poll q=0/0 c=1 g=1 at=10..11 1=1.2 2=1.3";
    for second in [
        "poll q=0/0 c=1 g=1 at=11..13 0=1.1",
        "poll q=0/0 c=2 g=1 at=12..13 0=1.1",
        "poll q=0/0 c=1 g=2 at=12..13 0=1.1",
        "poll q=0/0 c=1 g=1 at=12..13 0=1.1:0:2",
        "crash at=11 process; poll q=0/0 c=1 g=1 at=12..13 0=1.1",
        "reset q=0/0 g=1 at=11; poll q=0/0 c=1 g=1 at=12..13 0=1.1",
    ] {
        let second = second.replace("::2", ":0:2");
        expect(&with(&format!("{first}; {second}")), &Options::default(), &[]);
    }
    // It could not be read when its turn came; another one could.
    let polls = "poll q=0/0 at=10..11 1=1.2 2=1.3; poll q=0/0 at=12..13 0=1.1";
    let unread = |offset: u64| {
        let unread = BTreeSet::from([(Queue { topic: 0, index: 0 }, offset)]);
        Options { unread, ..Options::default() }
    };
    expect(&with(polls), &unread(0), &[]);
    expect(&with(polls), &unread(1), &[Kind::NonmonotonicPoll]);
    // Messages of one order group keep their order across consumers, of two groups need not.
    let grouped = |second: u64| {
        format!(
            "send q=0/0 p=1 s=1 o=1 at=1..2 ok@0; send q=0/0 p=1 s=2 o={second} at=3..4 ok@1;
            poll q=0/0 c=1 at=5..6 1=1.2; poll q=0/0 c=2 at=7..8 0=1.1"
        )
    };
    pair(Kind::NonmonotonicPoll, &grouped(1), &grouped(2));
}

#[test]
fn poll_skip() {
    let with = |polls: &str| format!("{THREE}; {polls}");
    let unscanned = |polls: &str| with(polls).replace("scan q=0/0", "scan q=9/9 at=9; # ");
    for with in [&with as &dyn Fn(&str) -> String, &unscanned] {
        for clean in [
            "poll q=0/0 at=10..11 0=1.1 1=1.2 2=1.3",
            "poll q=0/0 at=10..11 0=1.1 2=1.3; poll q=0/0 c=2 at=10..20 1=1.2",
            "poll q=0/0 at=10..11 0=1.1 2=1.3; skip q=0/0 1..2",
            "poll q=0/0 at=10..11 1=1.2 2=1.3",
        ] {
            let broken = "poll q=0/0 at=10..11 0=1.1 2=1.3; settle q=0/0 at=12..13 ack 0..3 ok";
            pair(Kind::PollSkip, &with(broken), &with(clean));
        }
    }
}

#[test]
fn nonmonotonic_attempt() {
    let send = "send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=99 0=1.1";
    let twice = |first: u32, second: u32, at: &str, between: &str| {
        format!(
            "{send}; poll q=0/0 at=3..5 0=1.1:0:{first}; {between};
            poll q=0/0 c=2 at={at} 0=1.1:0:{second}"
        )
    };
    let kind = Kind::NonmonotonicAttempt;
    pair(kind, &twice(2, 1, "6..7", ""), &twice(1, 2, "6..7", ""));
    pair(kind, &twice(1, 1, "4..7", ""), &twice(1, 1, "7..8", "crash at=6 process"));
    pair(kind, &twice(1, 1, "6..7", ""), &twice(1, 1, "7..8", "reset q=0/0 at=6"));
    pair(kind, &twice(2, 1, "6..7", ""), &twice(2, 1, "5..7", ""));
    pair(
        kind,
        &twice(1, 1, "7..8", "crash at=9 process"),
        &twice(1, 1, "5..8", "crash at=5 power"),
    );
    for crash in ["crash at=3 process", "crash at=5 power", "crash at=6 power", "crash at=7 power"]
    {
        expect(&twice(1, 1, "6..7", crash), &Options::default(), &[]);
    }
    let durable = Options { attempts_survive_crashes: true, ..Options::default() };
    expect(&twice(1, 1, "7..8", "crash at=6 power"), &durable, &[kind]);
}

#[test]
fn attempts_exceeded() {
    let options = Options { attempts_max: Some(2), ..Options::default() };
    let send = "send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 at=3..4 0=1.1:0:";
    pair_with(&options, Kind::AttemptsExceeded, &format!("{send}3"), &format!("{send}2"));
    expect(&format!("{send}0"), &options, &[Kind::AttemptsExceeded]);
}

#[test]
fn acked_redelivered() {
    let text = |settle: &str, then: &str, at: &str| {
        format!(
            "send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 g=1 at=3..4 0=1.1;
            settle q=0/0 g=1 at=5..6 {settle}; {then}; poll q=0/0 g=1 at={at} 0=1.1:0:2"
        )
    };
    let kind = Kind::AckedRedelivered;
    pair(kind, &text("ack 0..1 ok", "", "7..8"), &text("ack 0..1 ok", "", "6..8"));
    pair(kind, &text("reject 0..1 ok", "", "7..8"), &text("nack 0..1 ok", "", "7..8"));
    pair(kind, &text("ack 0..1 ok", "", "7..8"), &text("ack 0..1 unknown", "", "7..8"));
    pair(kind, &text("ack 0..1 ok", "", "7..8"), &text("ack 1..2 ok", "", "7..8"));
    for (level, crash, excused) in [
        ("memory", "crash at=7 process", true),
        ("memory", "crash at=5 process", true),
        ("memory", "crash at=9 process", true),
        ("memory", "crash at=10 process", true),
        ("memory", "crash at=4 process", false),
        ("memory", "crash at=11 process", false),
        ("written", "crash at=7 process", false),
        ("written", "crash at=7 power", true),
        ("synced", "crash at=7 power", false),
        ("synced", "reset q=0/0 g=1 at=7", true),
        ("synced", "reset q=0/0 g=2 at=7", false),
    ] {
        let text = text(&format!("level={level} ack 0..1 ok"), crash, "8..10");
        let expected: &[Kind] = if excused { &[] } else { &[Kind::AckedRedelivered] };
        expect(&text, &Options::default(), expected);
    }
}

#[test]
fn not_delivered() {
    let options = Options { expect_all_delivered: true, ..Options::default() };
    let with = |polls: &str| format!("{THREE}; {polls}");
    for clean in [
        "poll q=0/0 at=10..11 0=1.1 1=1.2 2=1.3",
        "poll q=0/0 at=10..11 0=1.1 1=1.2; skip q=0/0 2..3",
        "poll q=0/0 at=10..11 0=1.1 1=1.2; settle q=0/0 at=12..13 ack 2..3 ok",
        "",
    ] {
        let broken = "poll q=0/0 at=10..11 0=1.1 1=1.2";
        pair_with(&options, Kind::NotDelivered, &with(broken), &with(clean));
    }
    // A group reads every queue of a topic that it polled.
    let other = "poll q=0/1 at=10..11; scan q=0/1 at=99";
    expect(&with(other), &options, &[Kind::NotDelivered]);
    expect(&with("poll q=0/0 at=10..11"), &options, &[Kind::NotDelivered]);
    expect(&with("poll q=0/0 at=10..11"), &Options::default(), &[]);
}

#[test]
fn unacked_lost() {
    let options = Options { expect_all_settled: true, ..Options::default() };
    let with =
        |rest: &str| format!("send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 at=3..4 0=1.1; {rest}");
    for clean in [
        "settle q=0/0 at=5..6 ack 0..1 ok",
        "settle q=0/0 at=5..6 reject 0..1 ok",
        "settle q=0/0 at=5.. ack 0..1 unknown",
        "skip q=0/0 0..1",
    ] {
        let kind = Kind::UnackedLost;
        pair_with(&options, kind, &with("settle q=0/0 at=5..6 nack 0..1 ok"), &with(clean));
        pair_with(&options, kind, &with(""), &with(clean));
        pair_with(&options, kind, &with("settle q=0/0 at=5..6 ack 0..1 refused"), &with(clean));
    }
    let exhausted = Options { attempts_max: Some(1), ..options };
    expect(&with(""), &exhausted, &[]);
}

#[test]
fn early() {
    let text =
        |end: u64| format!("send q=0/0 p=1 s=1 due=9 at=1..2 ok; poll q=0/0 at=3..{end} 0=1.1");
    pair(Kind::Early, &text(8), &text(9));
}

#[test]
fn after_removal() {
    let sent = "send q=0/0 p=1 s=1 at=1..2 ok@0; send q=0/0 p=1 s=2 at=3..4 ok@1;
        poll q=0/0 g=1 at=5..6 0=1.1; scan q=0/0 at=30 0=1.1 1=1.2";
    let text = |at: u64| format!("{sent}; removed g=1 at={at}; poll q=0/0 g=1 at=11..12 1=1.2");
    pair_with(&Options::drained(), Kind::AfterRemoval, &text(10), &text(11));
    let settled = |at: u64, outcome: &str| {
        format!("{sent}; removed g=1 at={at}; settle q=0/0 g=1 at=11..12 ack 0..1 {outcome}")
    };
    let options = Options::drained();
    pair_with(&options, Kind::AfterRemoval, &settled(10, "ok"), &settled(10, "refused"));
    // It is owed nothing; its like, made afterwards, everything.
    let lost = &[Kind::NotDelivered, Kind::UnackedLost];
    let like = format!("{sent}; removed g=1 at=10; poll q=0/0 g=2 at=11..12 0=1.1");
    expect(&format!("{sent}; removed g=1 at=10"), &options, &[]);
    expect(&like, &options, lost);
}

#[test]
fn held_elsewhere() {
    let sent = "send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 g=1 c=7 at=3..4 0=1.1;
        hold q=0/0 g=1 c=7 at=8..10 until=50 0..1";
    let text = |more: &str, at: u64, end: u64| {
        format!("{sent}; {more}; poll q=0/0 g=1 c=8 at={at}..{end} 0=1.1:0:2")
    };
    let check = |clean: &str| pair(Kind::HeldElsewhere, &text("", 11, 49), clean);
    check(&text("", 10, 49));
    check(&text("", 11, 50));
    check(&text("crash at=20 process", 21, 49));
    // It died before the answer arrived, and after it had left.
    check(&text("crash at=8 process", 21, 49));
    let before = text("crash at=7 process", 21, 49);
    expect(&before, &Options::default(), &[Kind::HeldElsewhere]);
    check(&text("reset q=0/0 g=1 at=20", 21, 49));
    check(&text("settle q=0/0 g=1 c=7 a=1 at=49.. nack 0..1 unknown", 21, 49));
    let late = text("settle q=0/0 g=1 c=7 a=1 at=50.. nack 0..1 unknown", 21, 49);
    expect(&late, &Options::default(), &[Kind::HeldElsewhere]);
    let other = text("settle q=0/0 g=1 c=9 a=1 at=20.. nack 0..1 unknown", 21, 49);
    expect(&other, &Options::default(), &[Kind::HeldElsewhere]);
    let again = format!("{sent}; poll q=0/0 g=1 c=7 at=21..22 0=1.1:0:2");
    expect(&again, &Options::default(), &[Kind::HeldElsewhere]);
    expect(&again.replace("g=1 c=7 at=21", "g=2 c=7 at=21"), &Options::default(), &[]);
}

#[test]
fn expired_early() {
    let text = |expires: &str, at: u64| {
        format!(
            "send q=0/0 p=1 s=1 {expires} at=1..2 ok@0; poll q=0/0 g=1 at=3..4 0=1.1;
            settle q=0/0 g=1 at={at}..20 expire 0..1 ok; scan q=0/0 at=30 0=1.1"
        )
    };
    pair_with(&Options::drained(), Kind::ExpiredEarly, &text("exp=9", 8), &text("exp=9", 9));
    expect(&text("", 9), &Options::drained(), &[Kind::ExpiredEarly]);
}

#[test]
fn what_has_expired_need_not_come_and_what_has_not_must() {
    let text = |scan: u64| {
        format!(
            "send q=0/0 p=1 s=1 exp=9 at=1..2 ok@0; send q=0/0 p=1 s=2 at=3..4 ok@1;
            poll q=0/0 g=1 at=5..6 1=1.2; settle q=0/0 g=1 at=7..8 ack 1..2 ok;
            scan q=0/0 at={scan} 0=1.1 1=1.2"
        )
    };
    pair_with(&Options::drained(), Kind::NotDelivered, &text(8), &text(9));
    let all = Options { expired_come: true, ..Options::drained() };
    expect(&text(9), &all, &[Kind::NotDelivered]);
    let expired = text(9).replace("s=1 exp=9", "s=1").replace("s=2", "s=2 exp=9");
    let given = expired.replace("settle q=0/0 g=1 at=7..8 ack 1..2 ok;", "");
    let options = Options { ignore: vec![Kind::NotDelivered], ..Options::drained() };
    expect(&given, &options, &[]);
    expect(&given.replace("exp=9", ""), &options, &[Kind::UnackedLost]);
    expect(&given, &Options { expired_come: true, ..options }, &[Kind::UnackedLost]);
}

#[test]
fn tenant_leak() {
    let text = |tenant: u32| {
        format!("send q=0/0 t=1 p=1 s=1 at=1..2 ok@0; poll q=0/0 t={tenant} at=3..4 0=1.1")
    };
    pair(Kind::TenantLeak, &text(2), &text(1));
}

#[test]
fn overtaken() {
    let options = Options { ordered: vec![0], ..Options::default() };
    let sent = "send q=0/0 p=1 s=1 o=5 at=1..2 ok@0; send q=0/0 p=1 s=2 o=6 at=1..2 ok@1;
        send q=0/0 p=1 s=3 o=5 at=1..2 ok@2";
    let first = "poll q=0/0 g=1 c=7 at=10..11 0=1.1 1=1.2";
    let check = |broken: &str, clean: &str| {
        let text = |rest: &str| format!("{sent}; {first}; {rest}");
        pair_with(&options, Kind::Overtaken, &text(broken), &text(clean));
    };
    let poll = |client: u64, at: u64, what: &str| {
        format!("poll q=0/0 g=1 c={client} at={at}..{} {what}", at + 1)
    };
    // In the hands of another consumer; other order groups, and the same consumer, go on.
    check(&poll(8, 20, "2=1.3"), &poll(8, 20, "1=1.2"));
    check(&poll(8, 20, "2=1.3"), &poll(7, 20, "2=1.3"));
    // Settled, or possibly; refused is neither.
    let settle = |what: &str| format!("settle q=0/0 g=1 c=7 at=15..16 {what}");
    let then = |what: &str| format!("{}; {}", settle(what), poll(8, 20, "2=1.3"));
    for fine in ["ack 0..1 ok", "reject 0..1 ok", "ack 0..1 unknown"] {
        check(&then("ack 0..1 refused"), &then(fine));
    }
    // Failed, and not delivered again.
    let failed = format!("{}; {}", settle("nack 0..1 ok"), poll(7, 20, "2=1.3"));
    let again = format!("{}; {}", settle("nack 0..1 ok"), poll(7, 18, "0=1.1:0:2 2=1.3"));
    check(&failed, &again);
    // Delivered again to another: it is there.
    let moved = format!("{}; {}", poll(8, 15, "0=1.1:0:2"), poll(7, 20, "2=1.3"));
    let followed = format!("{}; {}", poll(8, 15, "0=1.1:0:2"), poll(8, 20, "2=1.3"));
    check(&moved, &followed);
    // Its last lease may have ended, unless it comes again.
    let limited = Options { limited: true, ..options.clone() };
    expect(&format!("{sent}; {first}; {moved}"), &limited, &[]);
    let again = format!("{sent}; {first}; {moved}; {}", poll(8, 30, "0=1.1:0:3"));
    expect(&again, &limited, &[Kind::Overtaken]);
    // Without an order group a queue is one; elsewhere nothing is promised.
    let plain = "send q=0/0 p=1 s=1 at=1..2 ok@0; send q=0/0 p=1 s=2 at=1..2 ok@1";
    let broken = format!("{plain}; {first}; {}", poll(8, 20, "1=1.2:0:2"));
    pair_with(&options, Kind::Overtaken, &broken, &broken.replace("c=8", "c=7"));
    expect(&broken, &Options::default(), &[]);
}

#[test]
fn late_settle() {
    let sent = "send q=0/0 p=1 s=1 at=1..2 ok@0";
    let polls = "poll q=0/0 g=1 c=7 at=10..11 0=1.1; poll q=0/0 g=1 c=7 at=20..21 0=1.1:0:2";
    let text = |rest: &str| format!("{sent}; {polls}; {rest}");
    let check = |broken: &str, clean: &str| pair(Kind::LateSettle, &text(broken), &text(clean));
    let late = "settle q=0/0 g=1 c=7 a=1 at=30..31 ack 0..1 ok";
    for clean in [
        "settle q=0/0 g=1 c=7 a=2 at=30..31 ack 0..1 ok",
        "settle q=0/0 g=1 c=7 a=1 at=30..31 ack 0..1 refused",
        "settle q=0/0 g=1 c=7 a=1 at=21..31 ack 0..1 ok",
        "settle q=0/0 g=1 c=7 at=30..31 ack 0..1 ok",
        "settle q=0/0 g=1 c=8 a=1 at=30..31 ack 0..1 ok",
        "crash at=25 process; settle q=0/0 g=1 c=7 a=1 at=30..31 ack 0..1 ok",
    ] {
        check(late, clean);
    }
    check(&late.replace("ack", "nack"), &late.replace("ack", "nack").replace("a=1", "a=2"));
}

#[test]
fn acked_ahead() {
    let options = Options { ordered: vec![0], ..Options::default() };
    let sent = "send q=0/0 p=1 s=1 o=5 at=1..2 ok@0; send q=0/0 p=1 s=2 o=6 at=1..2 ok@1;
        send q=0/0 p=1 s=3 o=5 at=1..2 ok@2";
    let first = "poll q=0/0 g=1 c=7 at=10..11 0=1.1 1=1.2";
    let text = |rest: &str| format!("{sent}; {first}; {rest}");
    let check = |broken: &str, clean: &str| {
        pair_with(&options, Kind::AckedAhead, &text(broken), &text(clean));
    };
    let settle = |at: u64, what: &str| format!("settle q=0/0 g=1 c=7 at={at}..{} {what}", at + 1);
    let poll = |at: u64, what: &str| format!("poll q=0/0 g=1 c=7 at=12..{at} {what}");
    let fails = settle(15, "nack 0..1 ok");
    // What was on its way when it failed; what was there before is handled anyhow.
    let late = format!("{fails}; {}; {}", poll(20, "2=1.3"), settle(30, "ack 2..3 ok"));
    let early = format!("{fails}; {}; {}", poll(14, "2=1.3"), settle(30, "ack 2..3 ok"));
    check(&late, &early);
    // Given back, or not settled at all; of another order group; by another consumer.
    check(&late, &format!("{fails}; {}; {}", poll(20, "2=1.3"), settle(30, "nack 2..3 ok")));
    check(&late, &format!("{fails}; {}; {}", poll(20, "2=1.3"), settle(30, "ack 2..3 refused")));
    check(&late, &format!("{fails}; {}; {}", poll(20, "1=1.2"), settle(30, "ack 1..2 ok")));
    let failed_by_another = fails.replace("c=7", "c=8");
    check(&late, &late.replace(&fails, &failed_by_another));
    check(&late, &late.replace(&fails, &settle(15, "nack 0..1 refused")));
    // Delivered again, or settled, meanwhile.
    let again = "poll q=0/0 g=1 c=8 at=17..19 0=1.1:0:2";
    check(&late, &format!("{late}; {again}"));
    check(&late, &format!("{late}; {}", settle(19, "ack 0..1 unknown")));
    // Its last lease may have ended, unless it comes again.
    let limited = Options { limited: true, ..options.clone() };
    expect(&text(&late), &limited, &[]);
    let comes = format!("{late}; poll q=0/0 g=1 c=8 at=40..41 0=1.1:0:2");
    expect(&text(&comes), &limited, &[Kind::AckedAhead]);
    expect(&text(&late), &Options::default(), &[]);
}

#[test]
fn dead_letters() {
    let text = |settle: &str, dead: &str| {
        format!(
            "{THREE}; dead g=1 source=0 topic=5; poll q=0/0 g=1 at=10..11 0=1.1 1=1.2 2=1.3;
            settle q=0/0 g=1 at=12..13 {settle}; {dead}"
        )
    };
    let clean = text("reject 1..2 ok", "scan q=5/0 at=99 0=1.2");
    let lost = Kind::DeadLetterLost;
    pair(lost, &text("reject 1..2 ok", "scan q=5/0 at=99"), &clean);
    pair(lost, &text("reject 1..3 ok", "scan q=5/0 at=99 0=1.2"), &clean);
    pair(lost, &text("reject 1..2 ok", "scan q=5/0 at=99"), &text("reject 1..2 ok", ""));
    pair(
        lost,
        &text("level=written reject 1..2 ok", "crash at=14 process; scan q=5/0 at=99"),
        &text("level=written reject 1..2 ok", "crash at=14 power; scan q=5/0 at=99"),
    );
    pair(Kind::Duplicate, &text("reject 1..2 ok", "scan q=5/0 at=99 0=1.2 1=1.2"), &clean);
    pair(Kind::Phantom, &text("reject 1..2 ok", "scan q=5/0 at=99 0=1.2 1=7.7"), &clean);
    let foreign = "send q=6/0 p=6 s=1 at=1..2 unknown; scan q=5/0 at=99 0=1.2 1=6.1";
    pair(Kind::Phantom, &text("reject 1..2 ok", foreign), &clean);
    pair(Kind::Corrupt, &text("reject 1..2 ok", "scan q=5/0 at=99 0=1.2:1"), &clean);
    pair(Kind::OffsetGap, &text("reject 1..2 ok", "scan q=5/0 at=99 1=1.2"), &clean);
    // Its readers get copies: other offsets than the original's.
    let read = "scan q=5/0 at=99 0=1.2; poll q=5/0 g=2 at=20..21 0=1.2";
    expect(&text("reject 1..2 ok", read), &Options::default(), &[]);
}

#[test]
fn malformed() {
    let clean = "send q=0/0 p=1 s=1 at=1..2 unknown; send q=0/0 p=1 s=2 at=3.. unknown";
    for broken in [
        "send q=0/0 p=1 s=1 at=1..2 unknown; send q=0/0 p=1 s=1 at=3.. unknown",
        "send q=0/0 p=1 s=1 at=2..1 unknown",
        "send q=0/0 p=1 s=1 at=2.. ok",
        "settle q=0/0 at=5..4 ack 0..1 ok",
        "settle q=0/0 at=5.. ack 0..1 ok",
        "poll q=0/0 at=5..4",
        "send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=1 0=1.1",
    ] {
        pair(Kind::Malformed, broken, clean);
    }
}

#[test]
fn the_printed_verdict_says_how_much_was_looked_at_and_shows_examples() {
    let lost = "send q=0/0 p=1 s=1 at=1..2 ok@0; send q=0/0 p=1 s=2 at=3..4 level=memory ok@1;
        send q=0/0 p=1 s=3 at=5..6 refused; send q=0/1 p=1 s=4 at=5.. unknown; crash at=7 process;
        poll q=0/1 g=3 at=8..9 0=1.4 0=1.4:0:2; scan q=0/0 at=9";
    let printed = check(&history(lost), &Options::default()).to_string();
    let expected = "verdict: 1 anomalies
  5 operations: 4 sends (2 acked, 1 refused, 1 unknown of which 1 visible), \
1 polls (2 delivered, 1 of them again), 0 settles; 1 crashes
  1 queues scanned with 0 messages, 1 not scanned; \
acked and gone: 1 by a crash that may, 0 by retention or not yet due
          1 lost-write: Accepted at a level that outlives the crashes, absent at the end.
    lost-write queue 0/0: message 1.1 was acked at offset 0 (Synced), and is not stored
";
    assert_eq!(printed, expected);
}

#[test]
fn every_anomaly_is_counted_and_a_few_are_kept() {
    let mut text = String::new();
    for seq in 0..50 {
        text += &format!("send q=0/0 p=1 s={seq} at=1..2 ok;");
    }
    let options = Options { examples_max: 3, ..Options::default() };
    let verdict = check(&history(&format!("{text} scan q=0/0 at=9 0=8.8")), &options);
    assert_eq!((verdict.count(Kind::LostWrite), verdict.count(Kind::Phantom)), (50, 1));
    let kept: Vec<&str> = verdict.anomalies.iter().map(|anomaly| anomaly.kind.name()).collect();
    assert_eq!(kept, ["lost-write", "phantom", "lost-write", "lost-write"]);
}
