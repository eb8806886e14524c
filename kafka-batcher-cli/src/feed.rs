//! Hands what is read to the batcher, line by line.

use std::cell::Cell;
use std::time::Duration;

use kafka_batcher::{AddError, AddErrorKind, Collector, Durability, OnUnavailable, TopicConfig};

use crate::Failure;
use crate::args::OnError;
use crate::console::Console;
use crate::input::Blocks;
use crate::key::{BadLine, LineParser, Parsed};
use crate::lines::{Line, Lines};
use crate::report::{self, End, Taken};
use crate::signals::Stop;

/// Events that go to the journal together, so that they share the way to the disk.
const JOURNALED: usize = 2_000;
/// Time between two tries while Kafka is unavailable and the configuration says to refuse events then.
const REFUSED: Duration = Duration::from_millis(50);
/// Bad lines that are shown one by one; the rest is only counted.
const SHOWN: u64 = 50;

/// What the progress display shows of the input.
#[derive(Clone, Copy, Default)]
pub(crate) struct SoFar {
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) bad: u64,
}

/// Hands lines to the batcher.
pub(crate) struct Feeder<'a> {
    pub(crate) parser: LineParser,
    pub(crate) collector: Collector,
    pub(crate) name: &'a str,
    pub(crate) limit: u64,
    pub(crate) on_error: OnError,
    /// From the request to stop until lines are only counted.
    pub(crate) time_to_stop: Duration,
    pub(crate) stop: &'a Stop,
    pub(crate) console: &'a Console,
    pub(crate) so_far: &'a Cell<SoFar>,
    pub(crate) taken: Taken,
    /// The time to stop is up: lines are only counted.
    pub(crate) late: bool,
    pub(crate) journal: Option<Journal>,
}

/// An event as it is handed over: key and value.
type Owned = (Option<Vec<u8>>, Vec<u8>);

/// Events that go to the journal together.
pub(crate) struct Journal {
    /// The events, and the number of each one's line.
    gathered: Vec<(u64, Owned)>,
    limit: usize,
}

impl Journal {
    pub(crate) fn new(topic: &TopicConfig, on_error: OnError) -> Option<Self> {
        // Where one may be refused and the next not, or is to be the last, they go one by one.
        let one_by_one = on_error == OnError::Stop || topic.on_unavailable == OnUnavailable::Reject;
        let limit = if one_by_one { 1 } else { JOURNALED };
        (topic.durability == Durability::Journal).then(|| Self { gathered: Vec::new(), limit })
    }
}

