//! Answers: what a guest writes a host reads as it was, and refuses all else.

use proptest::prelude::*;
use yard_abi::Malformed;
use yard_abi::verdict::{
    Answer, AnswersBuilder, Bitmap, BitmapBuilder, KEY_BYTES_MAX, KeysBuilder, PATCH_BYTES_MAX,
    Patch, REASON_BYTES_MAX, answers, bitmap_bytes, counts, keys, put_counts,
};

#[derive(Clone, Debug)]
enum Owned {
    Pass,
    Replace(Vec<(String, Option<String>)>, Option<Vec<u8>>),
    Reject(String),
}

impl Owned {
    fn borrow(&self) -> Answer<'_> {
        match self {
            Owned::Pass => Answer::Pass,
            Owned::Reject(reason) => Answer::Reject(reason),
            Owned::Replace(properties, body) => Answer::Replace(Patch {
                properties: properties.iter().map(|(a, b)| (a.as_str(), b.as_deref())).collect(),
                body: body.as_deref(),
            }),
        }
    }
}

fn answer() -> impl Strategy<Value = Owned> {
    let property = ("[a-zö]{0,6}", prop::option::of("[ -~]{0,9}"));
    let body = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    prop_oneof![
        Just(Owned::Pass),
        "[a-zü ]{0,20}".prop_map(Owned::Reject),
        (prop::collection::vec(property, 0..4), body).prop_map(|(a, b)| Owned::Replace(a, b)),
    ]
}

proptest! {
    #[test]
    fn bitmaps_are_read_as_written(verdicts in prop::collection::vec(any::<bool>(), 0..256)) {
        let count = verdicts.len() as u32;
        let mut builder = BitmapBuilder::new(count);
        for (index, verdict) in verdicts.iter().enumerate() {
            builder.set(index, *verdict);
        }
        let bytes = builder.into_bytes();
        prop_assert_eq!(bytes.len(), bitmap_bytes(count));
        let bitmap = Bitmap::parse(&bytes, count).expect("whole");
        prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), verdicts.clone());
        prop_assert_eq!(bitmap.ones() as usize, verdicts.iter().filter(|it| **it).count());
        prop_assert!(!bitmap.get(4096));
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(Bitmap::parse(&longer, count), Err(Malformed::Trailing));
        if let Some((_, shorter)) = bytes.split_last() {
            prop_assert_eq!(Bitmap::parse(shorter, count), Err(Malformed::Short));
        }
        if !count.is_multiple_of(8) {
            let mut spare = bytes;
            *spare.last_mut().expect("one byte at least") |= 0x80;
            prop_assert_eq!(Bitmap::parse(&spare, count), Err(Malformed::Value));
        }
    }

    #[test]
    fn keys_are_read_as_written(
        list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
        junk in prop::collection::vec(any::<u8>(), 0..99),
    ) {
        let mut builder = KeysBuilder::default();
        for key in &list {
            prop_assert_eq!(builder.push(key), Ok(()));
        }
        let bytes = builder.into_bytes();
        let count = list.len() as u32;
        prop_assert_eq!(keys(&bytes, count).expect("whole"), list);
        prop_assert!(keys(&bytes, count + 1).is_err());
        for end in 0..bytes.len() {
            prop_assert!(keys(&bytes[..end], count).is_err());
        }
        // Whatever comes out of junk lies in it.
        if let Ok(found) = keys(&junk, 3) {
            prop_assert_eq!(found.iter().map(|key| key.len() + 2).sum::<usize>(), junk.len());
        }
    }

    #[test]
    fn answers_are_read_as_written(
        list in prop::collection::vec(answer(), 0..12),
        junk in prop::collection::vec(any::<u8>(), 0..99),
        change in any::<(prop::sample::Index, u8)>(),
    ) {
        let mut builder = AnswersBuilder::default();
        for answer in &list {
            prop_assert_eq!(builder.push(&answer.borrow()), Ok(()));
        }
        let bytes = builder.into_bytes();
        let count = list.len() as u32;
        let expected: Vec<_> = list.iter().map(Owned::borrow).collect();
        prop_assert_eq!(answers(&bytes, count).expect("whole"), expected);
        for end in 0..bytes.len() {
            prop_assert!(answers(&bytes[..end], count).is_err());
        }
        let mut changed = bytes;
        if !changed.is_empty() {
            let at = change.0.index(changed.len());
            changed[at] = change.1;
            if let Ok(read) = answers(&changed, count) {
                prop_assert_eq!(read.len(), list.len());
            }
        }
        if let Ok(read) = answers(&junk, 2) {
            prop_assert_eq!(read.len(), 2);
        }
    }

    #[test]
    fn counts_are_read_as_written(list in prop::collection::vec(any::<Option<i64>>(), 0..30)) {
        let bytes = put_counts(list.iter().copied());
        prop_assert_eq!(counts(&bytes, list.len() as u32), Ok(list.clone()));
        prop_assert!(counts(&bytes, list.len() as u32 + 1).is_err());
    }
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let mut builder = KeysBuilder::default();
    assert_eq!(builder.push(&[1; KEY_BYTES_MAX]), Ok(()));
    assert_eq!(builder.push(&[1; KEY_BYTES_MAX + 1]), Err(Malformed::Length));
    assert_eq!(keys(&builder.into_bytes(), 1).map(|keys| keys.len()), Ok(1));

    let mut builder = AnswersBuilder::default();
    assert_eq!(builder.push(&Answer::Pass), Ok(()));
    let long = "x".repeat(PATCH_BYTES_MAX + 1);
    let replace = |properties, body| Answer::Replace(Patch { properties, body });
    for answer in [
        Answer::Reject(&long[..=REASON_BYTES_MAX]),
        replace(Vec::new(), Some(long.as_bytes())),
        replace(vec![("a", Some(&long[..70_000]))], None),
    ] {
        assert_eq!(builder.push(&answer), Err(Malformed::Length));
    }
    assert_eq!(answers(&builder.into_bytes(), 1), Ok(vec![Answer::Pass]));
}

#[test]
fn a_list_is_not_longer_than_a_frame() {
    assert_eq!(keys(&[0; 514], 257), Err(Malformed::Length));
}
