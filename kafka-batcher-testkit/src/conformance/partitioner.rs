//! The suite of [`Partitioner`].

use std::num::NonZeroU32;

use kafka_batcher_core::{EventRef, Partitioner, Record};

use super::{Outcome, Skip};

/// Events as bytes, as they come from bytes or back from storage.
fn records() -> Vec<Record> {
    let mut records = vec![
        Record::default(),
        Record::new(""),
        Record::tombstone(""),
        Record::tombstone("key"),
        Record::new("value").with_key("key").with_header("h", "v").with_timestamp(5),
        Record::new(vec![0xff; 100_000]).with_key(vec![0; 10_000]),
    ];
    records.extend((0..500).map(|n: u32| Record::new(format!("{{\"n\":{n}}}")).with_key(n.to_string())));
    records.extend((0..=255).map(|byte: u8| Record::new(vec![byte]).with_key(vec![byte, 0xff, byte])));
    records
}

fn counts() -> impl Iterator<Item = NonZeroU32> {
    (1..=17).chain([64, 1000, i32::MAX as u32]).filter_map(NonZeroU32::new)
}

fn choose(
    partitioner: &dyn Partitioner,
    topic: &str,
    partitions: NonZeroU32,
    record: &Record,
) -> Option<u32> {
    partitioner.partition(topic, partitions, &EventRef::of_record(record.as_ref()))
}

/// The choice is one of the topic's partitions, or none, whatever the event and however many there are.
pub async fn only_partitions_that_exist_are_chosen(partitioner: &dyn Partitioner) -> Outcome {
    for topic in ["topic", "a.b-c_d", ""] {
        for partitions in counts() {
            for record in records() {
                let chosen = choose(partitioner, topic, partitions, &record);
                assert!(
                    chosen.is_none_or(|chosen| chosen < partitions.get()),
                    "{chosen:?} of {partitions} partitions, key {:?}",
                    record.key
                );
            }
        }
    }
    Ok(())
}

/// Events of one key go to one partition. Skipped for a partitioner that does not choose by the event.
pub async fn the_same_event_goes_the_same_way(partitioner: &dyn Partitioner) -> Outcome {
    let partitions = NonZeroU32::MIN.saturating_add(999);
    let choices = |_| -> Vec<_> {
        records().iter().map(|record| choose(partitioner, "topic", partitions, record)).collect()
    };
    let (first, second, third) = (choices(0), choices(1), choices(2));
    if first != second && second != third {
        return Err(Skip::new("it does not choose by the event"));
    }
    assert_eq!(first, third, "sometimes the same and sometimes not");
    Ok(())
}

/// Whether the typed event is needed is asked once, and holds for good.
pub async fn what_it_needs_does_not_change(partitioner: &dyn Partitioner) -> Outcome {
    let needs = partitioner.needs_typed_event();
    for record in records() {
        choose(partitioner, "topic", NonZeroU32::MIN, &record);
        assert_eq!(partitioner.needs_typed_event(), needs);
    }
    Ok(())
}

/// It is called by all tasks that add events, at once.
pub async fn many_threads_ask_at_once(partitioner: &dyn Partitioner) -> Outcome {
    let partitions = NonZeroU32::MIN.saturating_add(6);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for record in records() {
                    let chosen = choose(partitioner, "topic", partitions, &record);
                    assert!(chosen.is_none_or(|chosen| chosen < partitions.get()), "{chosen:?}");
                }
            });
        }
    });
    Ok(())
}

/// Tests that a [`Partitioner`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes one, evaluated anew for each test. The tests are in a module
/// `partitioner_conformance`, or of the name given before the expression.
#[macro_export]
macro_rules! partitioner_conformance {
    ($partitioner:expr) => {
        $crate::partitioner_conformance!(partitioner_conformance, $partitioner);
    };
    ($module:ident, $partitioner:expr) => {
        $crate::__conformance_tests! { partitioner, $module, $partitioner;
            only_partitions_that_exist_are_chosen
            the_same_event_goes_the_same_way
            what_it_needs_does_not_change
            many_threads_ask_at_once
        }
    };
}
