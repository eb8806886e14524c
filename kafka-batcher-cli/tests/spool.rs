//! Spools as an operator has to do with them: filled during an outage, looked into, sent, mended, emptied.

#![cfg(all(unix, feature = "sled"))]

mod common;

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Ended, PATIENCE, Running, TOPIC, broker, file, read, run, text};
use serde_json::{Value, json};

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// A spool's folder, not there yet.
struct Spool {
    folder: tempfile::TempDir,
}

impl Spool {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> String {
        self.folder.path().join("spool").to_str().unwrap().to_owned()
    }

    /// With events `range` in it, accepted while there is no Kafka.
    fn filled(range: std::ops::Range<u32>) -> Self {
        let spool = Self::new();
        let ended = spool.produce(NOWHERE, &["--patience", "0"], &lines(range.clone()));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!((ended.reported("delivered"), ended.reported("stored")), (0, range.len() as u64));
        spool
    }

    fn args<'a>(path: &'a str, bootstrap: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["produce", "-t", TOPIC, "-b", bootstrap, "--key-separator", ",", "--spool", path], more].concat()
    }

    fn produce(&self, bootstrap: &str, more: &[&str], stdin: &str) -> Ended {
        run(&Self::args(&self.path(), bootstrap, more), stdin)
    }

    fn start(&self, bootstrap: &str, more: &[&str]) -> Running {
        Running::start(&Self::args(&self.path(), bootstrap, more))
    }

    fn command(&self, name: &str, more: &[&str]) -> Ended {
        run(&[&["spool", name, &self.path()], more].concat(), "")
    }

    /// What a command says as JSON.
    fn json(&self, name: &str, more: &[&str]) -> Value {
        let ended = self.command(name, &[more, &["--json"]].concat());
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// Events in all lanes, of a spool that may not be there yet.
    fn events(&self) -> u64 {
        if !Path::new(&self.path()).join("FORMAT").exists() {
            return 0;
        }
        self.json("ls", &[])["lanes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lane| lane["events"].as_u64().unwrap())
            .sum()
    }

    fn wait_for_events(&self, events: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.events() < events {
            assert!(Instant::now() < deadline, "{} of {events} events are stored", self.events());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Lines `KEY,NUMBER` with the numbers of `range` and ten keys.
fn lines(range: std::ops::Range<u32>) -> String {
    range.fold(String::new(), |mut text, number| {
        writeln!(text, "key{},{number}", number % 10).unwrap();
        text
    })
}

/// Each number once, those of a key in order.
fn all_there_in_order(bootstrap: &str, count: u64) {
    let records = read(bootstrap, TOPIC);
    let mut last: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
    let mut numbers: Vec<u64> = records
        .iter()
        .map(|record| {
            let number = text(&record.value).unwrap().parse().unwrap();
            let key = text(&record.key).unwrap();
            assert_eq!(key, format!("key{}", number % 10));
            if let Some(before) = last.insert(key, number) {
                assert!(before < number, "{number} comes after {before}");
            }
            number
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..count), "{} numbers", numbers.len());
}

#[test]
fn what_came_in_without_kafka_is_stored_and_the_next_run_sends_it_first() {
    let spool = Spool::filled(0..500);
    assert_eq!(spool.events(), 500);
    let broker = broker(4);
    let ended = spool.produce(&broker.bootstrap(), &[], &lines(500..1_000));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("from before"), ended.reported("delivered")), (500, 1_000));
    assert!(ended.stdout.ends_with("Everything is in Kafka.\n"), "{ended:?}");
    assert_eq!(spool.events(), 0);
    all_there_in_order(&broker.bootstrap(), 1_000);
}

#[test]
fn replay_sends_it_without_a_run() {
    let spool = Spool::filled(0..500);
    let ended = spool.command("replay", &["-b", NOWHERE, "--patience", "0.2"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended.stdout.ends_with("Kafka could not be reached; everything is still in the spool.\n"),
        "{ended:?}"
    );
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let replayed = spool.json("replay", &["-b", &bootstrap]);
    assert_eq!(
        (&replayed["stored"], &replayed["delivered"], &replayed["left"]),
        (&json!(500), &json!(500), &json!([]))
    );
    let ended = spool.command("replay", &["-b", &bootstrap]);
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "nothing to send\n"));
    all_there_in_order(&bootstrap, 500);
}

#[test]
fn replay_stopped_in_the_middle_leaves_the_rest() {
    let spool = Spool::filled(0..500);
    let running = Running::start(&["spool", "replay", &spool.path(), "-b", NOWHERE]);
    let (lock, pid) = (format!("{}/LOCK", spool.path()), running.id().to_string());
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&lock).unwrap().contains(&pid) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.stdout.ends_with("the rest is still in the spool.\n"), "{ended:?}");
    assert_eq!(spool.events(), 500);
}

