//! `kafka-batcher produce`: lines in, events out.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use kafka_batcher::{
    AddError, AddErrorKind, Collector, KafkaBatcher, KafkaConfig, MemoryStorage, TopicConfig,
};
use kafka_batcher_testkit::embedded::EmbeddedBroker;

use crate::args::{Backend, Format, OnError, ProduceArgs};
use crate::connect::Wait;
use crate::console::Console;
use crate::format::counted;
use crate::input::{Blocks, Input};
use crate::key::{BadLine, Keying, LineParser, Parsed, separator};
use crate::lines::{Line, Lines};
use crate::progress::{self, Snapshot, Speedometer};
use crate::report::{self, End, Fate, Outcome, Taken};
use crate::signals::Stop;
use crate::troubles::Troubles;
use crate::{Failure, settings};

/// Partitions of the embedded broker's topic, if no number is given.
const EMBEDDED_PARTITIONS: u32 = 4;
/// Bad lines that are shown one by one; the rest is only counted.
const SHOWN: u64 = 50;
/// Time between two looks at whether everything is delivered, while something is stored.
const LOOK: Duration = Duration::from_millis(20);
/// Time between two progress lines where there is no terminal.
const PLAIN_PROGRESS: Duration = Duration::from_secs(5);
/// The same for the bar.
const BAR_PROGRESS: Duration = Duration::from_millis(100);
/// Time between two tries while Kafka is unavailable and the configuration says to refuse events then.
const REFUSED: Duration = Duration::from_millis(50);
/// Part of the deadline that is kept for ending the client; at most half of it.
const CLOSING: Duration = Duration::from_secs(2);

/// Runs the command and gives the exit code.
pub(crate) async fn produce(args: &ProduceArgs, mut console: Console) -> Result<u8, Failure> {
    let unusable = |message: String| Failure::new(report::UNUSABLE, message);
    let failed = |message: String| Failure::new(report::NOT_DELIVERED, message);

    let parser = parser(args).map_err(unusable)?;
    let input = Input::open(&args.file).map_err(unusable)?;
    let broker = embedded(args).map_err(failed)?;
    let address = broker.as_ref().map(EmbeddedBroker::bootstrap);
    let environment = std::env::var(settings::BOOTSTRAP).ok();
    let keyed = parser.keying != Keying::None;
    let config =
        settings::config(args, keyed, address.as_deref(), environment.as_deref()).map_err(unusable)?;
    let brokers = config.endpoints().map_err(|e| unusable(e.to_string()))?.join(",");
    let topic = topic(&config, &args.topic).map_err(unusable)?;

    let stop = listen(&console).map_err(failed)?;
    let troubles = Troubles::new(console.clone());
    // What is stored while Kafka is away is in memory as well, so the same limit holds for it.
    let storage = MemoryStorage::new(config.limits().max_memory_bytes as u64);
    let unfit = |problem: &dyn std::fmt::Display| unusable(format!("configuration: {problem}"));
    let builder = KafkaBatcher::builder().storage(storage).notifier(troubles.clone());
    let builder = match args.backend {
        Backend::Rdkafka => builder,
        #[cfg(feature = "rskafka")]
        Backend::Rskafka => {
            let producer = kafka_batcher::rskafka::RskafkaProducer::new(&config);
            builder.producer(producer.map_err(|e| unfit(&e))?)
        }
    };
    let batcher = builder.config(config).build().map_err(|e| unfit(&e))?;
    let collector = batcher
        .collector(&args.topic)
        .ok_or_else(|| failed(format!("topic {} is not configured", args.topic)))?;
    if broker.is_some() {
        console.note("sending to a broker inside this program: nothing is left when it ends");
    }
    let creates = topic.allow_topic_auto_creation;
    let wait = Wait { brokers: &brokers, topic: &args.topic, creates, timeout: args.connect_timeout };
    wait.until_ready(&collector, &troubles, &console, &stop).await?;
    troubles.show();

    let typed = input.is_typed();
    if typed {
        console.note("reading from the terminal, one event a line; Ctrl-D ends the input");
    }
    // Somebody who types does not want to be overwritten all the time.
    let progress = if args.quiet || args.no_progress || typed {
        None
    } else {
        Some(if console.show_bar(input.size) { BAR_PROGRESS } else { PLAIN_PROGRESS })
    };
    let (name, is_file) = (input.name.clone(), input.is_file);
    let blocks = input.start().map_err(|e| failed(format!("can't read {name}: {e}")))?;
    let start = Instant::now();
    let so_far = Cell::new(SoFar::default());
    let time_to_stop = args.deadline - CLOSING.min(args.deadline / 2);
    let mut feeder = Feeder {
        parser,
        collector,
        name: &name,
        limit: args.max_line.unwrap_or_else(|| topic.max_batch_bytesize.get() as u64),
        on_error: args.on_error,
        time_to_stop,
        stop: &stop,
        console: &console,
        so_far: &so_far,
        taken: Taken::default(),
        late: false,
    };
    let work = async {
        let end = feeder.feed(blocks).await?;
        deliver(&batcher, args.patience, stop.overdue(time_to_stop)).await;
        Ok(end)
    };
    let end = tokio::select! {
        end = work => end,
        never = show_progress(&batcher, &so_far, &console, start, progress) => match never {},
    };
    let elapsed = start.elapsed();
    console.clear_bar();
    let taken = feeder.taken;
    let end: End = end?;
    // All the time there is for delivering has been given already.
    let fate = Fate::from(&batcher.shutdown(Duration::ZERO).await);

    let outcome = Outcome { topic: args.topic.clone(), input: name, is_file, taken, fate, end, elapsed };
    let code = outcome.exit_code();
    if !args.quiet || code != report::OK {
        console.result(&outcome);
    }
    Ok(code)
}

