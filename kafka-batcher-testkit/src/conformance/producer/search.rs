//! Searching Kafka's log: nothing is found that is not there, and nothing is missed. Run where
//! [`Capabilities::search`](kafka_batcher_core::Capabilities::search) is declared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::config::Compression;
use kafka_batcher_core::{ErrorKind, Found, ProduceError, Record, Search, TopicSettings};

use super::ProducerFixture;
use super::deadlines::{address, listen, nobody, proxied};
use super::rig::{LONG, Rig, SHORT, batch, error, eventually, numbered, shown, then, topic_of, within};
use crate::conformance::{Outcome, Skip};
use crate::proxy::Side;

/// The header that is looked for.
const MARK: &str = "mark";

impl Rig<'_> {
    /// A connected rig whose producer can search.
    async fn searching(fixture: &dyn ProducerFixture) -> Result<Rig<'_>, Skip> {
        let rig = Rig::new(fixture, 2).await?;
        can_search(&rig)?;
        Ok(rig)
    }

    /// A search of partition 0 for these marks.
    fn for_marks<'a>(&self, marks: impl IntoIterator<Item = &'a str>) -> Search {
        Search::new(self.name(), 0, MARK, marks.into_iter().map(str::as_bytes))
    }

    /// Searches, and checks that it took no longer than it may.
    async fn try_search(&self, search: &Search, timeout: Duration) -> Result<Found, ProduceError> {
        within(timeout, "search", self.producer.search(search, timeout)).await
    }

    /// Searches what can be searched; gives marks and offsets.
    async fn search(&self, search: &Search) -> Vec<(String, i64)> {
        match self.try_search(search, LONG).await {
            Ok(found) => found
                .into_iter()
                .map(|(mark, offset)| (String::from_utf8_lossy(&mark).into_owned(), offset))
                .collect(),
            #[expect(clippy::panic, reason = "that is how a case fails")]
            Err(error) => panic!("not searched: {}", shown(Some(error))),
        }
    }

    async fn finds(&self, search: &Search, expected: &[(&str, i64)]) {
        let found = self.search(search).await;
        let found: Vec<(&str, i64)> = found.iter().map(|(mark, offset)| (&**mark, *offset)).collect();
        assert_eq!(found, expected, "from {:?}, {}", search.from_offset, search.from_timestamp);
    }
}

fn can_search(rig: &Rig<'_>) -> Outcome {
    if rig.producer.capabilities().search { Ok(()) } else { Err(Skip::new("the producer can't search")) }
}

fn marked(mark: &str) -> Record {
    Record::new("value").with_header(MARK, mark.to_owned())
}

/// Of the values that are wanted those that are there, each where it is first; nothing else.
pub async fn a_search_finds_exactly_what_is_there(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    let records = [
        marked("unwanted"),
        Record::new("a"),
        Record::new("value").with_header("lark", "a").with_header("marked", "a"),
        marked("b"),
        Record::new("value").with_key("a"),
        marked("a").with_header("other", "b"),
        marked("b"),
        Record::tombstone("k").with_header(MARK, ""),
        marked("aa"),
        marked("A"),
    ];
    rig.produce(0, batch(records)).await;
    rig.produce(1, batch([marked("elsewhere")])).await;
    rig.produce(0, batch([marked("a"), marked("late"), marked("late")])).await;
    let search = rig.for_marks(["a", "b", "", "late", "elsewhere", "missing", "value"]);
    rig.finds(&search, &[("", 7), ("a", 5), ("b", 3), ("late", 11)]).await;
    rig.finds(&rig.for_marks(["missing"]), &[]).await;
    let mut elsewhere = rig.for_marks(["elsewhere", "a"]);
    elsewhere.partition = 1;
    rig.finds(&elsewhere, &[("elsewhere", 0)]).await;
    let binary = Record::new("v").with_header(MARK, vec![0, 0xff, 0xfe]);
    let at = rig.produce(0, batch([binary])).await.base_offset;
    let search = Search::new(rig.name(), 0, MARK, [&[0, 0xff, 0xfe][..], &[0, 0xff]]);
    let found = rig.try_search(&search, LONG).await;
    let found: Option<Vec<i64>> = found.ok().map(|found| found.into_values().collect());
    assert_eq!(found, at.map(|at| vec![at]), "a value that is no text");
    Ok(())
}