#[test]
fn kill_9_loses_nothing_of_a_journal() {
    for level in ["os", "disk"] {
        let spool = Spool::new();
        let mut running = spool.start(NOWHERE, &["--durability", "journal", "--spool-level", level]);
        running.write(&lines(0..300));
        spool.wait_for_events(300);
        running.write(&lines(300..600));
        spool.wait_for_events(600);
        running.signal("KILL");
        assert_eq!(running.end().code, None);
        let verified = spool.json("verify", &[]);
        assert_eq!((&verified["clean"], &verified["events"]), (&json!(true), &json!(600)));
        let broker = broker(4);
        let ended = spool.command("replay", &["-b", &broker.bootstrap()]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        all_there_in_order(&broker.bootstrap(), 600);
    }
}

#[test]
fn with_a_journal_and_kafka_every_line_is_delivered_once() {
    let (broker, spool) = (broker(4), Spool::new());
    let bad = format!("x,{}\n", "y".repeat(5_000));
    let input = file([lines(0..2_000), bad, lines(2_000..5_000)].concat());
    let options = ["--durability", "journal", "--max-line", "1000", input.path().to_str().unwrap()];
    let ended = spool.produce(&broker.bootstrap(), &options, "");
    assert_eq!(ended.code, Some(3), "one line is too long: {ended:?}");
    assert!(ended.stderr.contains(", line 2001: "), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("bad lines")), (5_000, 1));
    assert!(!ended.stderr.contains("everything that was kept"), "nothing was: {ended:?}");
    assert_eq!(spool.events(), 0);
    all_there_in_order(&broker.bootstrap(), 5_000);
}

#[test]
fn a_spool_in_use_can_be_looked_at_and_nothing_else() {
    let spool = Spool::new();
    let mut running = spool.start(NOWHERE, &["--durability", "journal"]);
    running.write(&lines(0..20));
    spool.wait_for_events(20);
    let files = listing(&spool.path());
    let ended = spool.command("ls", &[]);
    assert!(ended.code == Some(0) && ended.stdout.contains("flights/unassigned"), "{ended:?}");
    let ended = spool.command("peek", &["-n", "3"]);
    assert!(ended.code == Some(0) && ended.stdout.contains("  key2  2\n"), "{ended:?}");
    assert!(!ended.stdout.contains("  key3  3\n"), "{ended:?}");
    assert_eq!(listing(&spool.path()), files, "nothing was touched");
    let holder = format!("in use by process {}", running.id());
    for command in
        [&["export"][..], &["requeue"], &["verify"], &["replay", "-b", NOWHERE], &["purge", "--all", "--yes"]]
    {
        let ended = spool.command(command[0], &command[1..]);
        assert_eq!(ended.code, Some(2), "{command:?}: {ended:?}");
        assert!(ended.stderr.contains(&holder), "{command:?}: {ended:?}");
    }
    let ended = spool.produce(NOWHERE, &[], "");
    assert!(ended.code == Some(2) && ended.stderr.contains(&holder), "{ended:?}");
    // Its own end is as ever.
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("stored to be sent later.\n"), "{ended:?}");
    assert_eq!(spool.events(), 20);
}

fn listing(path: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_outage_in_the_middle_goes_into_the_spool_and_out_of_it() {
    let (broker, spool) = (broker(4), Spool::new());
    let bootstrap = broker.bootstrap();
    let mut running = spool.start(&bootstrap, &["-X", "message.timeout.ms=4000"]);
    running.write(&lines(0..1_000));
    common::read_when(&bootstrap, 1_000);
    broker.down().unwrap();
    running.write(&lines(1_000..2_000));
    spool.wait_for_events(1_000);
    broker.up().unwrap();
    running.close_stdin();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("lost")), (2_000, 0));
    assert!(!ended.stderr.contains("kept in memory"), "{ended:?}");
    all_there_in_order(&bootstrap, 2_000);
}