fn parser(args: &ProduceArgs) -> Result<LineParser, String> {
    let keying = match (&args.key_field, &args.key_separator) {
        (Some(_), _) if args.format == Some(Format::Lines) => {
            return Err("--key-field needs JSON: leave out --format lines".to_owned());
        }
        (Some(field), _) => Keying::Field(field.clone()),
        (None, Some(text)) => {
            let separator =
                separator(text).map_err(|problem| format!("--key-separator can't be used: {problem}"))?;
            Keying::Separator(separator)
        }
        (None, None) => Keying::None,
    };
    let json = args.format.map_or_else(|| args.key_field.is_some(), |format| format == Format::Json);
    Ok(LineParser { keying, json })
}

fn embedded(args: &ProduceArgs) -> Result<Option<EmbeddedBroker>, String> {
    if !args.embedded {
        return Ok(None);
    }
    let broker = EmbeddedBroker::start(1).map_err(|e| e.to_string())?;
    broker
        .create_topic(&args.topic, args.partitions.unwrap_or(EMBEDDED_PARTITIONS))
        .map_err(|e| e.to_string())?;
    Ok(Some(broker))
}

fn topic(config: &KafkaConfig, name: &str) -> Result<TopicConfig, String> {
    match config.topic(name) {
        Ok(Some(topic)) => Ok(topic),
        Ok(None) => Err(format!("topic {name} is not configured")),
        Err(e) => Err(format!("configuration: {e}")),
    }
}

fn listen(console: &Console) -> Result<Stop, String> {
    let console = console.clone();
    let at_once = move |signal: crate::signals::Signal| {
        console.clear_bar();
        console.error(format!("{signal} again: ended at once; what was in memory is gone"));
        std::process::exit(signal.exit_code().into());
    };
    Stop::listen(at_once).map_err(|e| format!("can't listen for signals: {e}"))
}

/// What the progress display shows of the input.
#[derive(Clone, Copy, Default)]
struct SoFar {
    bytes: u64,
    events: u64,
    bad: u64,
}

/// Hands lines to the batcher.
struct Feeder<'a> {
    parser: LineParser,
    collector: Collector,
    name: &'a str,
    limit: u64,
    on_error: OnError,
    /// From the request to stop until lines are only counted.
    time_to_stop: Duration,
    stop: &'a Stop,
    console: &'a Console,
    so_far: &'a Cell<SoFar>,
    taken: Taken,
    /// The time to stop is up: lines are only counted.
    late: bool,
}

