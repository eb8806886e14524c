//! Order, completeness, and many things at once.

use std::sync::Arc;

use super::ProducerFixture;
use super::rig::{LONG, Rig, numbered, numbers, shown_failure, within};
use crate::conformance::Outcome;

/// The records of a batch reach the log in the batch's order.
pub async fn records_of_a_batch_stay_in_order(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let delivered = rig.produce(0, numbered(0, 20_000)).await;
    assert_eq!(delivered.base_offset, Some(0));
    rig.assert_holds(0, &numbers(0, 20_000)).await;
    Ok(())
}

/// Batches sent one after the other follow one another without a gap, and offsets are the log's.
pub async fn batches_follow_one_another(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 1).await?;
    let mut sent = 0;
    for count in [1, 3000, 1, 999, 1000, 1001, 2, 1, 1, 5000] {
        let delivered = rig.produce(0, numbered(sent, count)).await;
        assert_eq!(delivered.base_offset, i64::try_from(sent).ok());
        sent += count;
    }
    rig.assert_holds(0, &numbers(0, sent)).await;
    Ok(())
}

/// A batch is in its partition, and in no other.
pub async fn a_batch_goes_to_its_partition_and_no_other(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 4).await?;
    for (partition, count) in [(2, 7), (3, 5), (0, 3)] {
        rig.produce(partition, numbered(partition as usize * 100, count)).await;
    }
    for (partition, count) in [(0, 3), (1, 0), (2, 7), (3, 5)] {
        rig.assert_holds(partition, &numbers(partition as usize * 100, count)).await;
    }
    Ok(())
}

/// Partitions are sent to from many tasks at once, and each keeps its order and its offsets.
pub async fn many_partitions_at_once(fixture: &dyn ProducerFixture) -> Outcome {
    const PARTITIONS: u32 = 8;
    let rig = Rig::new(fixture, PARTITIONS).await?;
    let tasks = (0..PARTITIONS).map(|partition| lane(&rig, partition, 10)).collect::<Vec<_>>();
    for task in tasks {
        joined(task).await;
    }
    for partition in 0..PARTITIONS {
        rig.assert_holds(partition, &numbers(partition as usize * 1_000_000, 1000)).await;
    }
    Ok(())
}

/// One producer serves many topics at once.
pub async fn many_topics_at_once(fixture: &dyn ProducerFixture) -> Outcome {
    let first = Rig::new(fixture, 2).await?;
    let mut rigs = Vec::new();
    for _ in 0..4 {
        let other = Rig::at(fixture, fixture.config(), 2, LONG, |topic| topic).await?;
        rigs.push(Rig { producer: Arc::clone(&first.producer), ..other });
    }
    rigs.push(first);
    let tasks: Vec<_> =
        rigs.iter().flat_map(|rig| (0..2).map(move |partition| lane(rig, partition, 5))).collect();
    for task in tasks {
        joined(task).await;
    }
    for rig in &rigs {
        for partition in 0..2 {
            rig.assert_holds(partition, &numbers(partition as usize * 1_000_000, 500)).await;
        }
    }
    Ok(())
}

/// Sends `rounds` batches of 100 to a partition, one after the other, in a task of its own.
fn lane(rig: &Rig<'_>, partition: u32, rounds: usize) -> tokio::task::JoinHandle<()> {
    let producer = Arc::clone(&rig.producer);
    let requests: Vec<_> = (0..rounds)
        .map(|round| rig.request(partition, numbered(partition as usize * 1_000_000 + round * 100, 100)))
        .collect();
    tokio::spawn(async move {
        for (round, request) in requests.iter().enumerate() {
            let result = within(LONG, "produce", producer.produce(request, LONG)).await;
            match result {
                Ok(delivered) => assert_eq!(delivered.base_offset, i64::try_from(round * 100).ok()),
                #[expect(clippy::panic, reason = "that is how a case fails")]
                Err(failure) => panic!("partition {partition}: {}", shown_failure(&failure)),
            }
        }
    })
}

async fn joined(task: tokio::task::JoinHandle<()>) {
    if let Err(error) = task.await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
