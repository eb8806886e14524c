//! Connections are cut at random bytes of requests and answers while events flow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_batcher::{KafkaBatcher, PartitionStrategy, TopicSettings};
use kafka_batcher_testkit::proxy::{FaultProxy, Side};
use kafka_batcher_testkit::target::Target;

use crate::dice::Dice;
use crate::{Backend, Failure, unused};

const PARTITIONS: u32 = 3;
const BATCH: usize = 50;
/// A cut that has not happened by then, with events flowing, is a client that has stopped talking.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(backend: Backend, target: &Target, times: usize, seed: u64) -> Result<(), Failure> {
    let mut dice = Dice::new(seed);
    let topic = unused("cuts");
    target.create_topic(&topic, PARTITIONS).await?;
    let proxy = FaultProxy::start(target.bootstrap())?;
    let by_key = PartitionStrategy::function(|_, partitions, key, _| {
        u32::from(key.and_then(|key| key.first()).copied().unwrap_or_default()) % partitions
    });
    let settings = TopicSettings::new(topic.as_str())
        .partition_strategy(by_key)
        .collect_by_partition(true)
        .batch_size(u32::try_from(BATCH)?)
        .max_batch_bytesize(4096)
        .max_wait_time(Duration::from_millis(5));
    let config = target
        .config_at(proxy.bootstrap())
        .with_topic(settings)
        .produce_timeout(Duration::from_secs(3))
        .connect_timeout(Duration::from_secs(2))
        .retry_backoff(Duration::from_millis(10))
        .recheck_interval(Duration::from_millis(100));
    let producer = backend.producer(&config)?;
    let batcher = KafkaBatcher::builder().config(config).shared_producer(producer).build()?;
    let collector = batcher.collector(&topic).ok_or("no such topic")?;

    let start = Instant::now();
    let mut sent = [0_u64; PARTITIONS as usize];
    let mut add = async |count: usize| -> Result<(), Failure> {
        for _ in 0..count {
            let partition = sent.iter().sum::<u64>() as usize % sent.len();
            collector.add((vec![partition as u8], sent[partition].to_string())).await?;
            sent[partition] += 1;
        }
        Ok(())
    };
    add(BATCH).await?;
    batcher.flush().await;
    for cut in 0..times {
        let (side, within) = if dice.below(2) == 0 { (Side::Requests, 3000) } else { (Side::Answers, 300) };
        let before = proxy.counts().cuts;
        proxy.cut_after(side, dice.below(within));
        let since = Instant::now();
        while proxy.counts().cuts == before {
            if since.elapsed() > PATIENCE {
                return Err(format!(
                    "after {cut} cuts nothing passed for {PATIENCE:?}: {:?}",
                    batcher.stats()
                )
                .into());
            }
            add(10).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    proxy.heal();
    let counts = proxy.counts();
    let report = batcher.shutdown(Duration::from_secs(60)).await;
    println!("{} cuts, {} connections, {:?}", counts.cuts, counts.connections, start.elapsed());
    println!("{report:?}");

    let accepted: u64 = sent.iter().sum();
    if !report.is_complete() || report.accepted != accepted || report.delivered != accepted {
        return Err(format!("{accepted} events were accepted").into());
    }
    let read = target.read(&topic, Duration::from_secs(60)).await?;
    let mut logs: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for record in read {
        let value = String::from_utf8(record.value.unwrap_or_default())?;
        logs.entry(record.partition).or_default().push(value.parse()?);
    }
    let (mut duplicates, mut runs) = (0, 0);
    for (partition, expected) in (0..).zip(sent) {
        let log = logs.remove(&partition).unwrap_or_default();
        let (mut next, mut last) = (0, None);
        for value in log {
            if value == next {
                next += 1;
            } else if value > next {
                return Err(format!(
                    "partition {partition}: {value} came before {next}: lost or out of order"
                )
                .into());
            } else {
                duplicates += 1;
                // A run is one batch, or a part of it, sent again.
                runs += u64::from(last != value.checked_sub(1) || last.is_none());
            }
            last = Some(value);
        }
        if next != expected {
            return Err(format!("partition {partition}: {next} of {expected} events are there").into());
        }
    }
    println!(
        "{accepted} events: none lost, first occurrences in order, {duplicates} duplicates in {runs} runs"
    );
    if runs > counts.cuts * u64::from(PARTITIONS) {
        return Err(format!("more than a batch a partition for each of {} cuts", counts.cuts).into());
    }
    Ok(())
}