/// Of several headers of the name the last one counts, whoever wrote them.
pub async fn a_search_goes_by_the_last_header_of_the_name(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    let records = [
        marked("first").with_header(MARK, "last"),
        marked("first").with_header("other", "last").with_header(MARK, "middle").with_header(MARK, "none"),
    ];
    write(&rig, &records).await?;
    rig.finds(&rig.for_marks(["first", "middle", "last"]), &[("last", 0)]).await;
    Ok(())
}

/// A header whose value is null is no value, and hides those of the same name before it. Who can't read such a header says
/// so, and does not guess.
pub async fn a_search_takes_null_headers_for_no_value(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    let (mut null, mut hidden) = (Record::new("null"), marked("hidden"));
    null.headers.push(MARK, None);
    hidden.headers.push(MARK, None);
    write(&rig, &[marked("before"), null, hidden, marked("behind")]).await?;
    let search = rig.for_marks(["", "before", "hidden", "behind"]);
    if rig.producer.capabilities().null_headers {
        rig.finds(&search, &[("before", 0), ("behind", 3)]).await;
    } else if let Ok(found) = rig.try_search(&search, LONG).await {
        assert_eq!(found.into_values().collect::<Vec<_>>(), [0, 3], "guessed");
    }
    Ok(())
}

/// Has another client write what the adapter may be unable to; the adapter itself where it can and there is no other.
async fn write(rig: &Rig<'_>, records: &[Record]) -> Outcome {
    match rig.fixture.write(rig.name(), 0, records, Compression::None).await {
        Err(skip) if !rig.producer.capabilities().repeated_headers => Err(skip),
        Err(_) => {
            rig.produce(0, batch(records.iter().cloned())).await;
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What is at an earlier offset is not found, and what begins at it is.
pub async fn a_search_leaves_out_earlier_offsets(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    // The second offset is in the middle of a batch.
    rig.produce(0, batch([marked("early"), marked("both"), marked("first"), marked("both")])).await;
    rig.produce(0, batch([marked("early too"), marked("both"), marked("last")])).await;
    let mut search = rig.for_marks(["early", "both", "first", "early too", "last"]);
    for (from, expected) in [
        (0, &[("both", 1), ("early", 0), ("early too", 4), ("first", 2), ("last", 6)][..]),
        (2, &[("both", 3), ("early too", 4), ("first", 2), ("last", 6)]),
        (5, &[("both", 5), ("last", 6)]),
        (7, &[]),
    ] {
        search.from_offset = Some(from);
        rig.finds(&search, expected).await;
    }
    Ok(())
}

/// What has an earlier timestamp is not found, and what has that timestamp or a later one is.
pub async fn a_search_leaves_out_earlier_times(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    fixture.finds_offsets_by_time()?;
    let at = |mark: &str, seconds: i64| marked(mark).with_timestamp(then() + seconds * 1000);
    rig.produce(0, batch([at("early", -3600), at("both", -3600)])).await;
    rig.produce(0, batch([at("exact", -60), at("both", -30), at("late", 0)])).await;
    let mut search = rig.for_marks(["early", "exact", "both", "late"]);
    rig.finds(&search, &[("both", 1), ("early", 0), ("exact", 2), ("late", 4)]).await;
    search.from_timestamp = then() - 60_000;
    rig.finds(&search, &[("both", 3), ("exact", 2), ("late", 4)]).await;
    // Whichever of the two is later.
    search.from_offset = Some(0);
    rig.finds(&search, &[("both", 3), ("exact", 2), ("late", 4)]).await;
    search.from_offset = Some(3);
    rig.finds(&search, &[("both", 3), ("late", 4)]).await;
    search.from_offset = None;
    search.from_timestamp = then() + 60_000;
    rig.finds(&search, &[]).await;
    Ok(())
}

/// Who wrote it does not matter.
pub async fn a_search_finds_what_others_wrote(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    let config = fixture.config().with_topic(TopicSettings::new(rig.name())).produce_timeout(LONG);
    #[expect(clippy::panic, reason = "that is how a case fails")]
    let producer = fixture.producer(&config).unwrap_or_else(|error| panic!("can't be made: {error}"));
    let other = Rig { fixture, producer, topic: topic_of(&config) };
    other.connect().await;
    rig.produce(0, batch([marked("mine")])).await;
    other.produce(0, batch([marked("theirs")])).await;
    rig.finds(&rig.for_marks(["mine", "theirs"]), &[("mine", 0), ("theirs", 1)]).await;
    other.finds(&rig.for_marks(["mine", "theirs"]), &[("mine", 0), ("theirs", 1)]).await;
    Ok(())
}

/// Compressed batches are searched, whoever wrote them. Who can't read one says so, and does not leave it out.
pub async fn a_search_reads_compressed_batches(fixture: &dyn ProducerFixture) -> Outcome {
    let all =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in all {
        let rig = Rig::searching(fixture).await?;
        let records: Vec<Record> = (0..500).map(|n: u32| marked(&n.to_string())).collect();
        let settings = TopicSettings::new(rig.name()).compression(compression);
        let config = fixture.config().with_topic(settings).produce_timeout(LONG);
        let search = rig.for_marks(["0", "250", "499", "500"]);
        let expected = [("0", 0), ("250", 250), ("499", 499)];
        if let Ok(producer) = fixture.producer(&config) {
            let writer = Rig { fixture, producer, topic: topic_of(&config) };
            writer.connect().await;
            writer.produce(0, batch(records)).await;
            rig.finds(&search, &expected).await;
        } else if fixture.write(rig.name(), 0, &records, compression).await.is_ok()
            && let Ok(found) = rig.try_search(&search, LONG).await
        {
            let found: Vec<i64> = found.into_values().collect();
            assert_eq!(found, [0, 250, 499], "left out: {}", compression.as_str());
        }
    }
    Ok(())
}

/// There is nothing in a partition that nobody wrote to.
pub async fn an_empty_partition_is_searched_in_vain(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    let mut search = rig.for_marks(["a", ""]);
    rig.finds(&search, &[]).await;
    search.from_offset = Some(0);
    rig.finds(&search, &[]).await;
    rig.produce(0, batch([marked("a")])).await;
    rig.finds(&search, &[("a", 0)]).await;
    rig.finds(&rig.for_marks([]), &[]).await;
    Ok(())
}

/// Many requests' worth of records, wanted ones at both ends and all over, each found.
pub async fn a_long_log_is_searched_to_its_end(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    // Less than the 5 MB of which the embedded broker forgets the oldest.
    let (batches, size) = (12, 1000);
    for number in 0..batches {
        let records = (0..size)
            .map(|n| Record::new(vec![b'x'; 300]).with_header(MARK, (number * size + n).to_string()));
        rig.produce(0, batch(records)).await;
    }
    let numbers: Vec<usize> = (0..batches * size).filter(|n| n % 7 == 0 || n + 1 == batches * size).collect();
    let marks: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let search = rig.for_marks(marks.iter().map(String::as_str).chain(["missing", "12000"]));
    let found = rig.search(&search).await;
    let missed = found.iter().filter(|(mark, offset)| mark.parse() != Ok(*offset)).count();
    assert_eq!((found.len(), missed), (numbers.len(), 0), "found, and at other offsets than they are");
    let distinct: BTreeSet<i64> = found.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(distinct.len(), numbers.len());
    let mut end = rig.for_marks(["0", "11999"]);
    end.from_offset = Some(11_900);
    rig.finds(&end, &[("11999", 11_999)]).await;
    Ok(())
}

/// What was acknowledged before the search began is found by it.
pub async fn a_search_sees_what_was_acknowledged(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    for round in 0..20 {
        let mark = round.to_string();
        rig.produce(0, batch([marked(&mark), marked("again")])).await;
        let mut search = rig.for_marks([mark.as_str(), "again"]);
        search.from_offset = Some(2 * round);
        rig.finds(&search, &[(mark.as_str(), 2 * round), ("again", 2 * round + 1)]).await;
    }
    Ok(())
}

/// The topic does not exist, or does not have the partition: that is said, within time, and not taken for an empty one.
pub async fn a_search_where_nothing_can_be_is_refused(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    rig.produce(0, batch([marked("a")])).await;
    let mut search = rig.for_marks(["a"]);
    search.partition = 7;
    let refused = error(rig.try_search(&search, SHORT).await, "searching a partition that does not exist");
    assert_eq!(refused.kind(), ErrorKind::UnknownTopic, "{}", shown(Some(refused)));
    rig.finds(&rig.for_marks(["a"]), &[("a", 0)]).await;
    search.topic = fixture.missing_topic().await?.into();
    search.partition = 0;
    let refused = error(rig.try_search(&search, SHORT).await, "searching a topic that does not exist");
    assert_eq!(refused.kind(), ErrorKind::UnknownTopic, "{}", shown(Some(refused)));
    rig.finds(&rig.for_marks(["a"]), &[("a", 0)]).await;
    Ok(())
}

/// Nobody listens, or nobody answers: a search ends in time, and does not say that nothing is there.
pub async fn a_search_of_nobody_ends_in_time(fixture: &dyn ProducerFixture) -> Outcome {
    fixture.ready()?;
    let (nobody, silent) = (nobody()?, listen()?);
    for address in [address(nobody.local_addr())?, address(silent.local_addr())?] {
        let rig = Rig::at(fixture, fixture.config_at(&address)?, 1, SHORT, |topic| topic).await?;
        can_search(&rig)?;
        for timeout in [SHORT, Duration::from_millis(1), Duration::ZERO] {
            let nobody = error(rig.try_search(&rig.for_marks(["a"]), timeout).await, "searching nowhere");
            assert_eq!(nobody.kind(), ErrorKind::Transient, "{}", shown(Some(nobody)));
        }
        within(SHORT, "close", rig.producer.close(SHORT)).await;
    }
    Ok(())
}

/// A broker that hangs, or goes away, ends a search in time, with an error; when it is back, searches work again.
pub async fn a_search_survives_a_broker_that_hangs_or_is_gone(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    can_search(&rig)?;
    rig.produce(0, batch([marked("a")])).await;
    let search = rig.for_marks(["a", "b"]);
    rig.finds(&search, &[("a", 1)]).await;
    for trouble in ["stalled answers", "stalled requests", "gone"] {
        match trouble {
            "stalled answers" => proxy.stall(Side::Answers),
            "stalled requests" => proxy.stall(Side::Requests),
            _ => proxy.down(),
        }
        let failed = error(rig.try_search(&search, SHORT).await, trouble);
        assert_eq!(failed.kind(), ErrorKind::Transient, "{trouble}: {}", shown(Some(failed)));
        proxy.heal();
        let rig = &rig;
        let search = &search;
        eventually("a search works again", || async move { rig.try_search(search, SHORT).await.is_ok() })
            .await;
        rig.finds(search, &[("a", 1)]).await;
    }
    // A connection that is lost between two searches is made again.
    proxy.reset();
    rig.finds(&search, &[("a", 1)]).await;
    rig.produce(0, numbered(0, 1)).await;
    Ok(())
}

/// A log that can't be looked through in time gives an error, never a part of what is there.
pub async fn a_search_that_comes_to_no_end_tells_no_part(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, LONG).await?;
    can_search(&rig)?;
    for number in 0..5 {
        let mark = number.to_string();
        let noise: Vec<u8> = (0..800_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        rig.produce(0, batch([Record::new(noise).with_header(MARK, mark)])).await;
    }
    // Some 4 MB, of which half or so gets through.
    proxy.throttle(std::num::NonZeroU32::new(700_000));
    let slow = rig.try_search(&rig.for_marks(["0", "4"]), SHORT).await;
    let slow = error(slow, "and the log had not come through");
    assert_eq!(slow.kind(), ErrorKind::Transient, "{}", shown(Some(slow)));
    proxy.heal();
    rig.finds(&rig.for_marks(["0", "4"]), &[("0", 1), ("4", 5)]).await;
    Ok(())
}

/// Searches are dropped at all stages. The producer goes on as if nothing had been.
pub async fn dropped_searches_wedge_nothing(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    for number in 0..5 {
        rig.produce(0, numbered(number * 1000, 1000)).await;
    }
    rig.produce(0, batch([marked("a")])).await;
    let search = rig.for_marks(["a", "b"]);
    let wanted = Arc::clone(&search.wanted);
    for micros in [0, 50, 200, 1000, 3000, 10_000, 30_000] {
        let patience = Duration::from_micros(micros);
        drop(tokio::time::timeout(patience, rig.producer.search(&search, LONG)).await);
    }
    rig.finds(&search, &[("a", 5000)]).await;
    drop(search);
    eventually("what was wanted is let go", || async { Arc::strong_count(&wanted) == 1 }).await;
    rig.produce(0, batch([marked("b")])).await;
    rig.finds(&rig.for_marks(["a", "b"]), &[("a", 5000), ("b", 5001)]).await;
    Ok(())
}

/// After close a search fails for good.
pub async fn nothing_is_searched_after_close(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::searching(fixture).await?;
    rig.produce(0, batch([marked("a")])).await;
    within(LONG, "close", rig.producer.close(LONG)).await;
    let closed = error(rig.try_search(&rig.for_marks(["a"]), LONG).await, "after close");
    assert_eq!(closed.kind(), ErrorKind::Fatal, "{}", shown(Some(closed)));
    Ok(())
}
