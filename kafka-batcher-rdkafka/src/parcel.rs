//! A batch on its way: what became of each of its records.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

use kafka_batcher_core::{Batch, Delivered, Failed, Persistence, ProduceRequest};
use parking_lot::Mutex;

use crate::code::Code;
use crate::ffi::Report;

/// A batch and the delivery reports of its records: the one allocation a batch costs.
#[derive(Debug)]
pub(crate) struct Parcel {
    batch: Batch,
    topic: Arc<str>,
    partition: u32,
    /// Brokers tell where they wrote a record: whenever they answer at all.
    answered: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Records given to librdkafka, once it is known; the others never left.
    handed: Option<u32>,
    /// No report is outstanding any more.
    settled: bool,
    /// Records from the first one on that were delivered. Without failures there is nothing else to keep.
    head: u32,
    /// Others that were delivered.
    islands: Vec<Range<u32>>,
    /// How many records are certainly not in the log, as a report says of each.
    refused: usize,
    cause: Option<Cause>,
    first_offset: i64,
    last_offset: i64,
    /// Somebody waits for the first report already.
    eager: bool,
    waker: Option<Waker>,
}

/// Why a record failed.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) index: u32,
    pub(crate) code: Code,
    pub(crate) text: String,
    /// Failed only because another record of its request did.
    pub(crate) bystander: bool,
}

/// How librdkafka words it; when just one record was at fault, the others get that one's code.
const BYSTANDER: &str = "Failed to append record because it was part of a batch";

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Answer {
    Delivered(Delivered),
    Failed {
        /// `None` when no report gave one: there is no answer yet.
        cause: Option<Cause>,
        persistence: Persistence,
        failed: Failed,
    },
}

impl Parcel {
    /// `answered` unless `acks` is 0.
    pub(crate) fn new(request: &ProduceRequest, answered: bool) -> Self {
        Self {
            batch: request.batch.clone(),
            topic: Arc::clone(&request.topic.topic_name),
            partition: request.partition,
            answered,
            state: Mutex::new(State {
                handed: None,
                settled: false,
                head: 0,
                islands: Vec::new(),
                refused: 0,
                cause: None,
                first_offset: -1,
                last_offset: -1,
                eager: false,
                waker: None,
            }),
        }
    }

    pub(crate) const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Whether it goes to this partition.
    pub(crate) fn is_for(&self, topic: &str, partition: u32) -> bool {
        *self.topic == *topic && self.partition == partition
    }

    /// Takes delivery reports in.
    pub(crate) fn report<'a>(&self, reports: impl Iterator<Item = Report<'a>>) {
        let last = self.batch.len() - 1;
        let mut state = self.state.lock();
        for report in reports {
            let (index, offset) = (report.index(), report.offset());
            if report.code() != Code::NONE {
                state.fail(index, report);
                continue;
            }
            if offset < 0 && self.answered {
                state.doubt(index);
                continue;
            }
            if index == 0 {
                state.first_offset = offset;
            }
            if index == last {
                state.last_offset = offset;
            }
            if index == state.head {
                state.head += 1;
            } else {
                state.deliver_island(index);
            }
        }
        if state.eager {
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Only the first `count` records were given to librdkafka, or all.
    pub(crate) fn handed_over(&self, count: u32) {
        self.state.lock().handed = Some(count);
    }

    /// How many records were given to librdkafka.
    pub(crate) fn handed(&self) -> u32 {
        self.state.lock().handed.unwrap_or(0)
    }

    /// There will be no more reports. Lets go of the batch before it wakes who waits.
    pub(crate) fn settle(self: Arc<Self>) {
        let waker = {
            let mut state = self.state.lock();
            state.settled = true;
            state.waker.take()
        };
        drop(self);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until every record that was handed over has got its report.
    pub(crate) async fn settled(&self) {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            state.eager = false;
            if state.settled { Poll::Ready(()) } else { state.wait(cx.waker()) }
        })
        .await;
    }

    /// Waits for the report of the first record, after it alone was handed over; says whether it was delivered.
    pub(crate) async fn first_delivered(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            state.eager = true;
            if state.head > 0 || state.cause.is_some() || state.settled {
                return Poll::Ready(state.head > 0);
            }
            state.wait(cx.waker())
        })
        .await
    }

    /// What became of the batch as far as is known. `refusal` is why handing over stopped, if it did.
    pub(crate) fn answer(&self, refusal: Option<Cause>) -> Answer {
        let count = self.batch.len();
        let state = self.state.lock();
        let mut delivered = state.islands.clone();
        delivered.push(0..state.head);
        delivered.sort_unstable_by_key(|range| range.start);
        let mut failed = Vec::new();
        let mut next = 0;
        for range in delivered {
            failed.extend(next..range.start);
            next = range.end;
        }
        failed.extend(next..count);
        if failed.is_empty() {
            let contiguous =
                state.first_offset >= 0 && state.last_offset - state.first_offset == i64::from(count) - 1;
            return Answer::Delivered(Delivered::at(contiguous.then_some(state.first_offset)));
        }
        // Of those handed over, each that failed without a report that it is not in the log may be there.
        let handed = state.handed.unwrap_or(count);
        let handed_failed = failed.partition_point(|index| *index < handed);
        let persistence = if handed_failed > state.refused {
            Persistence::MaybePersisted
        } else {
            Persistence::NotPersisted
        };
        // The reason of the first record that is at fault itself.
        let cause = match (state.cause.clone(), refusal) {
            (Some(cause), Some(refusal)) if cause.bystander => Some(refusal),
            (Some(cause), _) => Some(cause),
            (None, refusal) => refusal,
        };
        let failed = if failed.len() == count as usize { Failed::All } else { Failed::Some(failed) };
        Answer::Failed { cause, persistence, failed }
    }
}

impl State {
    fn wait<T>(&mut self, by: &Waker) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(by),
            none => *none = Some(by.clone()),
        }
        Poll::Pending
    }

    #[cold]
    fn fail(&mut self, index: u32, report: Report<'_>) {
        self.refused += usize::from(report.not_persisted());
        let better = |cause: &Cause| cause.bystander || index < cause.index;
        if self.cause.as_ref().is_none_or(better) {
            let (code, text) = (report.code(), report.text());
            let bystander = code.is_bystander() || text.starts_with(BYSTANDER);
            if !bystander || self.cause.as_ref().is_none_or(|cause| cause.bystander && index < cause.index) {
                self.cause = Some(Cause { index, code, text, bystander });
            }
        }
    }

    /// librdkafka takes records for written when one behind them was, even if it was told that they were not. On a
    /// broker that has forgotten the producer's sequence numbers that is wrong.
    #[cold]
    fn doubt(&mut self, index: u32) {
        if self.cause.as_ref().is_none_or(|cause| cause.bystander) {
            let text = "no broker said that the record was written; librdkafka concludes it from a later one"
                .to_owned();
            self.cause = Some(Cause { index, code: Code::FAIL, text, bystander: false });
        }
    }

    #[cold]
    fn deliver_island(&mut self, index: u32) {
        match self.islands.last_mut() {
            Some(range) if range.end == index => range.end += 1,
            _ => self.islands.push(index..index + 1),
        }
    }
}
