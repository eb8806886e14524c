//! rust-rdkafka's `FutureProducer`: a future for each event.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

use super::{Load, Meter};

/// So many events may be unacknowledged before the oldest is waited for.
const WINDOW: usize = 100_000;

pub(super) fn run(load: &Load) -> Result<(Duration, Duration), Box<dyn Error>> {
    let load = load.clone();
    super::runtime()?.block_on(async {
        let producer: FutureProducer = load.client().create()?;
        let first = FutureRecord::<(), _>::to(&load.topic).partition(0).payload("first");
        producer.send(first, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
        let meter = Meter::start();
        tokio::spawn(async move { send(&producer, &load).await }).await??;
        Ok(meter.stop())
    })
}

async fn send(producer: &FutureProducer, load: &Load) -> Result<(), String> {
    let value = vec![b'x'; load.size];
    let mut open = VecDeque::with_capacity(WINDOW);
    for event in 0..load.events {
        if open.len() == WINDOW {
            finish(open.pop_front()).await?;
        }
        loop {
            let record =
                FutureRecord::<(), _>::to(&load.topic).partition(load.partition(event)).payload(&value);
            match producer.send_result(record) {
                Ok(report) => break open.push_back(report),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    finish(open.pop_front()).await?
                }
                Err((error, _)) => return Err(error.to_string()),
            }
        }
    }
    while !open.is_empty() {
        finish(open.pop_front()).await?;
    }
    Ok(())
}

async fn finish(report: Option<DeliveryFuture>) -> Result<(), String> {
    let Some(report) = report else { return Ok(()) };
    report.await.map_err(|error| error.to_string())?.map_err(|(error, _)| error.to_string())?;
    Ok(())
}
