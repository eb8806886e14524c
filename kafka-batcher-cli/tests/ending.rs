//! Signals and outages: whatever is said to be delivered is there, and the exit code tells of the rest.

#![cfg(unix)]

mod common;

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, TOPIC, broker, file, read, read_when, text, values};

/// Lines `KEY,NUMBER` with the numbers of `range` and ten keys.
fn lines(range: std::ops::Range<u32>) -> String {
    range.fold(String::new(), |mut text, number| {
        writeln!(text, "key{},{number}", number % 10).unwrap();
        text
    })
}

fn produce<'a>(bootstrap: &'a str, more: &[&'a str]) -> Running {
    Running::start(&[&["produce", "-t", TOPIC, "-b", bootstrap, "--key-separator", ","], more].concat())
}

#[test]
fn sigterm_delivers_what_was_read() {
    for signal in ["TERM", "INT", "HUP"] {
        let broker = broker(4);
        let bootstrap = broker.bootstrap();
        // Nothing is sent on its own before a minute has passed.
        let mut running = produce(&bootstrap, &["--batch-size", "10000000", "--max-wait-time", "60000"]);
        // More than fits into the pipe: most of it has been read when this returns.
        let text = lines(0..40_000);
        running.write(&text);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let name = if signal == "INT" { "Ctrl-C" } else { "SIGTERM" };
        assert!(ended.stdout.contains(&format!("stopped by {name} after line")), "{ended:?}");
        assert!(ended.stdout.ends_with("Every event that was read is in Kafka.\n"), "{ended:?}");
        let delivered = ended.reported("delivered");
        assert!(delivered > 20_000, "{ended:?}");
        assert_eq!(read(&bootstrap, TOPIC).len() as u64, delivered);
    }
}

#[test]
fn a_file_stopped_before_its_end_is_not_success() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    // So large that it can't be read before the signal: reading waits for the slow broker.
    broker.set_round_trip_time(Duration::from_millis(200)).unwrap();
    let input = file(lines(0..500_000));
    let running = produce(
        &bootstrap,
        &["--memory-bytes", "100000", "--max-batch-bytesize", "20000", input.path().to_str().unwrap()],
    );
    read_when(&bootstrap, 1);
    broker.set_round_trip_time(Duration::ZERO).unwrap();
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.stdout.contains("what follows was not sent"), "{ended:?}");
    let delivered = ended.reported("delivered");
    let numbers = read(&bootstrap, TOPIC);
    assert_eq!(numbers.len() as u64, delivered);
    // Exactly the first lines of the file, none left out.
    let mut numbers: Vec<u64> = values(&numbers).iter().map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..delivered));
}

#[test]
fn an_outage_in_the_middle_loses_nothing() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let mut running = produce(&bootstrap, &[]);
    running.write(&lines(0..1_000));
    read_when(&bootstrap, 1_000);
    broker.down().unwrap();
    running.write(&lines(1_000..30_000));
    std::thread::sleep(Duration::from_millis(500));
    running.write(&lines(30_000..50_000));
    running.close_stdin();
    assert!(!running.has_ended());
    broker.up().unwrap();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("lost")), (50_000, 0));

    all_there_in_order(&bootstrap, 50_000);
}

#[test]
fn an_outage_longer_than_memory_lasts_makes_reading_wait_and_loses_nothing() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    // So slow that the file is not through when the broker goes away.
    broker.set_round_trip_time(Duration::from_millis(50)).unwrap();
    let input = file(lines(0..200_000));
    let config = file("produce_timeout = 500\nrecheck_interval = 500\n");
    let [input, config] = [&input, &config].map(|file| file.path().to_str().unwrap());
    let small = ["--memory-bytes", "200000", "--max-batch-bytesize", "20000", "--config", config, input];
    let running = produce(&bootstrap, &small);
    read_when(&bootstrap, 1);
    broker.down().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    broker.set_round_trip_time(Duration::ZERO).unwrap();
    broker.up().unwrap();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("lost")), (200_000, 0));
    assert!(ended.stderr.contains("produce failed"), "there was an outage: {ended:?}");
    all_there_in_order(&bootstrap, 200_000);
}

/// The numbers 0 to `count - 1` are all there, those of each key in order but for copies.
fn all_there_in_order(bootstrap: &str, count: usize) {
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut seen = vec![false; count];
    for record in read(bootstrap, TOPIC) {
        let key = text(&record.key).unwrap();
        let number: u64 = text(&record.value).unwrap().parse().unwrap();
        if !std::mem::replace(&mut seen[number as usize], true) {
            let before = next.insert(key, number);
            assert!(before.is_none_or(|before| before < number), "{number} comes after {before:?}");
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn what_can_t_be_delivered_in_time_is_counted_and_fails() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let mut running = produce(&bootstrap, &["--deadline", "2"]);
    running.write(&lines(0..100));
    read_when(&bootstrap, 100);
    broker.down().unwrap();
    running.write(&lines(100..200_000));
    let asked = Instant::now();
    running.signal("TERM");
    let ended = running.end();
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.reported("delivered"), 100);
    assert!(ended.reported("in memory") > 100_000, "{ended:?}");
    assert!(ended.stdout.ends_with("NOT everything is in Kafka.\n"), "{ended:?}");
}

#[test]
fn at_the_end_of_the_input_it_gives_up_only_when_nothing_moves_any_more() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let mut running = produce(&bootstrap, &["--patience", "2"]);
    running.write(&lines(0..100));
    read_when(&bootstrap, 100);
    broker.down().unwrap();
    running.write(&lines(100..1_000));
    running.close_stdin();
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!((ended.reported("delivered"), ended.reported("in memory")), (100, 900));
}

#[test]
fn lines_read_and_not_accepted_in_time_are_counted() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let small = ["--deadline", "1", "--memory-bytes", "20000", "--max-batch-bytesize", "5000"];
    let mut running = produce(&bootstrap, &small);
    running.write(&lines(0..100));
    read_when(&bootstrap, 100);
    broker.down().unwrap();
    // Most of it has been read when this returns, far more than memory has room for.
    running.write(&lines(100..20_000));
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.reported("delivered"), 100);
    assert!(ended.reported("in memory") < 10_000, "{ended:?}");
    assert!(ended.stdout.contains("read from the input, and not sent when the time was up"), "{ended:?}");
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let mut running = produce(&bootstrap, &["--deadline", "600"]);
    running.write(&lines(0..100));
    read_when(&bootstrap, 100);
    broker.down().unwrap();
    running.write(&lines(100..1_000));
    let asked = Instant::now();
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!running.has_ended(), "it is still trying to deliver");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("ended at once"), "{ended:?}");
    assert!(asked.elapsed() < PATIENCE / 4);
}

#[test]
fn a_signal_while_kafka_is_waited_for_ends_it() {
    let (_bound, brokers) = common::nobody();
    let running = produce(&brokers, &["--connect-timeout", "600"]);
    running.says("waiting for Kafka"); // then it listens for signals
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.stderr.contains("nothing was sent"), "{ended:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_cannot_be_written_harms_nothing() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let input = file(lines(0..1000));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-batcher"))
        .args(["produce", "--embedded", "-t", TOPIC, input.path().to_str().unwrap()])
        .env("RUST_LOG", "trace")
        .stderr(full)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with("Everything is in Kafka.\n"), "{said}");
}
