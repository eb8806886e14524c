//! `kafka-batcher produce`, the real program against the embedded broker.

mod common;

use std::collections::HashMap;
use std::num::NonZeroU32;

use common::{FLIGHTS, Running, TOPIC, broker, file, read, run, text, values};
use kafka_batcher::core::partition::hash::murmur2;

#[test]
fn a_file_goes_in_unchanged_keyed_and_in_order() {
    let broker = broker(12);
    let bootstrap = broker.bootstrap();
    let ended = run(&["produce", "-t", TOPIC, "-b", &bootstrap, "--key-field", "tailnum", FLIGHTS], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("lost")), (1800, 0));
    assert!(ended.stdout.ends_with("Everything is in Kafka.\n"), "{ended:?}");

    let records = read(&bootstrap, TOPIC);
    let mut sent: Vec<String> =
        std::fs::read_to_string(FLIGHTS).unwrap().lines().map(str::to_owned).collect();
    sent.sort();
    assert_eq!(values(&records), sent);
    let mut last: HashMap<String, (i32, u64)> = HashMap::new();
    for record in &records {
        let flight: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let key = text(&record.key);
        assert_eq!(key.as_deref(), flight["tailnum"].as_str());
        let Some(key) = key else { continue };
        let partition = murmur2(key.as_bytes(), NonZeroU32::new(12).unwrap());
        assert_eq!(record.partition, partition as i32, "Java's partition for {key}");
        let id = flight["id"].as_u64().unwrap();
        if let Some(before) = last.insert(key, (record.partition, id)) {
            assert_eq!(before.0, record.partition);
            assert!(before.1 < id, "flight {id} comes after {}", before.1);
        }
    }
    assert_eq!(records.iter().filter(|r| r.key.is_none()).count(), 2, "null is no key");
}

