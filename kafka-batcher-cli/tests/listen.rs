//! `--listen`: what the program tells over HTTP while it runs.

#![cfg(all(unix, feature = "metrics"))]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, TOPIC, broker, file, run};

/// Status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a series of the topic; `None` when there is none.
fn value(address: &str, series: &str) -> Option<f64> {
    let (status, body) = get(address, "/metrics");
    assert_eq!(status, 200);
    let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where it says it listens.
fn address(running: &Running) -> String {
    running.says("http://").split_once("http://").unwrap().1.to_owned()
}

#[test]
fn metrics_and_health_are_told_as_long_as_it_runs() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let config =
        file("kafka_topic_aliases = { flights = 'planes' }\n[kafka_metric_opts]\nproducer_buckets = [0.5]\n");
    let config = config.path().to_str().unwrap();
    let args = ["produce", "-t", TOPIC, "-b", &bootstrap, "--listen", "127.0.0.1:0", "--config", config];
    let mut running = Running::start(&args);
    let address = address(&running);
    assert_eq!(get(&address, "/healthz").0, 200);
    until("it is ready", || get(&address, "/readyz").0 == 200);
    running.write("one\ntwo\nthree\n");
    let labels = r#"{topic="flights",topic_alias="planes"}"#;
    let delivered = format!("kafka_batcher_events_delivered_total{labels}");
    until("all are delivered", || value(&address, &delivered) == Some(3.0));
    let (_, body) = get(&address, "/metrics");
    let buckets: Vec<_> = body
        .lines()
        .filter(|line| line.starts_with("kafka_batcher_producer_duration_seconds_bucket"))
        .filter_map(|line| line.split_once("le=\"")?.1.split_once('"'))
        .map(|(bound, _)| bound)
        .collect();
    assert!(!buckets.is_empty() && buckets.iter().all(|bound| ["0.5", "+Inf"].contains(bound)), "{body}");

    // What is still to be delivered at the end is to be seen, too.
    broker.down().unwrap();
    running.write("four\n");
    running.close_stdin();
    until("it is at its end", || {
        value(&address, &format!("kafka_batcher_events_accepted_total{labels}")) == Some(4.0)
    });
    assert_eq!((get(&address, "/healthz").0, value(&address, &delivered)), (200, Some(3.0)));
    broker.up().unwrap();
    let ended = running.end();
    assert_eq!((ended.code, ended.reported("delivered")), (Some(0), 4), "{ended:?}");
    assert_eq!(ended.stderr.matches("http://").count(), 1, "{ended:?}");
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn all_names_have_the_prefix_that_is_asked_for() {
    let more = ["--listen", "localhost:0", "--metrics-prefix", "prom_ex_kafka"];
    let running = Running::start(&[&["produce", "-t", TOPIC, "--embedded"], &more[..]].concat());
    let address = address(&running);
    let (_, body) = get(&address, "/metrics");
    let mut names = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).peekable();
    assert!(names.peek().is_some() && names.all(|name| name.starts_with("prom_ex_kafka_")), "{body}");
}

#[test]
fn an_address_that_can_t_be_had_is_said_before_anything_is_sent() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (more, message) in [
        (&["--listen", &address][..], format!("can't listen at {address}: Address already in use")),
        (&["--listen", "9464"], "can't listen at 9464: ".to_owned()),
        (&["--listen", "127.0.0.1:0", "--metrics-prefix", "a-b"], "the prefix \"a-b\" is no name".to_owned()),
        (&["--metrics-prefix", "a"], "--listen".to_owned()),
    ] {
        let ended = run(&[&["produce", "-t", TOPIC, "--embedded"], more].concat(), "one\n");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(&message), "{message}: {ended:?}");
    }
}