impl Feeder<'_> {
    /// Hands over everything there is until the end of the input or the request to stop; then
    /// what has been read already.
    async fn feed(&mut self, mut blocks: Blocks) -> Result<End, Failure> {
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
        self.show();
        Ok(end)
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
                    match self.add(key.as_deref(), value).await {
                        Ok(true) => {
                            self.taken.events += 1;
                            self.taken.unseparated += u64::from(unseparated);
                            return None;
                        }
                        Ok(false) => {
                            self.taken.too_late += 1;
                            return None;
                        }
                        Err(AddErrorKind::Closed) => {
                            return Some(End::Failed("the batcher has closed".to_owned()));
                        }
                        Err(AddErrorKind::TooLarge { size, limit }) => {
                            BadLine::TooLong { bytes: size as u64, limit: limit as u64 }
                        }
                        Err(kind) => BadLine::Refused(kind.to_string()),
                    }
                }
                Err(bad) => bad,
            },
        };
        self.taken.bad += 1;
        if self.taken.bad <= SHOWN {
            self.console.error(format_args!("{}, line {}: {bad}", self.name, self.taken.lines));
        } else if self.taken.bad == SHOWN + 1 {
            self.console.error("more lines are no events; they are counted and not shown");
        }
        (self.on_error == OnError::Stop).then_some(End::AtBadLine)
    }

    /// Adds an event, waiting for room if there is none; `false` if the time to stop was up before.
    async fn add(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<bool, AddErrorKind> {
        if self.late {
            return Ok(false);
        }
        match self.collector.try_add((key, value)) {
            Ok(()) => return Ok(true),
            Err(AddError {
                kind: AddErrorKind::Full | AddErrorKind::NotReady | AddErrorKind::Unavailable,
                ..
            }) => {}
            Err(error) => return Err(error.kind),
        }
        self.show();
        let wait = async {
            loop {
                match self.collector.add((key, value)).await {
                    Ok(()) => return Ok(true),
                    Err(AddError { kind: AddErrorKind::Unavailable, .. }) => {
                        tokio::time::sleep(REFUSED).await
                    }
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

/// Waits until everything is delivered, or nothing was for `patience`, or the time to stop is up.
async fn deliver(batcher: &KafkaBatcher, patience: Duration, time_is_up: impl Future<Output = ()>) {
    let delivered = async {
        batcher.flush().await;
        loop {
            let stats = batcher.stats();
            if stats.in_memory == 0 && stats.stored == 0 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let stalled = async {
        let mut last = (0, Instant::now());
        while last.1.elapsed() <= patience {
            tokio::time::sleep(LOOK).await;
            let delivered = batcher.stats().delivered;
            if delivered != last.0 {
                last = (delivered, Instant::now());
            }
        }
    };
    tokio::select! {
        () = delivered => {}
        () = stalled => {}
        () = time_is_up => {}
    }
}

/// Shows how it goes, for ever, and says when Kafka goes away and comes back.
async fn show_progress(
    batcher: &KafkaBatcher,
    so_far: &Cell<SoFar>,
    console: &Console,
    start: Instant,
    interval: Option<Duration>,
) -> Infallible {
    let mut speed = Speedometer::new(start);
    let mut connected = true;
    // The most that was stored since nothing was.
    let mut kept = 0;
    let mut ticks = tokio::time::interval(BAR_PROGRESS);
    let mut shown = start;
    loop {
        ticks.tick().await;
        let stats = batcher.stats();
        if stats.connected != connected {
            connected = stats.connected;
            console.note(if connected {
                "Kafka is back: what was kept is being sent"
            } else {
                "Kafka is not to be reached: events are kept in memory until it is back"
            });
        }
        if stats.stored == 0 && kept > 0 {
            console.note(format_args!("everything that was kept is in Kafka: {}", counted(kept, "event")));
            kept = 0;
        }
        kept = kept.max(stats.stored);
        let SoFar { bytes, events, bad } = so_far.get();
        let now = Instant::now();
        let line = progress::Line {
            bytes_per_second: speed.read(now, bytes),
            now: Snapshot {
                events,
                in_memory: stats.in_memory,
                stored: stats.stored,
                delivered: stats.delivered,
                errors: bad + stats.failures + stats.dead_lettered + stats.lost,
            },
        };
        match interval {
            Some(BAR_PROGRESS) => console.update_bar(bytes, &line),
            Some(interval) if now.duration_since(shown) >= interval => {
                shown = now;
                console.note(line);
            }
            _ => {}
        }
    }
}
