//! Records arrive as they are, or are refused.

use kafka_batcher_core::config::{Compression, RequiredAcks};
use kafka_batcher_core::{ErrorKind, Failed, Persistence, Record, TopicSettings};

use super::ProducerFixture;
use super::rig::{LONG, Rig, batch, eventually, numbered, numbers, shown_failure, topic_of};
use crate::conformance::Outcome;

/// Bytes of every value, and texts of every script, in keys and values.
pub async fn keys_and_values_arrive_as_they_are(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let records = [
        Record::new("value"),
        Record::new("value").with_key("key"),
        Record::new(every_byte.clone()).with_key(every_byte),
        Record::new("größer 大きい 🦀\r\n\0").with_key("ключ"),
        Record::new(vec![0xff; 70_000]).with_key(vec![0; 40_000]),
        Record::new("value").with_key("key"),
    ];
    rig.produce(0, batch(records.clone())).await;
    rig.assert_holds(0, &records).await;
    Ok(())
}

/// Kafka's null is not an empty key, and not an empty value.
pub async fn null_and_empty_stay_apart(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let records = [
        Record::new("").with_key(""),
        Record::tombstone(""),
        Record::new(""),
        Record::default(),
        Record::tombstone("key"),
        Record::new("value"),
    ];
    rig.produce(0, batch(records.clone())).await;
    rig.assert_holds(0, &records).await;
    Ok(())
}

/// Timestamps of records are kept, also when they run backwards.
pub async fn timestamps_arrive_as_they_are(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let times = [1, 1_600_000_000_123, 5, 1_600_000_000_122, 1_700_000_000_000];
    let records: Vec<Record> = times.iter().map(|time| Record::new("v").with_timestamp(*time)).collect();
    rig.produce(0, batch(records.clone())).await;
    rig.assert_holds(0, &records).await;
    Ok(())
}

/// The epoch and times before it arrive (a millisecond off at most) or are refused; they do not become "now".
pub async fn early_timestamps_arrive_or_are_refused(fixture: &dyn ProducerFixture) -> Outcome {
    for time in [0, -86_400_000] {
        let rig = Rig::new(fixture, 1).await?;
        let records = [Record::new("early").with_timestamp(time)];
        match rig.try_produce(0, batch(records.clone()), LONG).await {
            Ok(_) => {
                let read = rig.read(0).await;
                let [read] = &read[..] else {
                    assert_eq!(read.len(), 1, "a record of time {time} was delivered");
                    return Ok(());
                };
                let off = read.timestamp.map(|read| read.abs_diff(time));
                assert!(off.is_some_and(|off| off <= 1), "{time} became {:?}", read.timestamp);
            }
            Err(failure) => {
                assert_eq!(failure.error.kind(), ErrorKind::Permanent, "{}", shown_failure(&failure));
                rig.assert_true(0, 0, &records, &failure).await;
            }
        }
    }
    Ok(())
}

/// Headers with names that do not repeat, in alphabetic order.
pub async fn headers_arrive_as_they_are(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let records = [
        Record::new("one").with_header("trace", "1"),
        Record::new("none"),
        Record::new("many")
            .with_header("", "")
            .with_header("a", "1")
            .with_header("b", vec![0, 0xff])
            .with_header("ä", "ö"),
        Record::tombstone("k").with_header("large", vec![7; 10_000]),
    ];
    rig.produce(0, batch(records.clone())).await;
    rig.assert_holds(0, &records).await;
    Ok(())
}

/// Headers that are not in alphabetic order keep theirs. An adapter that can't refuses the record.
pub async fn headers_keep_their_order_or_are_refused(fixture: &dyn ProducerFixture) -> Outcome {
    let unsorted = Record::new("v").with_header("z", "1").with_header("a", "2").with_header("m", "3");
    let must = Rig::new(fixture, 1).await?.producer.capabilities().repeated_headers;
    arrives_or_is_refused(fixture, unsorted, must).await
}

/// Header names repeat where the adapter declares it; elsewhere the record is refused.
pub async fn repeated_headers_arrive_or_are_refused(fixture: &dyn ProducerFixture) -> Outcome {
    let repeated = Record::new("v")
        .with_header("a", "1")
        .with_header("a", "2")
        .with_header("b", "3")
        .with_header("a", "1");
    let must = Rig::new(fixture, 1).await?.producer.capabilities().repeated_headers;
    arrives_or_is_refused(fixture, repeated, must).await
}

