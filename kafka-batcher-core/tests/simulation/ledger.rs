//! What is known about each event, kept apart from the machines under test.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use kafka_batcher_core::journal::Journaled;
use kafka_batcher_core::{Batch, Outcome, Receipt, Record, RecordRef};

use super::dice::Dice;
use super::plan::Plan;

/// The life of one accepted event.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) key: Option<String>,
    /// Its record's, in milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
    /// Bytes it takes in a batch, at least.
    pub(crate) size: usize,
    pub(crate) receipt: Option<Receipt>,
    /// Whether it is in the journal, until that is known.
    pub(crate) journaled: Option<Journaled>,
    /// It is in the journal: its adder was told so.
    pub(crate) promised: bool,
    /// It was given back to its adder.
    pub(crate) returned: bool,
    pub(crate) outcome: Option<Outcome>,
    /// Each time it came into the log: partition and order over all partitions.
    pub(crate) written: Vec<(u32, u64)>,
    /// Kafka acknowledged it to the lane, so many times.
    pub(crate) acknowledged: u32,
    pub(crate) dead: u32,
    /// It was reported lost.
    pub(crate) lost: bool,
    /// It was only in memory when its process ended.
    pub(crate) gone: bool,
    /// How much was written to any log when it was given up.
    pub(crate) gone_at: Option<u64>,
    /// It was put to storage that survives the process.
    pub(crate) was_stored: bool,
    /// So many more deliveries are due to copies that an ended process left behind.
    pub(crate) copies: u32,
    /// Times it went from the unassigned lane to a partition's.
    pub(crate) routed: u32,
    /// It was written after everybody had given up on it.
    pub(crate) late: bool,
    /// It failed while later ones of its own batch did not: the broker broke the order.
    pub(crate) overtaken: bool,
    /// Kafka refused it for good when it was sent alone, or it has no partition.
    pub(crate) refused: bool,
    /// It was too old to be sent.
    pub(crate) expired: bool,
}

impl Life {
    /// Nobody has to do anything for it any more.
    pub(crate) const fn is_done(&self) -> bool {
        self.acknowledged > 0 || self.dead > 0
    }
}

/// What the application wants to add.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) key: Option<String>,
    pub(crate) record: Record,
    pub(crate) receipt: bool,
    pub(crate) flush: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) lives: Vec<Life>,
    pub(crate) open_receipts: Vec<u64>,
    pub(crate) reported_lost: u64,
    /// Sequence headers seen, by event.
    pub(crate) sequences: BTreeMap<Vec<u8>, u64>,
}

impl Ledger {
    /// An event that could be added next. Its number is in its value.
    pub(crate) fn draft(&self, plan: &Plan, dice: &mut Dice) -> Draft {
        let id = self.lives.len() as u64;
        let mut value = id.to_be_bytes().to_vec();
        value.resize(8 + dice.between(0, plan.largest_value) as usize, 0);
        if dice.chance(1) {
            value.resize(2000, 0);
        }
        let key =
            if dice.chance(30) { None } else { Some(dice.pick(&["a", "b", "c", "d", "e", "f"]).to_owned()) };
        let key = if dice.chance(2) { Some("x".to_owned()) } else { key };
        let mut record = Record::new(value);
        if let Some(key) = &key {
            record = record.with_key(key.clone());
        }
        // Kafka will never take it.
        if dice.chance(plan.poison) {
            record = record.with_header("poison", "yes");
        }
        Draft { key, record, receipt: dice.chance(40), flush: dice.chance(2) }
    }

    pub(crate) fn accepted(
        &mut self,
        draft: Draft,
        receipt: Option<Receipt>,
        journaled: Option<Journaled>,
        timestamp: i64,
    ) -> u64 {
        let id = self.lives.len() as u64;
        if receipt.is_some() {
            self.open_receipts.push(id);
        }
        let bytes = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
        self.lives.push(Life {
            size: bytes(&draft.record.key) + bytes(&draft.record.value) + 7,
            key: draft.key,
            timestamp,
            receipt,
            journaled,
            promised: false,
            returned: false,
            outcome: None,
            written: Vec::new(),
            acknowledged: 0,
            dead: 0,
            lost: false,
            gone: false,
            gone_at: None,
            was_stored: false,
            copies: 0,
            routed: 0,
            overtaken: false,
            late: false,
            refused: false,
            expired: false,
        });
        id
    }

    /// Asks for each event that was last seen on its way to the journal whether it is there.
    pub(crate) fn look_into_journal(&mut self) {
        for life in &mut self.lives {
            let Some(journaled) = &mut life.journaled else { continue };
            match Pin::new(journaled).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => life.promised = true,
                Poll::Ready(Err(_)) => life.returned = true,
                Poll::Pending => continue,
            }
            life.journaled = None;
        }
    }

    pub(crate) fn life(&mut self, id: u64) -> &mut Life {
        &mut self.lives[id as usize]
    }
}

/// Which event a record is.
pub(crate) fn id_of(record: &RecordRef<'_>) -> u64 {
    let value = record.value.expect("every event of the simulation has a value");
    u64::from_be_bytes(value[..8].try_into().expect("and it begins with its number"))
}

pub(crate) fn ids(batch: &Batch) -> Vec<u64> {
    batch.records().map(|record| id_of(&record)).collect()
}

/// Indexes of the poisonous records.
pub(crate) fn poison(batch: &Batch) -> Vec<u32> {
    let poisonous = |record: &RecordRef<'_>| record.headers.iter().any(|header| header.name == "poison");
    (0..).zip(batch.records()).filter(|(_, record)| poisonous(record)).map(|(index, _)| index).collect()
}
