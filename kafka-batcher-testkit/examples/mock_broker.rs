//! An embedded broker in a process of its own, for benchmarks and experiments.
//!
//! `mock_broker [--nodes N] [--partitions N] [--rtt MILLISECONDS] TOPIC...` prints its address on a line, then runs until
//! its standard input ends.

use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use kafka_batcher_testkit::embedded::EmbeddedBroker;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut nodes, mut partitions, mut rtt, mut topics) = (1, 4, 0, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .ok_or_else(|| format!("{arg} needs a number"))?
                .parse::<u32>()
                .map_err(|e| format!("{arg}: {e}"))
        };
        match arg.as_str() {
            "--nodes" => nodes = number()?,
            "--partitions" => partitions = number()?,
            "--rtt" => rtt = number()?,
            topic if !topic.starts_with('-') => topics.push(topic.to_owned()),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let broker = EmbeddedBroker::start(nodes)?;
    if rtt > 0 {
        broker.set_round_trip_time(Duration::from_millis(rtt.into()))?;
    }
    for topic in &topics {
        broker.create_topic(topic, partitions)?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", broker.bootstrap())?;
    out.flush()?;
    std::io::copy(&mut std::io::stdin().take(u64::MAX), &mut std::io::sink())?;
    Ok(())
}
