//! The batcher with its defaults.

use std::error::Error;
use std::time::Duration;

use kafka_batcher::{AddErrorKind, Collector, KafkaBatcher, KafkaConfig, TopicSettings};

use super::{Load, Meter};

pub(super) fn run(load: &Load) -> Result<(Duration, Duration), Box<dyn Error>> {
    super::runtime()?.block_on(async {
        let topic = TopicSettings::new(load.topic.as_str()).collect_by_partition(load.by_partition);
        let mut config = KafkaConfig::new(load.bootstrap.as_str()).with_topic(topic);
        if let Some(linger) = &load.linger {
            config = config.property("linger.ms", linger);
        }
        let batcher = KafkaBatcher::builder().config(config).build()?;
        let collector = batcher.collector(&load.topic).ok_or("no collector")?;
        // One event on its way opens connections and fetches metadata, as for the others.
        let _ = collector.add_with_receipt("first").await?.await;
        let meter = Meter::start();
        let (adder, events, value) = (collector.clone(), load.events, vec![b'x'; load.size]);
        tokio::spawn(async move { add(&adder, events, &value).await }).await??;
        collector.flush().await;
        let result = meter.stop();
        let report = batcher.shutdown(Duration::from_secs(30)).await;
        if report.delivered != load.events + 1 {
            return Err(format!("not everything was delivered: {report:?}").into());
        }
        Ok(result)
    })
}

async fn add(collector: &Collector, events: u64, value: &[u8]) -> Result<(), String> {
    for _ in 0..events {
        let full = match collector.try_add(value) {
            Ok(()) => continue,
            Err(error) => error,
        };
        match full.kind {
            AddErrorKind::Full => collector.add(value).await.map_err(|error| error.to_string())?,
            kind => return Err(kind.to_string()),
        }
    }
    Ok(())
}