#[cfg(feature = "rskafka")]
#[test]
fn the_other_backend_delivers_the_same() {
    let broker = broker(12);
    let bootstrap = broker.bootstrap();
    let args =
        ["produce", "-t", TOPIC, "-b", &bootstrap, "--backend", "rskafka", "--key-field", "tailnum", FLIGHTS];
    let ended = run(&args, "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("lost")), (1800, 0));
    assert_eq!(read(&bootstrap, TOPIC).len(), 1800);
    // A property of librdkafka's means nothing to it.
    let ended = run(&[&args[..], &["-X", "linger.ms=3"]].concat(), "");
    assert!(ended.stderr.contains("`linger.ms`"), "{ended:?}");
}

#[test]
fn standard_input_goes_in_too_and_the_last_line_needs_no_newline() {
    let broker = broker(4);
    for args in [&["-"][..], &[]] {
        let bootstrap = broker.bootstrap();
        let args = [&["produce", "-t", TOPIC, "-b", &bootstrap], args].concat();
        let ended = run(&args, "one\n\ntwo\r\n three");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!((ended.reported("delivered"), ended.reported("empty lines")), (3, 1));
    }
    let expected = [" three", " three", "one", "one", "two\r", "two\r"];
    assert_eq!(values(&read(&broker.bootstrap(), TOPIC)), expected);
}

#[test]
fn events_without_a_key_are_spread_in_batches() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    // The limit of bytes, since on a busy machine a batch may grow far beyond its size while nobody gets to send it.
    let size = ["--batch-size", "20", "--max-batch-bytesize", "16000"];
    let args = [&["produce", "-t", TOPIC, "-b", &bootstrap], &size[..], &[FLIGHTS]].concat();
    let ended = run(&args, "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let records = read(&bootstrap, TOPIC);
    assert_eq!(records.len(), 1800);
    assert!(records.iter().any(|r| r.partition != records[0].partition));
}

#[test]
fn nothing_on_standard_input_is_nothing_sent_and_no_error() {
    let ended = run(&["produce", "--topic", TOPIC, "--embedded"], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.reported("delivered"), 0);
}

#[test]
fn a_separator_cuts_key_and_value() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let args = ["produce", "-t", TOPIC, "-b", &bootstrap, "--key-separator", r"\t"];
    let ended = run(&args, "a\t1\na\t2\tx\n\t3\nfour\nb\t\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("1 lines without the key separator"), "{ended:?}");
    let mut records: Vec<_> =
        read(&bootstrap, TOPIC).iter().map(|r| (text(&r.key), text(&r.value).unwrap())).collect();
    records.sort();
    let record = |key: Option<&str>, value: &str| (key.map(str::to_owned), value.to_owned());
    let expected = [
        record(None, "four"),
        record(Some(""), "3"),
        record(Some("a"), "1"),
        record(Some("a"), "2\tx"),
        record(Some("b"), ""),
    ];
    assert_eq!(records, expected);
}

#[test]
fn every_bad_line_is_named_and_all_others_are_delivered() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(100));
    let lines = [
        r#"{"k":1}"#,
        r#"{"x":1}"#,
        "{\"k\":",
        "",
        r#"{"k":null}"#,
        r#"{"k":{}}"#,
        &long,
        "[1]",
        "\u{1}",
        r#"{"k":"z"}"#,
    ];
    let input = file(lines.join("\n"));
    let path = input.path().to_str().unwrap();
    let args = ["produce", "-t", TOPIC, "-b", &bootstrap, "--key-field", "k", "--max-line", "100", path];
    let ended = run(&args, "");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let expected = [
        "line 2: no such key field `k`",
        "line 3: invalid JSON at column 5: EOF while parsing a value",
        "line 6: key field `k` is an object; a key is text, a number, true, false or null",
        "line 7: too long: 108 bytes, the limit is 100",
        "line 8: not a JSON object: invalid type: sequence, expected a JSON object",
        "line 9: invalid JSON at column 1: expected value",
    ];
    let messages: Vec<_> = ended.stderr.lines().collect();
    let expected: Vec<_> = expected.iter().map(|text| format!("kafka-batcher: {path}, {text}")).collect();
    assert_eq!(messages, expected);
    assert_eq!((ended.reported("delivered"), ended.reported("bad lines"), ended.reported("lost")), (3, 6, 0));
    assert_eq!(values(&read(&bootstrap, TOPIC)), [r#"{"k":"z"}"#, r#"{"k":1}"#, r#"{"k":null}"#]);
}

#[test]
fn an_event_larger_than_a_batch_is_a_bad_line() {
    let args = ["produce", "-t", TOPIC, "--embedded", "--max-batch-bytesize", "200", "--key-separator", ","];
    let ended = run(&args, &format!("a,1\n{}\n{}\nb,2\n", "y".repeat(150), "x".repeat(300)));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("standard input, line 2: too long: 2"), "{ended:?}");
    assert!(
        ended.stderr.contains("standard input, line 3: too long: 300 bytes, the limit is 200"),
        "{ended:?}"
    );
    assert_eq!(ended.reported("delivered"), 2);
}

#[test]
fn it_stops_at_a_bad_line_if_told_so_and_delivers_what_came_before() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let args = ["produce", "-t", TOPIC, "-b", &bootstrap, "--format", "json", "--on-error", "stop"];
    let ended = run(&args, "1\n2\nx\n4\n");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("stopped at line 3 of standard input"), "{ended:?}");
    assert_eq!(values(&read(&bootstrap, TOPIC)), ["1", "2"]);
}

#[test]
fn a_wrong_field_name_does_not_flood_the_terminal() {
    let ended = run(&["produce", "-t", TOPIC, "--embedded", "--key-field", "tail", FLIGHTS], "");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.lines().count() < 60, "{ended:?}");
    assert_eq!((ended.reported("bad lines"), ended.reported("delivered")), (1800, 0));
    assert!(ended.stdout.ends_with("Nothing was sent.\n"), "{ended:?}");
}