#[test]
fn export_gives_every_event_once_and_changes_nothing() {
    let spool = Spool::new();
    let input = [b"key0,0\nkey1,\xff\n,2\n".as_slice(), b"3\n"].concat();
    let input = file(input);
    let options = ["--patience", "0", input.path().to_str().unwrap()];
    assert_eq!(spool.produce(NOWHERE, &options, "").code, Some(0));
    for _ in 0..2 {
        let ended = spool.command("export", &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let events: Vec<Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 4);
        assert_eq!((&events[0]["topic"], &events[0]["partition"]), (&json!(TOPIC), &Value::Null));
        assert_eq!(
            (&events[0]["key"], &events[0]["value"], &events[0]["headers"]),
            (&json!("key0"), &json!("0"), &json!([]))
        );
        assert_eq!((&events[1]["key"], &events[1]["value_base64"]), (&json!("key1"), &json!("/w==")));
        assert_eq!((&events[2]["key"], &events[3]["key"]), (&json!(""), &Value::Null));
    }
    assert_eq!(spool.command("export", &["--topic", "other"]).stdout, "");
    assert_eq!(spool.command("export", &["--lane", "flights/unassigned"]).stdout.lines().count(), 4);
    assert_eq!(spool.events(), 4);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let spool = Spool::filled(0..50_000);
    let running = Running::start_and_read(&["spool", "export", &spool.path()], 10);
    let ended = running.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn dead_letters_are_kept_shown_and_requeued() {
    let (broker, spool) = (broker(4), Spool::new());
    let bootstrap = broker.bootstrap();
    // The client refuses the long one for good.
    let input = format!("{}long,{}\n{}", lines(0..5), "x".repeat(3_000), lines(5..10));
    let ended = spool.produce(&bootstrap, &["-X", "message.max.bytes=1000", "--batch-size", "1"], &input);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("dead-lettered")), (10, 1));
    assert!(ended.stdout.contains("1 refused by Kafka or too old, and kept in the spool"), "{ended:?}");

    assert_eq!(spool.json("ls", &[])["dead_letters"]["events"], json!(1));
    let ended = spool.command("ls", &[]);
    assert!(ended.stdout.contains("dead letters"), "{ended:?}");
    let ended = spool.command("peek", &["--dead"]);
    assert!(ended.stdout.contains("too_large: ") && ended.stdout.contains("  long  xxx"), "{ended:?}");
    let ended = spool.command("export", &["--dead"]);
    let dead: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&dead["kind"], &dead["key"], &dead["topic"]),
        (&json!("too_large"), &json!("long"), &json!(TOPIC))
    );

    assert_eq!(spool.json("requeue", &["--kind", "denied"]), json!({"requeued": 0, "dead_letters": 1}));
    assert_eq!(spool.json("requeue", &["--topic", "other"]), json!({"requeued": 0, "dead_letters": 1}));
    let ended = spool.command("requeue", &["--topic", TOPIC]);
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "1 dead letter requeued, 0 dead letters left\n"));
    assert_eq!(spool.events(), 1);
    let ended = spool.command("replay", &["-b", &bootstrap]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let records = read(&bootstrap, TOPIC);
    assert_eq!(records.iter().filter(|record| text(&record.key).as_deref() == Some("long")).count(), 1);
    assert_eq!(records.len(), 11);
}

