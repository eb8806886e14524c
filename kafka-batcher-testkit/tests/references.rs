//! The reference implementations beside the traits pass the suites.

use kafka_batcher_core::{
    MemoryDeadLetters, MemoryStorage, NoNotifier, NoTelemetry, PartitionStrategy, Report,
};
use kafka_batcher_testkit::conformance::dead_letter::DeadLetters;
use kafka_batcher_testkit::conformance::storage::Storage;
use kafka_batcher_testkit::{
    dead_letter_conformance, notifier_conformance, partitioner_conformance, storage_conformance,
    telemetry_conformance,
};

storage_conformance!(Storage::new(MemoryStorage::new));
dead_letter_conformance!(DeadLetters::new(MemoryDeadLetters::new, MemoryDeadLetters::take));
telemetry_conformance!(NoTelemetry);
notifier_conformance!(NoNotifier);
notifier_conformance!(notifier_closure, |report: &Report| assert!(!report.to_string().is_empty()));
partitioner_conformance!(
    partitioner_function,
    custom(PartitionStrategy::function(|_, partitions, key, _| {
        key.unwrap_or_default().len() as u32 % partitions
    }))
);
partitioner_conformance!(
    partitioner_typed,
    custom(PartitionStrategy::typed(|_, partitions, n: &u32| n % partitions))
);

/// The application's own partitioner in a strategy.
struct Custom(std::sync::Arc<dyn kafka_batcher_core::Partitioner>);

impl kafka_batcher_core::Partitioner for Custom {
    fn partition(
        &self,
        topic: &str,
        partitions: std::num::NonZeroU32,
        event: &kafka_batcher_core::EventRef<'_>,
    ) -> Option<u32> {
        self.0.partition(topic, partitions, event)
    }

    fn needs_typed_event(&self) -> bool {
        self.0.needs_typed_event()
    }
}

fn custom(strategy: PartitionStrategy) -> Custom {
    match strategy {
        PartitionStrategy::Custom(partitioner) => Custom(partitioner),
        other => panic!("{other:?} is the batcher's own"),
    }
}
