//! What Kafka refuses, and how that is said.

use kafka_batcher_core::{ErrorKind, Failed, Persistence, TopicSettings};

use super::ProducerFixture;
use super::rig::{
    LONG, Rig, batch, error, failure, numbered, numbers, shown, shown_failure, topic_of, within,
};
use super::secrets::assert_hidden;
use crate::conformance::Outcome;

/// A topic that does not exist is unknown, to whoever counts and to whoever sends, and nothing is written.
pub async fn an_unknown_topic_is_said_to_be_unknown(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = missing(fixture).await?;
    let counted = within(LONG, "partition_count", rig.producer.partition_count(rig.name(), LONG)).await;
    let counted = error(counted, "counting the partitions of a topic that does not exist");
    assert_eq!(counted.kind(), ErrorKind::UnknownTopic, "{}", shown(Some(counted)));
    let sent = failure(rig.try_produce(0, numbered(0, 3), LONG).await, "to a topic that does not exist");
    let shown = shown_failure(&sent);
    assert_eq!(sent.error.kind(), ErrorKind::UnknownTopic, "{shown}");
    assert_eq!((sent.persistence, &sent.failed), (Persistence::NotPersisted, &Failed::All), "{shown}");
    Ok(())
}

/// Neither counting a topic's partitions nor sending to it creates it.
pub async fn asking_for_a_topic_does_not_create_it(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = missing(fixture).await?;
    for _ in 0..2 {
        let counted = rig.producer.partition_count(rig.name(), LONG).await;
        let counted = error(counted, "counting the partitions of a topic that does not exist");
        assert_eq!(counted.kind(), ErrorKind::UnknownTopic, "{}", shown(Some(counted)));
        failure(rig.try_produce(0, numbered(0, 3), LONG).await, "to a topic that does not exist");
    }
    Ok(())
}

/// A rig whose topic does not exist.
async fn missing(fixture: &dyn ProducerFixture) -> Result<Rig<'_>, crate::conformance::Skip> {
    fixture.ready()?;
    let name = fixture.missing_topic().await?;
    let rig = Rig::new(fixture, 1).await?;
    let config = fixture.config().with_topic(TopicSettings::new(name));
    Ok(Rig { topic: topic_of(&config), ..rig })
}

/// A partition that does not exist is refused, and the others are none the worse for it.
pub async fn an_unknown_partition_is_refused(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 2).await?;
    rig.produce(1, numbered(0, 1)).await;
    for partition in [2, i32::MAX as u32, u32::MAX] {
        let sent = failure(rig.try_produce(partition, numbered(0, 2), LONG).await, "to no partition");
        let shown = shown_failure(&sent);
        assert_eq!(sent.error.kind(), ErrorKind::UnknownTopic, "{shown}");
        assert_eq!((sent.persistence, &sent.failed), (Persistence::NotPersisted, &Failed::All), "{shown}");
    }
    rig.produce(1, numbered(1, 1)).await;
    rig.assert_holds(1, &numbers(0, 2)).await;
    rig.assert_holds(0, &[]).await;
    Ok(())
}

/// A batch larger than Kafka takes is said to be too large.
pub async fn a_batch_too_large_is_said_to_be_too_large(fixture: &dyn ProducerFixture) -> Outcome {
    refused(fixture, ErrorKind::TooLarge).await
}

/// Records Kafka will never take are named, and what is not named was delivered.
pub async fn what_is_refused_for_good_is_named(fixture: &dyn ProducerFixture) -> Outcome {
    refused(fixture, ErrorKind::Permanent).await
}

async fn refused(fixture: &dyn ProducerFixture, kind: ErrorKind) -> Outcome {
    fixture.ready()?;
    // The broker is to refuse it, not the producer's own limit.
    let config = |name: &str| {
        let settings = TopicSettings::new(name).max_batch_bytesize(8_000_000);
        fixture.config().with_topic(settings).produce_timeout(LONG)
    };
    // Asked first, since it may have nothing to refuse; asked again when all is connected, since what it has prepared
    // holds for the next batch.
    let topic = fixture.refused(kind).await?.topic;
    let producer = fixture.producer(&config(&topic));
    #[expect(clippy::panic, reason = "that is how a case fails")]
    let producer = producer.unwrap_or_else(|error| panic!("the producer can't be made: {error}"));
    let mut rig = Rig { fixture, producer, topic: topic_of(&config(&topic)) };
    rig.connect().await;
    let sent = fixture.refused(kind).await?;
    rig.topic = topic_of(&config(&sent.topic));
    let result = rig.try_produce(0, batch(sent.records.clone()), LONG).await;
    let failed = failure(result, "though Kafka refuses it");
    let shown = shown_failure(&failed);
    assert_eq!(failed.error.kind(), kind, "{shown}");
    assert_eq!(failed.persistence, Persistence::NotPersisted, "{shown}");
    for index in &sent.at_fault {
        let named = match &failed.failed {
            Failed::All => true,
            Failed::Some(failed) => failed.contains(index),
        };
        assert!(named, "record {index} is at fault and not named: {shown}");
    }
    rig.assert_true(0, 0, &sent.records, &failed).await;
    // The producer is none the worse for it.
    let rig = Rig { topic: Rig::new(fixture, 1).await?.topic, ..rig };
    rig.produce(0, numbered(0, 3)).await;
    rig.assert_holds(0, &numbers(0, 3)).await;
    Ok(())
}

