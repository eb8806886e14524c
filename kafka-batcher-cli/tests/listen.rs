//! `--listen`: what the program tells over HTTP while it runs.

#![cfg(all(unix, feature = "metrics"))]

mod common;

use std::net::{TcpListener, TcpStream};

use common::{Running, TOPIC, broker, file, get, run, until, value};

#[test]
fn metrics_and_health_are_told_as_long_as_it_runs() {
    let broker = broker(4);
    let bootstrap = broker.bootstrap();
    let config =
        file("kafka_topic_aliases = { flights = 'planes' }\n[kafka_metric_opts]\nproducer_buckets = [0.5]\n");
    let config = config.path().to_str().unwrap();
    let args = ["produce", "-t", TOPIC, "-b", &bootstrap, "--listen", "127.0.0.1:0", "--config", config];
    let mut running = Running::start(&args);
    let address = running.address();
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
    let address = running.address();
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

#[cfg(feature = "sled")]
#[test]
fn a_replay_can_be_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let spool = spool.to_str().unwrap();
    let ended = run(
        &["produce", "-t", TOPIC, "-b", "127.0.0.1:1", "--spool", spool, "--patience", "0"],
        "one\ntwo\n",
    );
    assert_eq!((ended.code, ended.reported("stored")), (Some(0), 2), "{ended:?}");
    let broker = broker(4);
    broker.down().unwrap();
    let bootstrap = broker.bootstrap();
    let running = Running::start(&["spool", "replay", spool, "-b", &bootstrap, "--listen", "127.0.0.1:0"]);
    let address = running.address();
    let labels = r#"{topic="flights",topic_alias="flights"}"#;
    let stored = format!("kafka_batcher_events_stored{labels}");
    until("what is stored is found", || value(&address, &stored) == Some(2.0));
    assert_eq!(get(&address, "/healthz").0, 200);
    let (_, health) = get(&address, "/readyz?format=json");
    assert!(health.contains(r#""durable":true,"events":2"#), "{health}");
    broker.up().unwrap();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("2 of 2 events delivered"), "{ended:?}");
}
