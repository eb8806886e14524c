//! scratch
use std::time::{Duration, Instant};
use kafka_batcher::{KafkaBatcher, KafkaConfig, TopicSettings, AddErrorKind};

fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u32>().ok()).sum();
    Duration::from_millis(10) * ticks
}

fn main() {
    let bootstrap = std::env::args().nth(1).unwrap();
    let n: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(2_000_000);
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        let mut topic = TopicSettings::new("bench");
        if std::env::args().nth(3).as_deref() == Some("by") { topic = topic.collect_by_partition(true); }
        let config = KafkaConfig::new(bootstrap).with_topic(topic);
        let batcher = KafkaBatcher::builder().config(config).build().unwrap();
        let c = batcher.collector("bench").unwrap();
        c.add(vec![b'x'; 100]).await.unwrap();
        c.flush().await;
        let value = [b'x'; 100];
        let (start, cpu) = (Instant::now(), cpu_time());
        let task = tokio::spawn(async move {
            for _ in 0..n {
                match c.try_add(&value) {
                    Ok(()) => {}
                    Err(e) if matches!(e.kind, AddErrorKind::Full) => c.add(&value).await.unwrap(),
                    Err(e) => panic!("{e}"),
                }
            }
            c
        });
        let c = task.await.unwrap();
        let added = start.elapsed();
        c.flush().await;
        let wall = start.elapsed();
        let cpu = cpu_time() - cpu;
        println!("{:.3} M/s  {:.3} us cpu/event  added in {:?} wall {:?}", n as f64 / wall.as_secs_f64() / 1e6, cpu.as_secs_f64() * 1e6 / n as f64, added, wall);
        let r = batcher.shutdown(Duration::from_secs(10)).await;
        println!("{r:?}");
    });
}