/// Errors with which Kafka refuses a batch for other reasons than the moment's, each with the kind it is.
pub async fn errors_of_the_broker_have_their_kind(fixture: &dyn ProducerFixture) -> Outcome {
    for (code, kind) in [
        (10, ErrorKind::TooLarge),  // MESSAGE_TOO_LARGE
        (18, ErrorKind::TooLarge),  // RECORD_LIST_TOO_LARGE
        (29, ErrorKind::Denied),    // TOPIC_AUTHORIZATION_FAILED
        (87, ErrorKind::Permanent), // INVALID_RECORD
        (32, ErrorKind::Permanent), // INVALID_TIMESTAMP
        (44, ErrorKind::Permanent), // POLICY_VIOLATION
        (43, ErrorKind::Permanent), // UNSUPPORTED_FOR_MESSAGE_FORMAT
    ] {
        let rig = Rig::new(fixture, 1).await?;
        rig.produce(0, numbered(0, 1)).await;
        fixture.answer_produce_with(&[code])?;
        let sent =
            failure(rig.try_produce(0, numbered(1, 1), LONG).await, "and Kafka had answered with an error");
        let shown = shown_failure(&sent);
        assert_eq!(sent.error.kind(), kind, "Kafka's error {code}: {shown}");
        assert_eq!(
            (sent.persistence, &sent.failed),
            (Persistence::NotPersisted, &Failed::All),
            "{code}: {shown}"
        );
        rig.produce(0, numbered(1, 1)).await;
        rig.assert_holds(0, &numbers(0, 2)).await;
    }
    Ok(())
}

/// Errors that pass are not the caller's business, as long as there is time.
pub async fn passing_errors_are_retried(fixture: &dyn ProducerFixture) -> Outcome {
    for code in [
        6,  // NOT_LEADER_OR_FOLLOWER
        5,  // LEADER_NOT_AVAILABLE
        19, // NOT_ENOUGH_REPLICAS
        7,  // REQUEST_TIMED_OUT
    ] {
        let rig = Rig::new(fixture, 1).await?;
        rig.produce(0, numbered(0, 1)).await;
        fixture.answer_produce_with(&[code, code])?;
        match rig.try_produce(0, numbered(1, 1), LONG).await {
            Ok(_) => rig.assert_holds(0, &numbers(0, 2)).await,
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(failure) => panic!("Kafka's error {code} was not retried: {}", shown_failure(&failure)),
        }
    }
    Ok(())
}

/// Whoever is not let in is told so, with the reason, in time, and without a secret.
pub async fn who_is_denied_is_told_why_and_in_time(fixture: &dyn ProducerFixture) -> Outcome {
    fixture.ready()?;
    let secrets = fixture.secrets();
    for case in fixture.denied()? {
        let name = &case.name;
        let topic = case.topic.clone().unwrap_or_else(|| "denied".to_owned());
        let config = case.config.with_topic(TopicSettings::new(topic)).produce_timeout(LONG);
        let producer = fixture.producer(&config);
        #[expect(clippy::panic, reason = "that is how a case fails")]
        let producer = producer.unwrap_or_else(|error| panic!("{name}: the producer can't be made: {error}"));
        let rig = Rig { fixture, producer, topic: topic_of(&config) };
        let connected = within(LONG, "connect", rig.producer.connect(LONG)).await;
        if case.topic.is_some() {
            assert!(connected.is_ok(), "{name}: connect: {}", shown(connected.err()));
        } else {
            let denied = error(connected, name);
            assert_eq!(denied.kind(), ErrorKind::Denied, "{name}: {}", shown(Some(denied)));
            assert_eq!(denied.denial(), Some(case.expect), "{name}: {}", shown(Some(denied)));
            assert!(!denied.to_string().is_empty(), "{name}: denied without a word");
            assert_hidden(&secrets, &format!("{denied} {denied:?}"), name);
        }
        let sent = failure(rig.try_produce(0, numbered(0, 3), LONG).await, name);
        let shown = shown_failure(&sent);
        assert_eq!(sent.error.kind(), ErrorKind::Denied, "{name}: {shown}");
        assert_eq!(sent.error.denial(), Some(case.expect), "{name}: {shown}");
        assert_eq!(
            (sent.persistence, &sent.failed),
            (Persistence::NotPersisted, &Failed::All),
            "{name}: {shown}"
        );
        assert_hidden(&secrets, &format!("{sent} {sent:?} {:?} {config:?}", rig.producer), name);
    }
    Ok(())
}