/// Header values are null where the adapter declares it; elsewhere the record is refused.
pub async fn null_header_values_arrive_or_are_refused(fixture: &dyn ProducerFixture) -> Outcome {
    let mut null = Record::new("v").with_header("a", "");
    null.headers.push("b", None);
    let must = Rig::new(fixture, 1).await?.producer.capabilities().null_headers;
    arrives_or_is_refused(fixture, null, must).await
}

/// Sends `odd` between two ordinary records. It arrives unchanged, or is refused for good and named.
async fn arrives_or_is_refused(fixture: &dyn ProducerFixture, odd: Record, must_arrive: bool) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let records = [Record::new("before"), odd, Record::new("after")];
    match rig.try_produce(0, batch(records.clone()), LONG).await {
        Ok(_) => rig.assert_holds(0, &records).await,
        Err(failure) => {
            let shown = shown_failure(&failure);
            assert!(!must_arrive, "declared as possible, and refused: {shown}");
            assert_eq!(failure.error.kind(), ErrorKind::Permanent, "{shown}");
            assert_eq!(failure.persistence, Persistence::NotPersisted, "{shown}");
            let named = failure.failed == Failed::All
                || matches!(&failure.failed, Failed::Some(failed) if failed.contains(&1));
            assert!(named, "the record at fault, 1, is not named: {shown}");
            rig.assert_true(0, 0, &records, &failure).await;
            // Sent by itself it is refused again, and the others go.
            let rig = Rig::new(fixture, 1).await?;
            rig.produce(0, batch([records[0].clone(), records[2].clone()])).await;
        }
    }
    Ok(())
}

/// A record almost as large as Kafka takes by default.
pub async fn a_large_record_arrives(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let noise: Vec<u8> = (0..900_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let records = [Record::new(noise).with_key("large")];
    rig.produce(0, batch(records.clone())).await;
    rig.assert_holds(0, &records).await;
    Ok(())
}

/// Each compression works, or the adapter says at its construction that it does not.
pub async fn compressed_batches_arrive_or_are_refused_at_construction(
    fixture: &dyn ProducerFixture,
) -> Outcome {
    fixture.ready()?;
    let all =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in all {
        let name = fixture.topic(1).await;
        let settings = TopicSettings::new(name).compression(compression);
        let config = fixture.config().with_topic(settings).produce_timeout(LONG);
        match fixture.producer(&config) {
            Ok(producer) => {
                let topic = topic_of(&config);
                let rig = Rig { fixture, producer, topic };
                rig.connect().await;
                let records = numbers(0, 2000);
                rig.produce(0, batch(records.clone())).await;
                rig.assert_holds(0, &records).await;
            }
            Err(error) => {
                assert_ne!(compression, Compression::None, "{error}");
                assert!(!error.is_empty(), "refused without a word: {}", compression.as_str());
            }
        }
    }
    Ok(())
}

/// With acks 1 and 0 batches arrive, the latter without an offset, where the adapter declares that it can. Elsewhere it
/// refuses the setting at construction, or the batch.
pub async fn acks_are_honoured_or_refused(fixture: &dyn ProducerFixture) -> Outcome {
    fixture.ready()?;
    for acks in [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None] {
        let name = fixture.topic(1).await;
        let settings = TopicSettings::new(name).required_acks(acks);
        let config = fixture.config().with_topic(settings).produce_timeout(LONG);
        let producer = match fixture.producer(&config) {
            Ok(producer) => producer,
            Err(error) => {
                assert_ne!(acks, RequiredAcks::All, "{error}");
                let plain = Rig::new(fixture, 1).await?;
                assert!(!plain.producer.capabilities().acks, "declared, and refused: {error}");
                continue;
            }
        };
        let can = acks == RequiredAcks::All || producer.capabilities().acks;
        let rig = Rig { fixture, producer, topic: topic_of(&config) };
        rig.connect().await;
        match rig.try_produce(0, numbered(0, 100), LONG).await {
            Ok(delivered) => {
                assert!(can, "{acks:?} is not declared, and was not refused");
                let expected = (acks != RequiredAcks::None).then_some(0);
                assert_eq!(delivered.base_offset, expected, "{acks:?}");
                // Nobody says when a record sent with acks 0 is there.
                let rig = &rig;
                eventually("all records are there", || async move { rig.read(0).await.len() == 100 }).await;
                rig.assert_holds(0, &numbers(0, 100)).await;
            }
            Err(failure) => {
                let shown = shown_failure(&failure);
                assert!(!can, "{acks:?}: {shown}");
                assert_eq!(failure.persistence, Persistence::NotPersisted, "{shown}");
                rig.assert_true(0, 0, &numbers(0, 100), &failure).await;
            }
        }
    }
    Ok(())
}