#[test]
fn what_is_too_old_is_kept_among_the_dead_letters_and_a_replay_takes_its_time() {
    let (broker, spool) = (broker(4), Spool::filled(0..300));
    let bootstrap = broker.bootstrap();
    let ended = spool.command("replay", &["-b", &bootstrap, "--max-age", "1"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("0 of 300 events delivered"), "{ended:?}");
    assert!(
        ended.stdout.contains("300 dead letters in the spool; `kafka-batcher spool peek --dead"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("dead-lettered (expired)") && ended.stderr.contains("max_age is 1ms"),
        "{ended:?}"
    );
    let ended = spool.command("replay", &["-b", &bootstrap]);
    assert!(
        ended.code == Some(0) && ended.stdout.starts_with("nothing to send\n300 dead letters"),
        "{ended:?}"
    );

    let ended = spool.command("requeue", &["--kind", "expired"]);
    assert_eq!(ended.stdout, "300 dead letters requeued, 0 dead letters left\n");
    let config = file("replay_rate = 200\nmax_batch_bytesize = 1000\n");
    let config = config.path().to_str().unwrap();
    let start = Instant::now();
    let replayed = spool.json("replay", &["-b", &bootstrap, "--config", config]);
    assert_eq!((&replayed["delivered"], &replayed["left"]), (&json!(300), &json!([])));
    assert!(start.elapsed() > Duration::from_secs(1), "{:?} for 300 events", start.elapsed());
    all_there_in_order(&bootstrap, 300);
}

#[test]
fn purge_deletes_what_it_is_told_and_only_if_told_so() {
    let spool = Spool::filled(0..10);
    let ended = spool.command("purge", &["--yes"]);
    assert!(
        ended.code == Some(2) && ended.stderr.contains("--all"),
        "what is to go has to be said: {ended:?}"
    );
    let ended = spool.command("purge", &["--topic", TOPIC]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("10 events and 0 dead letters would be deleted"), "{ended:?}");
    for (what, deleted, left) in [
        (&["--topic", "other"][..], 0, 10),
        (&["--lane", "flights/0"], 0, 10),
        (&["--dead"], 0, 10),
        (&["--lane", "flights/unassigned"], 10, 0),
    ] {
        let purged = spool.json("purge", &[what, &["--yes"]].concat());
        assert_eq!(purged, json!({"events": deleted, "dead_letters": 0}), "{what:?}");
        assert_eq!(spool.events(), left, "{what:?}");
    }
    assert_eq!(spool.command("ls", &[]).stdout, "empty\n");
}

#[test]
fn damage_is_found_counted_and_told() {
    let spool = Spool::filled(0..2_000);
    assert_eq!(spool.command("verify", &[]).code, Some(0));
    let db = std::fs::read_dir(spool.path()).unwrap().map(|entry| entry.unwrap().path());
    let db = db
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("gen-"))
        .max()
        .unwrap()
        .join("db");
    let mut bytes = std::fs::read(&db).unwrap();
    let needle = b"1234";
    let at: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, part)| part == needle).map(|(at, _)| at).collect();
    assert!(!at.is_empty());
    for at in at {
        bytes[at] ^= 1;
    }
    std::fs::write(&db, bytes).unwrap();
    let ended = spool.command("verify", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stdout.contains("lost: ") && ended.stdout.contains("damaged files are kept in"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("OK"), "{ended:?}");
    // What is left is sound, and so is what is said of it.
    let verified = spool.json("verify", &[]);
    assert!(verified["events"].as_u64().unwrap() < 2_000);
}

#[test]
fn the_configuration_file_may_say_where_the_spool_is() {
    let spool = Spool::new();
    let path = spool.path();
    let config = file(format!("durability = 'journal'\n[spool]\npath = '{path}'\nlevel = 'os'\n"));
    let config = config.path().to_str().unwrap();
    let args = ["produce", "-t", TOPIC, "-b", NOWHERE, "--config", config, "--patience", "0"];
    let ended = run(&args, "one\ntwo\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(spool.events(), 2);
    let wrong = file("[spool]\npath = '/a'\nqouta = 1\n");
    let ended = run(&["produce", "-t", TOPIC, "-b", NOWHERE, "--config", wrong.path().to_str().unwrap()], "");
    assert!(ended.code == Some(2) && ended.stderr.contains("did you mean `quota`?"), "{ended:?}");
}

#[test]
fn what_can_t_be_is_refused_with_the_reason() {
    let refused = |args: &[&str]| {
        let ended = run(args, "");
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        ended.stderr
    };
    let journal = ["produce", "-t", TOPIC, "-b", NOWHERE, "--durability", "journal"];
    assert!(refused(&journal).contains("--durability journal needs a spool: give --spool DIR"));
    assert!(
        refused(&["produce", "-t", TOPIC, "-b", NOWHERE, "--spool-quota", "9000000"])
            .contains("need --spool DIR")
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letters.txt"), "dear").unwrap();
    let folder = folder.path().to_str().unwrap();
    for command in ["ls", "peek", "export", "verify", "requeue"] {
        assert!(refused(&["spool", command, folder]).contains("is no spool"), "{command}");
    }
    assert!(refused(&["spool", "replay", folder, "-b", NOWHERE]).contains("is no spool"));
    assert!(refused(&["spool", "purge", folder, "--all", "--yes"]).contains("is no spool"));
    assert!(refused(&["produce", "-t", TOPIC, "-b", NOWHERE, "--spool", folder]).contains("is no spool"));
    assert!(refused(&["spool", "ls", "/no/such/folder"]).contains("is no spool"));
    assert!(refused(&["spool", "peek", folder, "--lane", "x"]).contains("TOPIC/PARTITION"));
}
