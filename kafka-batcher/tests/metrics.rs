//! The endpoint, as Prometheus sees it: names, labels, buckets, and figures that add up in every scrape.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use kafka_batcher::{
    Durability, ErrorKind, KafkaBatcher, KafkaConfig, MemoryProducer, OnUnavailable, Telemetry, TopicSettings,
};
use kafka_batcher_metrics::Options;
use kafka_batcher_metrics::prometheus::{Exporter, Server};
use kafka_batcher_testkit::scripted::{Call, ScriptedProducer, ScriptedStorage, Step, StorageStep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a request is answered with: the status line, and the body.
async fn get(server: &Server, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// The value of each series.
async fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let (status, body) = get(server, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let series = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    series
        .map(|line| {
            line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap()
        })
        .collect()
}

fn config(topic: TopicSettings) -> KafkaConfig {
    KafkaConfig::new("scripted:1")
        .retry_backoff(Duration::from_millis(5))
        .recheck_interval(Duration::from_millis(40))
        .defaults(TopicSettings::default().max_wait_time(Duration::from_millis(5)))
        .with_topic(topic)
}

async fn served(
    config: KafkaConfig,
    options: Options,
    kafka: impl kafka_batcher::Producer + 'static,
) -> (KafkaBatcher, Server) {
    let exporter = Exporter::new(&options).unwrap();
    let builder = KafkaBatcher::builder().config(config).producer(kafka);
    let batcher = builder.telemetry(exporter.telemetry()).build().unwrap();
    let server = exporter.serve("127.0.0.1:0".parse().unwrap(), batcher.observer()).await.unwrap();
    (batcher, server)
}

#[tokio::test]
async fn the_elixir_library_s_metrics_have_its_names_labels_and_buckets() {
    let config = config(TopicSettings::new("flights")).topic_alias("flights", "planes");
    let options = Options::of(&config).prefix("prom_ex_kafka");
    let exporter = Exporter::new(&options).unwrap();
    let kafka = MemoryProducer::new(NonZeroU32::MIN);
    let batcher = KafkaBatcher::builder()
        .config(config)
        .producer(kafka)
        .telemetry(exporter.telemetry())
        .build()
        .unwrap();
    let server = exporter.serve("127.0.0.1:0".parse().unwrap(), batcher.observer()).await.unwrap();
    let collector = batcher.collector("flights").unwrap();
    collector.add("one").await.unwrap();
    collector.flush().await;
    exporter.telemetry().consumer("flights", 0).consumed(20, 4000, Duration::from_millis(60));
    let labels = r#"topic="flights",topic_alias="planes",partition="0""#;
    let start = std::time::Instant::now();
    let series = loop {
        let series = scrape(&server).await;
        let there =
            |name: &str| series.contains_key(&format!("prom_ex_kafka_producer_{name}_count{{{labels}}}"));
        if ["duration_seconds", "batch_messages_count", "batch_total_size_byte"].into_iter().all(there) {
            break series;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{series:#?}");
    };
    for (who, milliseconds) in [
        ("producer", &[1, 2, 3, 4, 5, 10, 15, 20, 50, 100][..]),
        ("consumer", &[10, 20, 50, 100, 150, 200, 500, 1000, 2000]),
    ] {
        let bounds = |name: &str| -> Vec<String> {
            let begin = format!("prom_ex_kafka_{who}_{name}_bucket{{{labels},le=\"");
            let bound =
                |key: &String| key.strip_prefix(&begin).map(|rest| rest.trim_end_matches("\"}").to_owned());
            let mut bounds: Vec<String> = series.keys().filter_map(bound).filter(|b| b != "+Inf").collect();
            bounds.sort_by(|a, b| a.parse::<f64>().unwrap().total_cmp(&b.parse().unwrap()));
            bounds
        };
        let seconds: Vec<String> =
            milliseconds.iter().map(|ms| (f64::from(*ms) / 1000.0).to_string()).collect();
        assert_eq!(bounds("duration_seconds"), seconds, "{who}");
        let messages = ["1", "5", "10", "15", "20", "30", "40", "50", "100"];
        assert_eq!(bounds("batch_messages_count"), messages, "{who}");
        let bytes = ["1000", "2000", "5000", "10000", "20000", "50000", "100000"];
        assert_eq!(bounds("batch_total_size_byte"), bytes, "{who}");
        assert_eq!(series[&format!("prom_ex_kafka_{who}_duration_seconds_count{{{labels}}}")], 1.0);
    }
    assert_eq!(series[&format!("prom_ex_kafka_consumer_batch_messages_count_sum{{{labels}}}")], 20.0);
}

/// Defect 18: only successes were counted, and the alias was read from another place than documented.
#[tokio::test]
async fn defect_18_failures_are_counted_and_the_alias_is_the_configured_one() {
    let kafka = ScriptedProducer::new("t", 1);
    kafka.script([
        Step::Refuse(ErrorKind::Transient),
        Step::Refuse(ErrorKind::Denied),
        Step::LoseAnswer,
        Step::Deliver,
        Step::Refuse(ErrorKind::Permanent),
    ]);
    let config = config(TopicSettings::new("t").max_batch_bytesize(300)).topic_alias("t", "alias");
    let options = Options::of(&config);
    let (batcher, server) = served(config, options, kafka).await;
    let collector = batcher.collector("t").unwrap();
    collector.add("one").await.unwrap();
    assert!(collector.add("x".repeat(400)).await.is_err());
    let labels = r#"topic="t",topic_alias="alias""#;
    let value = async |name: &str, more: &str| -> f64 {
        let key = format!("kafka_batcher_{name}{{{labels}{more}}}");
        scrape(&server).await.get(&key).copied().unwrap_or_default()
    };
    let start = std::time::Instant::now();
    while value("events_delivered_total", "").await < 1.0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:#?}", scrape(&server).await);
    }
    collector.add("dead").await.unwrap();
    collector.flush().await;
    for (kind, failures) in [("transient", 2.0), ("denied", 1.0), ("permanent", 1.0)] {
        assert_eq!(value("produce_failures_total", &format!(",kind=\"{kind}\"")).await, failures, "{kind}");
    }
    assert_eq!(value("dead_letters_total", ",kind=\"permanent\"").await, 1.0);
    assert_eq!(value("rejected_events_total", ",reason=\"too_large\"").await, 1.0);
    assert_eq!(value("events_maybe_duplicated_total", "").await, 1.0);
    assert_eq!(value("events_dead_lettered_total", "").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_figures_add_up_in_every_scrape() {
    let kafka = ScriptedProducer::new("t", 3);
    let mut script = Vec::new();
    for _ in 0..40 {
        script.extend([Step::Deliver, Step::Refuse(ErrorKind::Transient), Step::LoseAnswer]);
        script.extend([Step::Delay(Duration::from_millis(3)), Step::Refuse(ErrorKind::Permanent)]);
    }
    kafka.script(script);
    let config = config(TopicSettings::new("t").batch_size(5));
    let options = Options::of(&config);
    let (batcher, server) = served(config, options, kafka).await;
    let scrapes = Arc::new(AtomicU32::new(0));
    let adding = tokio::spawn({
        let (collector, scrapes) = (batcher.collector("t").unwrap(), Arc::clone(&scrapes));
        async move {
            for number in 0..2000 {
                collector.add(number.to_string()).await.unwrap();
                if number % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // Six scrapes at least are in between.
                while scrapes.load(Relaxed) < number / 300 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            collector.flush().await;
        }
    });
    let start = std::time::Instant::now();
    loop {
        let series = scrape(&server).await;
        let value = |name: &str| {
            series.get(&format!("kafka_batcher_{name}{{topic=\"t\",topic_alias=\"t\"}}")).copied().unwrap()
        };
        let came = value("events_accepted_total") + value("events_found_total");
        let went = value("events_delivered_total")
            + value("events_dead_lettered_total")
            + value("events_lost_total");
        let here = value("events_stored") + value("events_in_memory");
        assert_eq!(came, went + here, "{series:#?}");
        scrapes.fetch_add(1, Relaxed);
        if adding.is_finished() && here == 0.0 {
            assert_eq!(went, 2000.0);
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{series:#?}");
    }
    assert!(scrapes.load(Relaxed) > 5, "only {scrapes:?}");
    assert!(batcher.shutdown(Duration::from_secs(5)).await.is_complete());
}

#[tokio::test]
async fn health_is_told_and_other_paths_are_not_there() {
    let kafka = ScriptedProducer::new("t", 1);
    let config = config(TopicSettings::new("t"));
    let (batcher, server) = served(config, Options::default(), kafka).await;
    batcher.collector("t").unwrap().add("a").await.unwrap();
    batcher.flush().await;
    assert_eq!(get(&server, "/healthz").await, ("HTTP/1.1 200 OK".to_owned(), "alive\n".to_owned()));
    let (status, body) = get(&server, "/readyz").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let lines: Vec<_> = body.lines().collect();
    assert_eq!((lines[0], lines[1]), ("ready", "kafka: reached"));
    assert!(lines[2].starts_with("storage: in memory, 0 events, 0 bytes"), "{body}");
    assert_eq!(lines[3..], ["t: ready, 0 lanes locked, 0 replaying, 0 events stored"]);
    assert_eq!(get(&server, "/secrets").await.0, "HTTP/1.1 404 Not Found");
    assert_eq!(scrape(&server).await["kafka_batcher_connected"], 1.0);
    assert!(batcher.shutdown(Duration::from_secs(5)).await.is_complete());
    for path in ["/healthz", "/readyz", "/readyz?format=json"] {
        assert_eq!(get(&server, path).await.0, "HTTP/1.1 503 Service Unavailable", "{path}");
    }
    let last = scrape(&server).await;
    let of_topic = |name: &str| last[&format!(r#"kafka_batcher_{name}{{topic="t",topic_alias="t"}}"#)];
    assert_eq!((of_topic("events_delivered_total"), of_topic("ready")), (1.0, 0.0), "the last figures stay");
    assert_eq!(last["kafka_batcher_connected"], 0.0);
}

/// Ready or not, and the obstacle of the only topic, from the JSON.
async fn readiness(server: &Server) -> (bool, Option<String>) {
    let (status, body) = get(server, "/readyz?format=json").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    let is_ready = health["ready"].as_bool().unwrap();
    assert_eq!(status, if is_ready { "HTTP/1.1 200 OK" } else { "HTTP/1.1 503 Service Unavailable" });
    (is_ready, health["topics"][0]["obstacle"].as_str().map(str::to_owned))
}

async fn until_readiness(server: &Server, is_ready: bool, obstacle: Option<&str>) {
    let start = std::time::Instant::now();
    loop {
        let now = readiness(server).await;
        if now == (is_ready, obstacle.map(str::to_owned)) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{now:?} instead of {obstacle:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_outage_makes_unready_only_who_hands_events_back_and_dead_nobody() {
    for (what, obstacle) in [(OnUnavailable::Store, None), (OnUnavailable::Reject, Some("unavailable"))] {
        let kafka = ScriptedProducer::new("t", 1);
        let config = config(TopicSettings::new("t").on_unavailable(what));
        let (batcher, server) = served(config, Options::default(), kafka.clone()).await;
        let collector = batcher.collector("t").unwrap();
        collector.add("a").await.unwrap();
        collector.flush().await;
        until_readiness(&server, true, None).await;
        kafka.set_up(false);
        collector.add("b").await.unwrap();
        let locked = async || get(&server, "/readyz").await.1.contains("\nt: locked, ");
        let start = std::time::Instant::now();
        while !locked().await {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        assert_eq!(readiness(&server).await, (obstacle.is_none(), obstacle.map(str::to_owned)));
        assert_eq!(get(&server, "/healthz").await.0, "HTTP/1.1 200 OK");
        kafka.set_up(true);
        until_readiness(&server, true, None).await;
    }
}

#[tokio::test]
async fn storage_that_takes_nothing_or_says_nothing_makes_unready_whoever_needs_it() {
    let (kafka, disk) = (ScriptedProducer::new("t", 1), ScriptedStorage::durable());
    let config = config(TopicSettings::new("t").durability(Durability::Journal));
    let exporter = Exporter::new(&Options::default()).unwrap();
    let builder = KafkaBatcher::builder().config(config).producer(kafka).storage(disk.clone());
    let batcher = builder.telemetry(exporter.telemetry()).build().unwrap();
    let server = exporter.serve("127.0.0.1:0".parse().unwrap(), batcher.observer()).await.unwrap();
    let collector = batcher.collector("t").unwrap();
    collector.add("a").await.unwrap();
    until_readiness(&server, true, None).await;
    for (step, obstacle) in [(StorageStep::Fail, "storage_failed"), (StorageStep::Full, "storage_full")] {
        disk.always(Call::Append, step.clone());
        let collector = collector.clone();
        let adding = tokio::spawn(async move { collector.add("b").await.map_err(|error| error.kind) });
        until_readiness(&server, false, Some(obstacle)).await;
        // Being full is no failure of storage.
        let full = f64::from(u8::from(matches!(step, StorageStep::Full)));
        let ready = r#"kafka_batcher_ready{topic="t",topic_alias="t"}"#;
        let figures = scrape(&server).await;
        let figures =
            ["kafka_batcher_storage_up", "kafka_batcher_storage_full", ready].map(|name| figures[name]);
        assert_eq!(figures, [full, full, 0.0], "{obstacle}");
        disk.always(Call::Append, StorageStep::Pass);
        until_readiness(&server, true, None).await;
        let figures = scrape(&server).await;
        let figures =
            ["kafka_batcher_storage_up", "kafka_batcher_storage_full", ready].map(|name| figures[name]);
        assert_eq!(figures, [1.0, 0.0, 1.0], "after {obstacle}");
        adding.await.unwrap().unwrap();
    }
    disk.always(Call::Lanes, StorageStep::Hang);
    assert_eq!(get(&server, "/healthz").await.0, "HTTP/1.1 200 OK");
    assert_eq!(readiness(&server).await, (false, Some("storage_failed".to_owned())));
    assert!(get(&server, "/readyz").await.1.contains("storage: fails or does not answer"));
}

#[tokio::test]
async fn storage_that_hangs_makes_unready_whoever_needs_it_until_it_goes_on() {
    let (kafka, disk) = (ScriptedProducer::new("t", 1), ScriptedStorage::durable());
    let exporter = Exporter::new(&Options::default()).unwrap();
    let builder = KafkaBatcher::builder().config(config(TopicSettings::new("t"))).producer(kafka.clone());
    let batcher = builder.storage(disk.clone()).telemetry(exporter.telemetry()).build().unwrap();
    let server = exporter.serve("127.0.0.1:0".parse().unwrap(), batcher.observer()).await.unwrap();
    let collector = batcher.collector("t").unwrap();
    collector.add("a").await.unwrap();
    collector.flush().await;
    until_readiness(&server, true, None).await;
    disk.always(Call::Append, StorageStep::Hang);
    disk.script(Call::Append, [StorageStep::Delay(Duration::from_secs(1))]);
    kafka.set_up(false);
    collector.add("b").await.unwrap();
    until_readiness(&server, false, Some("storage_failed")).await;
    assert_eq!(scrape(&server).await["kafka_batcher_storage_up"], 0.0);
    until_readiness(&server, true, None).await;
    collector.add("c").await.unwrap();
    until_readiness(&server, false, Some("storage_failed")).await;
}

#[tokio::test]
async fn from_the_moment_of_shutting_down_it_is_alive_and_not_ready() {
    let kafka = ScriptedProducer::new("t", 1);
    let (batcher, server) = served(config(TopicSettings::new("t")), Options::default(), kafka.clone()).await;
    let collector = batcher.collector("t").unwrap();
    until_readiness(&server, true, None).await;
    kafka.set_up(false);
    collector.add("a").await.unwrap();
    let ending = tokio::spawn(batcher.shutdown(Duration::from_secs(60)));
    until_readiness(&server, false, Some("closed")).await;
    assert_eq!(get(&server, "/healthz").await.0, "HTTP/1.1 200 OK");
    kafka.set_up(true);
    assert!(ending.await.unwrap().is_complete());
    // The collector is still held.
    assert_eq!(get(&server, "/healthz").await.0, "HTTP/1.1 503 Service Unavailable");
    until_readiness(&server, false, Some("closed")).await;
    assert_eq!(scrape(&server).await["kafka_batcher_connected"], 0.0);
    drop(collector);
}

#[tokio::test]
async fn a_client_that_talks_nonsense_or_says_nothing_harms_nobody() {
    let (_batcher, server) =
        served(config(TopicSettings::new("t")), Options::default(), ScriptedProducer::new("t", 1)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let mut rude = TcpStream::connect(server.address()).await.unwrap();
    rude.write_all(&[0xff; 5000]).await.unwrap();
    let mut post = TcpStream::connect(server.address()).await.unwrap();
    post.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    post.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(scrape(&server).await.contains_key("kafka_batcher_connected"));
}

#[test]
fn without_partition_labels_lanes_share_their_series() {
    let exporter = Exporter::new(&Options::default().partition_labels(false)).unwrap();
    let telemetry = exporter.telemetry();
    for partition in 0..100 {
        let lane = kafka_batcher::LaneId::partition("t", partition);
        telemetry.delivered(&lane, 1, 100, Duration::from_millis(1), None);
    }
    let text =
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(exporter.render(&Nobody));
    let counts =
        text.lines().filter(|line| line.starts_with("kafka_batcher_producer_duration_seconds_count"));
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [r#"kafka_batcher_producer_duration_seconds_count{topic="t",topic_alias="t"} 100"#]
    );
}

/// With many partitions and their labels off, a topic has no more series than with one; whatever was rejected and failed,
/// the labels' values are words of ours.
#[tokio::test]
async fn series_are_bounded_with_ten_thousand_partitions() {
    let series = async |partitions: u32, labels: bool| {
        let exporter = Exporter::new(&Options::default().partition_labels(labels)).unwrap();
        let telemetry = exporter.telemetry();
        for partition in 0..partitions {
            let lane = kafka_batcher::LaneId::partition("t", partition);
            telemetry.batch_sealed(&lane, 1, 100, kafka_batcher::FlushReason::Count);
            telemetry.delivered(&lane, 1, 100, Duration::from_millis(1), Some(Duration::ZERO));
            telemetry.produce_failed(&lane, 1, ErrorKind::Transient, Duration::from_millis(1));
            telemetry.stored(&lane, 1, 100);
            telemetry.dead_lettered(&lane, ErrorKind::Permanent);
        }
        exporter
            .render(&Nobody)
            .await
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .count()
    };
    let one = series(1, false).await;
    assert_eq!(series(10_000, false).await, one);
    assert!(one < 100, "{one}");
    // As documented: 35 more for each partition.
    assert_eq!(series(101, true).await - series(1, true).await, 100 * 35);
}

/// Prometheus' own tool finds nothing to complain about, but the predecessor's `…_byte`.
#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    use std::process::{Command, Stdio};

    if Command::new("promtool").arg("--version").output().is_err() {
        println!("SKIPPED promtool_finds_nothing_wrong_with_the_metrics: there is no promtool");
        return;
    }
    let kafka = ScriptedProducer::new("t", 2);
    kafka.script([Step::Refuse(ErrorKind::Transient), Step::Deliver, Step::Refuse(ErrorKind::Permanent)]);
    let config = config(TopicSettings::new("t").max_batch_bytesize(300)).topic_alias("t", "alias");
    let options = Options::of(&config);
    let exporter = Exporter::new(&options).unwrap();
    let builder = KafkaBatcher::builder().config(config).producer(kafka);
    let batcher = builder.telemetry(exporter.telemetry()).build().unwrap();
    let collector = batcher.collector("t").unwrap();
    collector.add("one").await.unwrap();
    collector.add("x".repeat(400)).await.unwrap_err();
    collector.flush().await;
    exporter.telemetry().consumer("t", 0).consumed(20, 4000, Duration::from_millis(60));
    let mut snapshot = batcher.snapshot().await;
    let mut broker = kafka_batcher::core::statistics::BrokerStatistics::new(1);
    broker.up = true;
    let mut client = kafka_batcher::core::ClientStatistics::default();
    client.brokers.push(broker);
    snapshot.client = Some(client);
    exporter.telemetry().publish(&snapshot);
    let text = exporter.render(&Nobody).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("_total_size_byte ")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{text}");
}

#[derive(Debug)]
struct Nobody;

impl kafka_batcher::Observe for Nobody {
    fn snapshot<'a: 'b, 'b>(
        &'a self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<kafka_batcher::Snapshot>> + Send + 'b>>
    where
        Self: 'b,
    {
        Box::pin(async { None })
    }
}
