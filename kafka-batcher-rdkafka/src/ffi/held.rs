//! What librdkafka reads from, and until when.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::parcel::Parcel;

/// Parcels that librdkafka may still read from, by their first ticket.
#[derive(Default)]
pub(super) struct Held {
    pub(super) parcels: BTreeMap<usize, Entry>,
    next: usize,
}

pub(super) struct Entry {
    pub(super) parcel: Arc<Parcel>,
    /// Tickets taken: one for each record.
    pub(super) tickets: usize,
    /// Records handed over, once it is known.
    pub(super) handed: Option<usize>,
    pub(super) reported: usize,
}

impl Held {
    /// Finds `tickets` numbers in a row of which none is in use. They run out on 32-bit machines only, where
    /// they are used again.
    pub(super) fn take(&mut self, tickets: usize) -> usize {
        let mut base = self.next.max(1);
        loop {
            let Some(end) = base.checked_add(tickets) else {
                base = 1;
                continue;
            };
            match self.parcels.range(..end).next_back() {
                Some((other, entry)) if other + entry.tickets > base => base = other + entry.tickets,
                _ => {
                    self.next = end;
                    return base;
                }
            }
        }
    }

    pub(super) fn settle(&mut self, base: usize) -> Option<Arc<Parcel>> {
        let entry = self.parcels.get(&base)?;
        if entry.handed != Some(entry.reported) {
            return None;
        }
        self.parcels.remove(&base).map(|entry| entry.parcel)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_batcher_core::config::{KafkaConfig, TopicSettings};
    use kafka_batcher_core::{BatchBuilder, ProduceRequest, Record};

    use super::*;

    fn held(held: &mut Held, tickets: usize) -> usize {
        let base = held.take(tickets);
        let mut builder = BatchBuilder::new();
        assert!(builder.push(&Record::new("v").as_ref(), 1, None, usize::MAX));
        let config = KafkaConfig::new("localhost:1").with_topic(TopicSettings::new("t"));
        let topic = Arc::new(config.topics().expect("valid").remove(0));
        let request = ProduceRequest::new(topic, 0, builder.seal().expect("one record"));
        let parcel = Arc::new(Parcel::new(&request, true));
        held.parcels.insert(base, Entry { parcel, tickets, handed: None, reported: 0 });
        base
    }

    #[test]
    fn tickets_are_never_in_use_twice_even_when_numbers_run_out() {
        let mut all = Held { next: usize::MAX - 25, ..Held::default() };
        let bases: Vec<_> = [10, 10, 10, 5, 10].into_iter().map(|tickets| held(&mut all, tickets)).collect();
        assert_eq!(bases, [usize::MAX - 25, usize::MAX - 15, 1, 11, 16]);
        // Around again, with some of the first still out.
        all.parcels.remove(&11);
        all.next = usize::MAX - 5;
        assert_eq!(held(&mut all, 5), usize::MAX - 5);
        assert_eq!(held(&mut all, 6), 26, "11 to 15 have room for 5");
        all.next = 1;
        assert_eq!(held(&mut all, 5), 11);
    }

    #[test]
    fn a_parcel_is_let_go_at_its_last_report_and_not_before() {
        let mut all = Held::default();
        let base = held(&mut all, 3);
        let entry = |all: &mut Held, handed, reported| {
            let entry = all.parcels.get_mut(&base).expect("still held");
            (entry.handed, entry.reported) = (handed, reported);
        };
        entry(&mut all, None, 3);
        assert!(all.settle(base).is_none(), "more may be handed over");
        entry(&mut all, Some(3), 2);
        assert!(all.settle(base).is_none(), "one is out");
        entry(&mut all, Some(3), 3);
        assert!(all.settle(base).is_some());
        assert!(all.settle(base).is_none());
    }
}