impl Feeder<'_> {
    /// Hands over everything there is until the end of the input or the request to stop; then
    /// what has been read already.
    pub(crate) async fn feed(&mut self, mut blocks: Blocks) -> Result<End, Failure> {
        let mut lines = Lines::new(usize::try_from(self.limit).unwrap_or(usize::MAX));
        let mut stopping = None;
        let mut begun = false;
        let end = loop {
            let next = match stopping {
                None => tokio::select! {
                    biased;
                    signal = self.stop.asked() => {
                        blocks.stop();
                        stopping = Some(signal);
                        continue;
                    }
                    next = blocks.next() => next,
                },
                Some(_) => blocks.next_read().await,
            };
            let block = match (next, stopping) {
                (Some(Ok(block)), _) => block,
                (Some(Err(error)), _) => break End::Failed(error.to_string()),
                (None, Some(signal)) => break End::Signal(signal),
                (None, None) => break End::Failed("the thread that reads has died".to_owned()),
            };
            if block.is_end() {
                break End::OfInput;
            }
            if !std::mem::replace(&mut begun, true) && block.is_gzip() {
                let message = format!(
                    "{} is gzip; nothing was sent. Unpack it: zcat FILE | kafka-batcher ...",
                    self.name
                );
                return Err(Failure::new(report::UNUSABLE, message));
            }
            self.taken.bytes += block.bytes().len() as u64;
            let mut rest = block.bytes();
            while let Some(line) = lines.next(&mut rest) {
                self.taken.lines += 1;
                if let Some(end) = self.feed_line(line).await {
                    return Ok(end);
                }
            }
            blocks.recycle(block);
            if let Some(end) = self.journal().await {
                return Ok(end);
            }
            self.show();
            // Lets the progress display have its turn: otherwise nothing here ever waits.
            tokio::task::yield_now().await;
        };
        if end != End::OfInput {
            self.taken.unfinished = lines.unfinished();
        } else if let Some(line) = lines.finish() {
            self.taken.lines += 1;
            if let Some(early) = self.feed_line(line).await {
                return Ok(early);
            }
        }
        let early = self.journal().await;
        self.show();
        Ok(early.unwrap_or(end))
    }

    /// Hands one line over; gives the reason if it is to be the last.
    async fn feed_line(&mut self, line: Line<'_>) -> Option<End> {
        let bad = match line {
            Line::TooLong { bytes } => BadLine::TooLong { bytes, limit: self.limit },
            Line::Whole(line) => match self.parser.parse(line) {
                Ok(Parsed::Blank) => {
                    self.taken.blank += 1;
                    return None;
                }
                Ok(Parsed::Event { key, value, unseparated }) => {
                    self.taken.unseparated += u64::from(unseparated);
                    let number = self.taken.lines;
                    if let Some(journal) = &mut self.journal {
                        journal.gathered.push((number, (key.map(|key| key.to_vec()), value.to_vec())));
                        let full = journal.gathered.len() >= journal.limit;
                        return if full { self.journal().await } else { None };
                    }
                    let added = self.add(key.as_deref(), value).await;
                    return self.added(number, added);
                }
                Err(bad) => bad,
            },
        };
        let number = self.taken.lines;
        // The lines before it first, in case that it is to be the last.
        let before = self.journal().await;
        before.or_else(|| self.bad(number, &bad))
    }

    /// Takes down what became of an event.
    fn added(&mut self, number: u64, added: Result<bool, AddErrorKind>) -> Option<End> {
        let bad = match added {
            Ok(true) => {
                self.taken.events += 1;
                return None;
            }
            Ok(false) => {
                self.taken.too_late += 1;
                return None;
            }
            Err(AddErrorKind::Closed) => return Some(End::Failed("the batcher has closed".to_owned())),
            Err(AddErrorKind::TooLarge { size, limit }) => {
                BadLine::TooLong { bytes: size as u64, limit: limit as u64 }
            }
            Err(kind) => BadLine::Refused(kind.to_string()),
        };
        self.bad(number, &bad)
    }

    fn bad(&mut self, number: u64, bad: &BadLine) -> Option<End> {
        self.taken.bad += 1;
        if self.taken.bad <= SHOWN {
            self.console.error(format_args!("{}, line {number}: {bad}", self.name));
        } else if self.taken.bad == SHOWN + 1 {
            self.console.error("more lines are no events; they are counted and not shown");
        }
        (self.on_error == OnError::Stop).then_some(End::AtBadLine)
    }

    /// Puts what was gathered into the journal, if there is one, and waits until it is there.
    async fn journal(&mut self) -> Option<End> {
        let gathered = std::mem::take(&mut self.journal.as_mut()?.gathered);
        if gathered.is_empty() {
            return None;
        }
        self.show();
        let (numbers, events): (Vec<u64>, Vec<Owned>) = gathered.into_iter().unzip();
        if self.late {
            self.taken.too_late += numbers.len() as u64;
            return None;
        }
        let refused = tokio::select! {
            result = self.collector.add_events(events) => match result {
                Ok(_) => Vec::new(),
                Err(error) => error.refused,
            },
            () = self.stop.overdue(self.time_to_stop) => {
                // Some of them may be in it; how many is known at the end.
                self.late = true;
                self.taken.too_late += numbers.len() as u64;
                return None;
            }
        };
        self.taken.events += (numbers.len() - refused.len()) as u64;
        for (place, AddError { event: (key, value), kind }) in refused {
            let number = numbers.get(place).copied().unwrap_or_default();
            let added = match kind {
                AddErrorKind::Unavailable | AddErrorKind::StorageFull { .. } => {
                    self.add_patiently(key.as_deref(), &value).await
                }
                kind => Err(kind),
            };
            if let Some(end) = self.added(number, added) {
                return Some(end);
            }
        }
        None
    }

    /// Adds an event, waiting for room if there is none; `false` if the time to stop was up before.
    async fn add(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<bool, AddErrorKind> {
        if self.late {
            return Ok(false);
        }
        match self.collector.try_add((key, value)) {
            Ok(()) => return Ok(true),
            Err(AddError {
                kind:
                    AddErrorKind::Full
                    | AddErrorKind::NotReady
                    | AddErrorKind::Unavailable
                    | AddErrorKind::StorageFull { .. },
                ..
            }) => {}
            Err(error) => return Err(error.kind),
        }
        self.show();
        self.add_patiently(key, value).await
    }

    /// The same, when it has been tried.
    async fn add_patiently(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<bool, AddErrorKind> {
        let wait = async {
            loop {
                match self.collector.add((key, value)).await {
                    Ok(()) => return Ok(true),
                    Err(AddError {
                        kind: AddErrorKind::Unavailable | AddErrorKind::StorageFull { .. },
                        ..
                    }) => tokio::time::sleep(REFUSED).await,
                    Err(error) => return Err(error.kind),
                }
            }
        };
        let overdue = self.stop.overdue(self.time_to_stop);
        tokio::select! {
            result = wait => result,
            () = overdue => {
                self.late = true;
                Ok(false)
            }
        }
    }

    fn show(&self) {
        let Taken { bytes, events, bad, .. } = self.taken;
        self.so_far.set(SoFar { bytes, events, bad });
    }
}
