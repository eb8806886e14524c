//! Connecting, counting and creating.

use std::num::NonZeroU32;
use std::sync::Arc;

use kafka_batcher_core::{ErrorKind, Persistence, TopicSettings};

use super::ProducerFixture;
use super::deadlines::proxied;
use super::rig::{LONG, Rig, SHORT, eventually, numbered, numbers, shown, shown_failure, topic_of, within};
use crate::conformance::Outcome;
use crate::proxy::Swallow;

/// Connecting a client that is connected is success, and harms nothing.
pub async fn connect_may_be_called_again(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    for round in 0..3 {
        rig.connect().await;
        rig.produce(0, numbered(round * 10, 10)).await;
    }
    rig.assert_holds(0, &numbers(0, 30)).await;
    Ok(())
}

/// A batch in flight while the client is started anew is delivered or fails, in time.
pub async fn connect_leaves_nothing_in_flight_unanswered(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    proxy.swallow(Swallow::Produce);
    let (result, ()) = tokio::join!(rig.try_produce(0, numbered(1, 10), SHORT), async {
        let sent = proxy.wait_for(|counts| counts.swallowed > 0);
        assert!(tokio::time::timeout(LONG, sent).await.is_ok(), "no answer came");
        drop(within(SHORT, "connect", rig.producer.connect(SHORT)).await);
    });
    if let Err(failed) = result {
        let shown = shown_failure(&failed);
        assert_eq!(failed.persistence, Persistence::MaybePersisted, "it is in the log: {shown}");
    }
    Ok(())
}

/// The count is the topic's.
pub async fn partitions_are_counted(fixture: &dyn ProducerFixture) -> Outcome {
    for partitions in [1, 3] {
        let rig = Rig::new(fixture, partitions).await?;
        let count = within(LONG, "partition_count", rig.producer.partition_count(rig.name(), LONG)).await;
        match count {
            Ok(count) => assert_eq!(count.get(), partitions),
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(error) => panic!("the partitions of a topic that exists: {}", shown(Some(error))),
        }
    }
    Ok(())
}

/// A topic that grew has its new count at once, and its new partitions can be sent to.
pub async fn partitions_are_counted_by_the_cluster_and_not_by_a_cache(
    fixture: &dyn ProducerFixture,
) -> Outcome {
    let rig = Rig::new(fixture, 2).await?;
    let count = |timeout| rig.producer.partition_count(rig.name(), timeout);
    assert_eq!(count(LONG).await.ok().map(NonZeroU32::get), Some(2));
    rig.produce(1, numbered(0, 1)).await;
    fixture.grow(rig.name(), 5).await?;
    let after = count(LONG).await;
    assert_eq!(after.as_ref().ok().map(|count| count.get()), Some(5), "{}", shown(after.err()));
    rig.produce(4, numbered(0, 3)).await;
    rig.assert_holds(4, &numbers(0, 3)).await;
    Ok(())
}

/// The topic has the partitions its configuration asks for, and can be used at once.
pub async fn a_topic_is_created_as_configured(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = creatable(fixture, 3).await?;
    let created = within(LONG, "create_topic", rig.producer.create_topic(&rig.topic, LONG)).await;
    assert!(created.is_ok(), "create_topic: {}", shown(created.err()));
    let counted = rig.producer.partition_count(rig.name(), LONG).await;
    assert_eq!(counted.as_ref().ok().map(|count| count.get()), Some(3), "{}", shown(counted.err()));
    for partition in 0..3 {
        let delivered = rig.produce(partition, numbered(0, 10)).await;
        assert_eq!(delivered.base_offset, Some(0));
        rig.assert_holds(partition, &numbers(0, 10)).await;
    }
    Ok(())
}

/// A topic that exists is success, whoever made it and with however many partitions, and it stays as it is.
pub async fn creating_a_topic_again_is_success(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = creatable(fixture, 2).await?;
    for round in 0..3 {
        let created = within(LONG, "create_topic", rig.producer.create_topic(&rig.topic, LONG)).await;
        assert!(created.is_ok(), "create_topic, time {round}: {}", shown(created.err()));
    }
    rig.produce(1, numbered(0, 3)).await;
    let settings = TopicSettings::new(rig.name()).allow_topic_auto_creation(true).new_topic_partitions(7);
    let other = topic_of(&fixture.config().with_topic(settings));
    let created = rig.producer.create_topic(&other, LONG).await;
    assert!(created.is_ok(), "with other settings: {}", shown(created.err()));
    let counted = rig.producer.partition_count(rig.name(), LONG).await;
    assert_eq!(counted.as_ref().ok().map(|count| count.get()), Some(2), "{}", shown(counted.err()));
    rig.assert_holds(1, &numbers(0, 3)).await;
    Ok(())
}

/// A connected rig whose topic does not exist yet and may be created with so many partitions.
async fn creatable(
    fixture: &dyn ProducerFixture,
    partitions: u32,
) -> Result<Rig<'_>, crate::conformance::Skip> {
    fixture.ready()?;
    let name = fixture.creatable_topic().await?;
    let settings = TopicSettings::new(name).allow_topic_auto_creation(true).new_topic_partitions(partitions);
    let config = fixture.config().with_topic(settings).produce_timeout(LONG);
    let producer = fixture.producer(&config);
    #[expect(clippy::panic, reason = "that is how a case fails")]
    let producer = producer.unwrap_or_else(|error| panic!("the producer can't be made: {error}"));
    let rig = Rig { fixture, producer, topic: topic_of(&config) };
    rig.connect().await;
    let counted = rig.producer.partition_count(rig.name(), LONG).await;
    let kind = counted.as_ref().err().map(kafka_batcher_core::ProduceError::kind);
    assert_eq!(kind, Some(ErrorKind::UnknownTopic), "before it is created: {}", shown(counted.err()));
    Ok(rig)
}

/// What a producer can do is the same before and after it is connected, and when it has failed.
pub async fn capabilities_do_not_change(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::at(fixture, fixture.config(), 1, LONG, |topic| topic).await?;
    let before = rig.producer.capabilities();
    assert!(before.window >= 1, "no batch could ever be in flight");
    rig.connect().await;
    assert_eq!(rig.producer.capabilities(), before);
    let producer = Arc::clone(&rig.producer);
    eventually("connected", || async { producer.connect(LONG).await.is_ok() }).await;
    rig.produce(0, numbered(0, 1)).await;
    assert_eq!(rig.producer.capabilities(), before);
    rig.producer.close(LONG).await;
    assert_eq!(rig.producer.capabilities(), before);
    Ok(())
}
