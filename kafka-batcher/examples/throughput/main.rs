//! Sends events one at a time with one client and prints what it took, as a line of JSON.
//!
//! ```sh
//! cargo run --release --example throughput -- CLIENT --bootstrap HOST:PORT --topic T [--partitions 4]
//!     [--events 2000000] [--size 100] [--linger MS] [--by-partition]
//! ```
//!
//! CLIENT is `kafka-batcher`, `future-producer` (rust-rdkafka's `FutureProducer`, what people use
//! first) or `produceva` (a bare loop over librdkafka's `rd_kafka_produceva`, the least there can be).
//! `cargo xtask bench throughput` runs them in turn and compares.

mod bare;
mod future_producer;
mod ours;

use std::error::Error;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rdkafka::ClientConfig;

/// What to send.
#[derive(Clone, Debug)]
struct Load {
    bootstrap: String,
    topic: String,
    partitions: u32,
    events: u64,
    size: usize,
    linger: Option<String>,
    by_partition: bool,
}

/// So many events in a row go to the same partition, with the clients that are told one.
const RUN: u64 = 8192;

impl Load {
    /// Settings of librdkafka as the batcher makes them.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("batch.num.messages", "1000000")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647");
        if let Some(linger) = &self.linger {
            config.set("linger.ms", linger);
        }
        config
    }

    fn partition(&self, event: u64) -> i32 {
        ((event / RUN) % u64::from(self.partitions)) as i32
    }
}

/// From the first event added to the last one acknowledged.
struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    fn stop(self) -> (Duration, Duration) {
        (self.start.elapsed(), cpu_time().saturating_sub(self.cpu))
    }
}

/// User and system time of this process so far.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |t: nix::sys::time::TimeVal| {
        Duration::new(t.tv_sec().unsigned_abs(), 0) + Duration::from_micros(t.tv_usec().unsigned_abs())
    };
    time(usage.user_time()) + time(usage.system_time())
}

type Client = fn(&Load) -> Result<(Duration, Duration), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("which client? kafka-batcher, future-producer or produceva")?;
    let client: Client = match name.as_str() {
        "kafka-batcher" => ours::run,
        "future-producer" => future_producer::run,
        "produceva" => bare::run,
        other => return Err(format!("no client `{other}`").into()),
    };
    let mut load = Load {
        bootstrap: String::new(),
        topic: "bench".to_owned(),
        partitions: 4,
        events: 2_000_000,
        size: 100,
        linger: None,
        by_partition: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bootstrap" => load.bootstrap = value()?,
            "--topic" => load.topic = value()?,
            "--partitions" => load.partitions = value()?.parse()?,
            "--events" => load.events = value()?.parse()?,
            "--size" => load.size = value()?.parse()?,
            "--linger" => load.linger = Some(value()?),
            "--by-partition" => load.by_partition = true,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let (wall, cpu) = client(&load)?;
    println!(
        r#"{{"client":"{name}","events":{},"wall_s":{:.6},"cpu_s":{:.6}}}"#,
        load.events,
        wall.as_secs_f64(),
        cpu.as_secs_f64()
    );
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
