//! The suite of [`DeadLetter`].

use std::fmt;
use std::sync::Arc;

use kafka_batcher_core::{DeadLetter, DeadRecord, ErrorKind, LaneId, Record, StorageError};

use super::{Outcome, Skip};

/// Opens sinks for the suite, and looks into them.
pub trait DeadLetterFixture: Send + Sync {
    /// A new sink with room for so many records, if it has a limit.
    fn open(&self, limit: usize) -> Arc<dyn DeadLetter>;

    /// What was put into the sink opened last, in order.
    ///
    /// # Errors
    /// Why that can't be told.
    fn taken(&self) -> Result<Vec<DeadRecord>, Skip> {
        Err(Skip::new("the fixture can't look into the sink"))
    }
}

/// A fixture of two functions: how a sink is made, for a limit, and how what is in it is read.
pub struct DeadLetters<D, F, R> {
    make: F,
    read: R,
    last: std::sync::Mutex<Option<Arc<D>>>,
}

impl<D, F, R> fmt::Debug for DeadLetters<D, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetters")
    }
}

impl<D, F, R> DeadLetters<D, F, R>
where
    D: DeadLetter + 'static,
    F: Fn(usize) -> D + Send + Sync,
    R: Fn(&D) -> Vec<DeadRecord> + Send + Sync,
{
    /// Sinks made by `make`, which is given how many records it is to have room for, and read by `read`.
    pub const fn new(make: F, read: R) -> Self {
        Self { make, read, last: std::sync::Mutex::new(None) }
    }
}

impl<D, F, R> DeadLetterFixture for DeadLetters<D, F, R>
where
    D: DeadLetter + 'static,
    F: Fn(usize) -> D + Send + Sync,
    R: Fn(&D) -> Vec<DeadRecord> + Send + Sync,
{
    fn open(&self, limit: usize) -> Arc<dyn DeadLetter> {
        let sink = Arc::new((self.make)(limit));
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(&sink));
        sink
    }

    fn taken(&self) -> Result<Vec<DeadRecord>, Skip> {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok(last.map(|sink| (self.read)(&sink)).unwrap_or_default())
    }
}

fn dead(name: usize) -> DeadRecord {
    let record = Record::new(name.to_string()).with_key("k").with_timestamp(5);
    DeadRecord::new(LaneId::partition("topic", 3), record, ErrorKind::Permanent, "refused")
}

#[expect(clippy::panic, reason = "that is how a case fails")]
fn must(result: Result<(), StorageError>) {
    if let Err(error) = result {
        panic!("put: {error}");
    }
}

fn assert_taken(taken: &[DeadRecord], expected: &[DeadRecord]) {
    assert_eq!(taken.len(), expected.len(), "dead records");
    for (index, (taken, expected)) in taken.iter().zip(expected).enumerate() {
        let parts =
            |dead: &DeadRecord| (dead.lane.clone(), dead.record.clone(), dead.kind, dead.error.clone());
        assert!(parts(taken) == parts(expected), "dead record {index}: {taken:?} instead of {expected:?}");
    }
}

/// Lane, record, kind and words.
pub async fn what_is_put_away_is_kept_as_it_is(fixture: &dyn DeadLetterFixture) -> Outcome {
    let sink = fixture.open(100);
    let mut odd = Record::tombstone("").with_timestamp(-1);
    odd.headers.push("null", None);
    let lane = LaneId::unassigned("t");
    let expected = [
        dead(0),
        DeadRecord::new(lane.clone(), odd, ErrorKind::TooLarge, ""),
        DeadRecord::new(lane, Record::default(), ErrorKind::Permanent, "größer\n\0"),
        DeadRecord::new(
            LaneId::partition("t", u32::MAX),
            Record::new(vec![0xff; 2_000_000]),
            ErrorKind::TooLarge,
            "e",
        ),
    ];
    for dead in &expected {
        must(sink.put(dead.clone()).await);
    }
    assert_taken(&fixture.taken()?, &expected);
    Ok(())
}

/// Records put away at once by many tasks are all kept.
pub async fn many_put_away_at_once_are_all_kept(fixture: &dyn DeadLetterFixture) -> Outcome {
    let sink = fixture.open(1000);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let sink = Arc::clone(&sink);
            tokio::spawn(async move {
                for n in 0..20 {
                    must(sink.put(dead(task * 1000 + n)).await);
                }
            })
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let mut taken = fixture.taken()?;
    let name = |dead: &DeadRecord| {
        String::from_utf8_lossy(dead.record.value.as_deref().unwrap_or_default()).parse::<usize>().ok()
    };
    taken.sort_by_key(name);
    let expected: Vec<_> = (0..16).flat_map(|task| (0..20).map(move |n| dead(task * 1000 + n))).collect();
    assert_taken(&taken, &expected);
    Ok(())
}

/// A sink that has no room says so, has not taken the record, and keeps those it has.
pub async fn a_full_sink_refuses_and_keeps_what_it_has(fixture: &dyn DeadLetterFixture) -> Outcome {
    const LIMIT: usize = 10;
    let sink = fixture.open(LIMIT);
    let mut kept = Vec::new();
    for name in 0..LIMIT * 10 {
        if sink.put(dead(name)).await.is_err() {
            assert!(sink.put(dead(name)).await.is_err(), "full, and then not");
            assert_taken(&fixture.taken()?, &kept);
            return Ok(());
        }
        kept.push(dead(name));
    }
    assert_taken(&fixture.taken()?, &kept);
    Err(Skip::new("the sink has no limit"))
}

/// What a sink says of its durability is so from the beginning.
pub async fn durability_does_not_change(fixture: &dyn DeadLetterFixture) -> Outcome {
    let sink = fixture.open(100);
    let durable = sink.is_durable();
    must(sink.put(dead(0)).await);
    assert_eq!(sink.is_durable(), durable);
    Ok(())
}

/// Tests that a [`DeadLetter`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes a [`DeadLetterFixture`], evaluated anew for each test. The tests are in a module
/// `dead_letter_conformance`, or of the name given before the expression.
#[macro_export]
macro_rules! dead_letter_conformance {
    ($fixture:expr) => {
        $crate::dead_letter_conformance!(dead_letter_conformance, $fixture);
    };
    ($module:ident, $fixture:expr) => {
        $crate::__conformance_tests! { dead_letter, $module, $fixture;
            what_is_put_away_is_kept_as_it_is
            many_put_away_at_once_are_all_kept
            a_full_sink_refuses_and_keeps_what_it_has
            durability_does_not_change
        }
    };
}
