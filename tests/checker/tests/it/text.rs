//! Histories as text: what is written is read back; what cannot be read is said with its line.

use crate::cases::history;
use crate::model;
use yard_checker::{Event, History, ReadError, TextError};

#[test]
fn each_line_reads_and_writes_as_itself() {
    for line in [
        "send q=3/0 p=7 s=12 at=10..20 ok@42",
        "send q=3/0 p=7 s=13 at=11.. unknown",
        "send q=3/1 p=7 s=14 o=0 h=ab due=0 exp=9 c=1 t=2 level=memory at=12..22 ok",
        "send q=3/0 p=7 s=15 level=written at=12..22 refused",
        "poll q=3/0 g=1 c=2 t=4 at=30..31 42=7.12 43=7.13:ab 44=7.14:0:2",
        "poll q=3/0 at=30..31",
        "settle q=3/0 g=1 c=2 at=40..41 ack 42..43 ok",
        "settle q=3/0 level=memory at=40.. nack 42..43 unknown",
        "settle q=3/0 g=1 a=2 at=40..41 ack 42..43 ok",
        "settle q=3/0 at=40..41 reject 42..43 refused",
        "hold q=3/0 g=1 c=2 at=18..20 until=90 42..43",
        "settle q=3/0 at=40..41 expire 42..43 ok",
        "skip q=3/0 g=1 0..42",
        "reset q=3/0 g=1 at=50",
        "removed g=1 at=55",
        "crash at=60 process",
        "crash at=61 power",
        "scan q=3/0 at=70 from=42 42=7.12 43=7.13:ab",
        "dead g=1 source=3 topic=4",
    ] {
        let event: Event = line.parse().unwrap_or_else(|error| panic!("{error} in {line}"));
        assert_eq!(event.to_string(), line);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let invalid = |word: &str| TextError::Invalid(word.to_owned());
    for (line, expected) in [
        ("sent q=0/0", TextError::UnknownEvent("sent".to_owned())),
        ("crash at=1 process x=2", TextError::UnknownField("x".to_owned())),
        ("crash at=1 process power", invalid("power")),
        ("crash at=1 fire", invalid("fire")),
        ("crash process", TextError::Missing("at")),
        ("send q=0/0 p=1 at=1..2 ok", TextError::Missing("s")),
        ("send q=0/0 p=1 s=1 at=1..2", TextError::Missing("outcome")),
        ("send q=0/0 p=1 s=1 at=1..2 ok@", invalid("")),
        ("send q=0/0 p=1 s=1 at=1 ok", invalid("1")),
        ("send q=0 p=1 s=1 at=1..2 ok", invalid("0")),
        ("send q=0/0 p=1 s=1 h=xy at=1..2 ok", invalid("xy")),
        ("send q=0/0 p=1 s=1 level=disk at=1..2 ok", invalid("disk")),
        ("poll q=0/0 at=1..", TextError::Missing("completed")),
        ("poll q=0/0 at=1..2 0=1", invalid("0=1")),
        ("poll q=0/0 at=1..2 0=1.1:0:1:9", invalid("0=1.1:0:1:9")),
        ("scan q=0/0 at=1 0=1.1:0:1", invalid("0=1.1:0:1")),
        ("settle q=0/0 at=1..2 drop 0..1 ok", invalid("drop")),
        ("settle q=0/0 at=1..2 ack 0-1 ok", invalid("0-1")),
    ] {
        assert_eq!(line.parse::<Event>(), Err(expected), "{line}");
        let text = format!("# comment\n\ncrash at=1 process\n{line}\n");
        match History::read_from(text.as_bytes()) {
            Err(ReadError::Line { number: 4, .. }) => {}
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn a_written_history_is_read_back_whole() {
    let written = model::run(&model::actions(7, 400), None);
    let mut text = Vec::new();
    written.write_to(&mut text).expect("a Vec takes all writes");
    assert!(text.len() > 10_000, "the model wrote {} bytes", text.len());
    let read = History::read_from(text.as_slice()).expect("what was written can be read");
    assert_eq!(read, written);
}

#[test]
fn histories_of_two_recorders_are_one() {
    let mut first = history("send q=0/0 p=1 s=1 at=1..2 ok@0; scan q=0/0 at=9 0=1.1");
    first.append(history("poll q=0/0 at=3..4 0=1.1; crash at=5 power; skip q=0/0 0..1"));
    let whole = "send q=0/0 p=1 s=1 at=1..2 ok@0; poll q=0/0 at=3..4 0=1.1; crash at=5 power;
        skip q=0/0 0..1; scan q=0/0 at=9 0=1.1";
    assert_eq!(first, history(whole));
}
