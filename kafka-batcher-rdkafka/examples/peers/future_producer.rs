//! The peer that users reach for first: rust-rdkafka's `FutureProducer`, a future for each event.

use std::error::Error;

use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{Figures, Load, Meter};

/// Sends the load. Runs in a multi-threaded tokio runtime of its own.
pub(crate) fn run(load: &Load) -> Result<Figures, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let producer: FutureProducer = load.client().create()?;
    let figures = runtime.block_on(async {
        batch(&producer, load, 0).await?; // connections and metadata
        let meter = Meter::start();
        let mut lanes = tokio::task::JoinSet::new();
        for partition in 0..load.lanes as i32 {
            let (producer, load) = (producer.clone(), load.clone());
            lanes.spawn(async move {
                let (start, mut events) = (std::time::Instant::now(), 0);
                while start.elapsed() < load.time {
                    batch(&producer, &load, partition).await?;
                    events += u64::from(load.batch);
                }
                Ok::<u64, String>(events)
            });
        }
        let mut events = 0;
        while let Some(lane) = lanes.join_next().await {
            events += lane??;
        }
        Ok(meter.stop(events))
    });
    drop(producer);
    figures
}

async fn batch(producer: &FutureProducer, load: &Load, partition: i32) -> Result<(), String> {
    let value = vec![b'x'; load.size];
    let mut reports = Vec::with_capacity(load.batch as usize);
    for _ in 0..load.batch {
        let record = FutureRecord::<(), _>::to(&load.topic).partition(partition).payload(&value).timestamp(1);
        reports.push(producer.send_result(record).map_err(|(error, _)| error.to_string())?);
    }
    for report in reports {
        report.await.map_err(|error| error.to_string())?.map_err(|(error, _)| error.to_string())?;
    }
    Ok(())
}
