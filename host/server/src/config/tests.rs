use super::*;

fn settings(text: &str) -> Result<Settings, Vec<String>> {
    let sentences = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect();
    let layer = layers::parse("yard.toml".into(), text).map_err(|p| sentences(vec![p]))?;
    Settings::from_layers(&[layer]).map_err(sentences)
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = settings(text).err().unwrap_or_default();
    assert_eq!(problems, expected, "{text}");
}

#[test]
fn every_mistake_is_reported_at_once() {
    check("dev = true", &[]);
    check("dev = true\nshards = 4\nsegment_bytes = 67108864\nidle_ms = \"90s\"", &[]);
    check(
        "dev = true\nshrads = 4\nshards = 0\nidle_ms = 30\ncontroller = [1]",
        &[
            "yard.toml: shrads: there is no such setting; the nearest is shards",
            "yard.toml: shards: it takes a number from 1 to 64, not \"0\"",
            "yard.toml: idle_ms: it takes a duration like 30s, not \"30\"",
            "yard.toml: controller: it takes cubic or bbr, not \"[1]\"",
        ],
    );
    check(
        "tls_key = \"k\"",
        &[
            "settings: tls_certificate: it is needed together with tls_key",
            "settings: client_authority: it is needed, unless dev is true",
        ],
    );
    check(
        "",
        &[
            "settings: tls_certificate: it is needed, unless dev is true",
            "settings: client_authority: it is needed, unless dev is true",
        ],
    );
    check(
        "dev = true\nsegment_bytes = \"3GiB\"\nlisten = \"here\"\nadvertise = \"host\"",
        &[
            "yard.toml: listen: it takes an address like 127.0.0.1:7420, not \"here\"",
            "yard.toml: advertise: it takes host:port, not \"host\"",
            "yard.toml: segment_bytes: 3GiB is outside its bounds, 1MiB to 2GiB",
        ],
    );
}

#[test]
fn the_transport_is_bounded() {
    check(
        "dev = true\nmtu_bytes_max = 65508\nstream_window_bytes = \"16MiB\"\n\
         receive_window_bytes = 1\nsocket_buffer_bytes = \"2GiB\"",
        &[
            "yard.toml: mtu_bytes_max: it takes a number from 1200 to 65507, not \"65508\"",
            "yard.toml: stream_window_bytes: 16MiB is outside its bounds, 64KiB to 2000000",
            "yard.toml: receive_window_bytes: 1 is outside its bounds, 64KiB to 1GiB",
            "yard.toml: socket_buffer_bytes: 2GiB is outside its bounds, 0 to 1GiB",
        ],
    );
}

#[test]
fn not_toml_is_one_problem_that_shows_the_place() {
    let problems = settings("shards 4").unwrap_err();
    assert!(problems[0].starts_with("yard.toml: file: it is not TOML: "), "{problems:?}");
}

#[test]
fn later_layers_win() {
    let text = "dev = true\nshards = 2\nlanes = 2\ndata = \"a\"";
    let file = layers::parse("yard.toml".into(), text).expect("valid");
    let variables = [("YARD_LANES", "3"), ("YARD_DATA", "b"), ("HOME", "x"), ("YARD_PORT", "y")];
    let environment = environment(variables.map(|(name, text)| (name.into(), text.into())));
    let flags = Layer::flags([("data", "c".to_owned())]);
    let settings = Settings::from_layers(&[file, environment, flags]).expect("valid");
    assert_eq!((settings.shards, settings.lanes), (Some(2), 3));
    assert_eq!(settings.data, PathBuf::from("c"));
    assert_eq!(settings.segment_bytes, 64 << 20, "development mode has small segments");
}

#[test]
fn a_mistyped_variable_is_a_problem_and_names_where() {
    let variables = [("YARD_SEGMENT_BYTE".to_owned(), "1GiB".to_owned())];
    let problems = Settings::from_layers(&[environment(variables)]).unwrap_err();
    let expected = "environment: YARD_SEGMENT_BYTE: there is no such setting; \
                    the nearest is segment_bytes";
    assert_eq!(problems[0].to_string(), expected);
    let flags = Layer::flags([("segment_bytes", "1".to_owned()), ("dev", "true".to_owned())]);
    let problems = Settings::from_layers(&[flags]).unwrap_err();
    assert!(problems[0].to_string().starts_with("flags: --segment-bytes: 1 is outside"));
}

#[test]
fn defaults_are_valid_in_both_modes() {
    let dev = Settings::for_dev("d".into(), "127.0.0.1:0".parse().expect("address"));
    assert_eq!((dev.dev, dev.segment_bytes, dev.inbox_bytes), (true, 64 << 20, 8 << 20));
    let flags = ["tls_certificate", "tls_key", "client_authority"].map(|n| (n, n.to_owned()));
    let serve = Settings::from_layers(&[Layer::flags(flags)]).expect("complete");
    assert_eq!((serve.dev, serve.segment_bytes, serve.idle_ms), (false, 128 << 20, 30_000));
    assert_eq!(serve.idle_ms, limits::IDLE_MS_DEFAULT);
}

#[test]
fn sizes_and_durations() {
    let sizes = [
        ("0", Some(0)),
        ("64MiB", Some(64 << 20)),
        ("64 MiB", Some(64 << 20)),
        ("1GB", Some(1_000_000_000)),
        ("12B", Some(12)),
        ("1.5GiB", None),
        ("-1", None),
        ("+1", None),
        ("", None),
        ("MiB", None),
        ("99999999TiB", None),
    ];
    for (text, expected) in sizes {
        assert_eq!(read_bytes(text).ok(), expected, "{text:?}");
    }
    let durations = [
        ("30s", Some(30_000)),
        ("250ms", Some(250)),
        ("15m", Some(900_000)),
        ("2h", Some(7_200_000)),
        ("1d", Some(86_400_000)),
        ("30", None),
        ("s", None),
        ("1h30m", None),
    ];
    for (text, expected) in durations {
        assert_eq!(read_duration_ms(text).ok(), expected, "{text:?}");
    }
}
