//! What was sent and what was said to it, against what Kafka really holds.

use std::collections::BTreeMap;

use kafka_batcher_core::{Batch, Delivered, Failed, Persistence, ProduceFailure, Record};

/// Everything sent to one partition.
#[derive(Default)]
pub struct Ledger {
    batches: Vec<Sent>,
}

struct Sent {
    count: usize,
    said: Said,
}

enum Said {
    Delivered { base_offset: Option<i64> },
    Failed { persistence: Persistence, failed: Vec<usize> },
}

fn value(batch: usize, record: usize) -> String {
    format!("{batch}.{record}")
}

impl Ledger {
    /// The next batch, whose records can be told from all others. What comes of it has to be [noted](Self::note).
    pub fn next(&self, count: usize) -> Batch {
        super::batch((0..count).map(|record| Record::new(value(self.batches.len(), record))))
    }

    pub fn note(&mut self, count: usize, result: &Result<Delivered, ProduceFailure>) {
        let said = match result {
            Ok(delivered) => Said::Delivered { base_offset: delivered.base_offset },
            Err(failure) => Said::Failed {
                persistence: failure.persistence,
                failed: match &failure.failed {
                    Failed::All => (0..count).collect(),
                    Failed::Some(failed) => failed.iter().map(|index| *index as usize).collect(),
                },
            },
        };
        self.batches.push(Sent { count, said });
    }

    /// How many batches were delivered, are certainly not written, and may be.
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for batch in &self.batches {
            match &batch.said {
                Said::Delivered { .. } => counts.0 += 1,
                Said::Failed { persistence: Persistence::NotPersisted, .. } => counts.1 += 1,
                Said::Failed { persistence: Persistence::MaybePersisted, .. } => counts.2 += 1,
            }
        }
        counts
    }

    /// Checks what was said against the partition's values in order of their offsets.
    pub fn check(&self, log: &[String]) {
        let mut offsets = BTreeMap::new();
        for (offset, value) in log.iter().enumerate() {
            let before = offsets.insert(value.as_str(), offset);
            assert_eq!(before, None, "`{value}` is there twice, and was sent once");
        }
        for (number, batch) in self.batches.iter().enumerate() {
            let at = |record| offsets.get(value(number, record).as_str()).copied();
            let written: Vec<_> = (0..batch.count).filter_map(at).collect();
            assert!(written.is_sorted(), "batch {number} is out of order: {written:?}");
            match &batch.said {
                Said::Delivered { base_offset } => {
                    assert_eq!(written.len(), batch.count, "batch {number} was said to be delivered");
                    if let Some(base) = base_offset {
                        assert_eq!(written.first(), Some(&(*base as usize)), "batch {number} is elsewhere");
                    }
                }
                Said::Failed { persistence, failed } => {
                    for record in 0..batch.count {
                        match (failed.contains(&record), persistence) {
                            (false, _) => assert!(at(record).is_some(), "{number}.{record} was delivered"),
                            (true, Persistence::NotPersisted) => {
                                assert_eq!(at(record), None, "{number}.{record} was not written");
                            }
                            (true, Persistence::MaybePersisted) => {}
                        }
                    }
                }
            }
        }
    }
}