#[test]
fn what_can_t_be_used_is_said_at_once() {
    let gzip = file([0x1f, 0x8b, 8, 0, 0, 0]);
    let gzip = gzip.path().to_str().unwrap();
    let config = file("batch_sizes = 's3cr3t'\n");
    let config = config.path().to_str().unwrap();
    for (args, message) in [
        (&["/no/such/file"][..], "can't open /no/such/file: there is no such file"),
        (&["/"], "can't open /: it is a directory"),
        (&[gzip], "zcat"),
        (&["--batch-size", "0", FLIGHTS], "`batch_size` is 0"),
        (&["--partition-strategy", "md6", FLIGHTS], "\"murmur2\""),
        (&["-X", "no.such.property=s3cr3t", FLIGHTS], "no.such.property"),
        (&["-X", "s3cr3t", FLIGHTS], "NAME=VALUE"),
        (&["--key-field", "k", "--format", "lines", FLIGHTS], "--key-field needs JSON"),
        (&["--key-separator", "", FLIGHTS], "--key-separator"),
        (&["--config", "/no/such.toml", FLIGHTS], "/no/such.toml"),
        (&["--config", config, FLIGHTS], "did you mean `batch_size`?"),
        (&["--max-line", "0", FLIGHTS], "--max-line"),
        (&["--deadline", "soon", FLIGHTS], "--deadline"),
    ] {
        let ended = run(&[&["produce", "-t", TOPIC, "--embedded"], args].concat(), "");
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(message), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("s3cr3t") && !ended.stdout.contains("s3cr3t"), "{args:?}: {ended:?}");
    }
    let ended = run(&["produce", "-t", "no spaces", "--embedded", FLIGHTS], "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let ended = run(&["produce", "-t", TOPIC, FLIGHTS], "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("KAFKA_BATCHER_BOOTSTRAP"), "{ended:?}");
}

#[test]
fn an_unreachable_broker_is_named_and_nothing_is_sent() {
    let (_bound, brokers) = common::nobody();
    let ended = run(&["produce", "-t", TOPIC, "-b", &brokers, "--connect-timeout", "3", FLIGHTS], "");
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains(&format!("waiting for Kafka at {brokers}")), "{ended:?}");
    let (_, within) =
        ended.stderr.split_once(&format!("no Kafka at {brokers} within ")).expect(&ended.stderr);
    let seconds: f64 = within.split(' ').next().unwrap().parse().unwrap();
    assert!((3.0..10.0).contains(&seconds), "{ended:?}");
    assert!(ended.stderr.contains("nothing was sent"), "{ended:?}");
}

#[test]
fn an_unknown_topic_is_named_and_nothing_is_sent() {
    use kafka_batcher_testkit::embedded::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    let broker = broker(1);
    broker.set_topic_error(TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let ended = run(&["produce", "-t", TOPIC, "-b", &broker.bootstrap(), FLIGHTS], "");
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains(&format!("topic {TOPIC} does not exist")), "{ended:?}");
    assert!(ended.stderr.contains("--create-topic"), "{ended:?}");
}

#[test]
fn quiet_says_nothing_unless_something_is_wrong() {
    let ended = run(&["produce", "-t", TOPIC, "--embedded", "--quiet", FLIGHTS], "");
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    let ended = run(&["produce", "-t", TOPIC, "--embedded", "-q", "--format", "json"], "x\n");
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("line 1") && ended.stdout.contains("bad lines"), "{ended:?}");
}

#[test]
fn memory_is_bounded_and_a_full_one_makes_reading_wait() {
    let args =
        ["produce", "-t", TOPIC, "--embedded", "--memory-bytes", "60000", "--max-batch-bytesize", "20000"];
    let ended = run(&[&args[..], &["--key-field", "tailnum", FLIGHTS]].concat(), "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.reported("delivered"), 1800);
}

#[test]
fn settings_come_from_a_file() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let config = file(format!(
        "endpoints = '{bootstrap}'\nbatch_size = 7\n[[topics]]\ntopic_name = '{TOPIC}'\npartition_strategy = 'phash2'\n"
    ));
    let config = config.path().to_str().unwrap();
    let ended = run(&["produce", "-t", TOPIC, "--config", config, "--key-field", "tailnum", FLIGHTS], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let partitions = NonZeroU32::new(4).unwrap();
    for record in read(&bootstrap, TOPIC) {
        if let Some(key) = record.key {
            assert_eq!(
                record.partition,
                kafka_batcher::core::partition::hash::phash2(&key, partitions) as i32
            );
        }
    }
}

#[test]
fn a_closed_output_is_no_panic() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-batcher"))
        .args(["produce", "-t", TOPIC, "--embedded", FLIGHTS])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_and_version_are_there() {
    for args in [&["--help"][..], &["--version"], &["produce", "--help"], &["demo", "--help"]] {
        let ended = Running::start(args).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("kafka-batcher"), "{ended:?}");
    }
    let help = Running::start(&["produce", "--help"]).end();
    assert!(help.stdout.contains("Exit code:"), "{help:?}");
    assert_eq!(Running::start(&[]).end().code, Some(2));
}
