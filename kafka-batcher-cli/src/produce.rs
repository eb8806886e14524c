//! `kafka-batcher produce`: lines in, events out.

use std::cell::Cell;
use std::time::{Duration, Instant};

use kafka_batcher::{Durability, KafkaBatcher, KafkaConfig, TopicConfig};
use kafka_batcher_testkit::embedded::EmbeddedBroker;

use crate::args::{Backend, Format, ProduceArgs};
use crate::connect::Wait;
use crate::console::Console;
use crate::feed::{Feeder, Journal, SoFar};
use crate::format::counted;
use crate::input::Input;
use crate::keep::Keep;
use crate::key::{Keying, LineParser, separator};
use crate::report::{self, End, Fate, Outcome, Taken};
use crate::show::{BAR_PROGRESS, PLAIN_PROGRESS, Shown, show_progress};
use crate::signals::Stop;
use crate::troubles::Troubles;
use crate::{Failure, settings};

/// Partitions of the embedded broker's topic, if no number is given.
const EMBEDDED_PARTITIONS: u32 = 4;
/// Time between two looks at whether everything is delivered, while something is stored.
const LOOK: Duration = Duration::from_millis(20);
/// Part of the deadline that is kept for ending the client; at most half of it.
const CLOSING: Duration = Duration::from_secs(2);

/// How long nothing at all may be delivered at the end of the input, if nothing else is said: without a spool,
const PATIENCE: Duration = Duration::from_secs(300);
/// with one, where what is left is safe,
const PATIENCE_STORED: Duration = Duration::from_secs(10);
/// and with one when the program was asked to stop.
const PATIENCE_STOPPED: Duration = Duration::from_secs(1);

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
    let settings = settings::config(args, keyed, address.as_deref(), environment.as_deref());
    let settings::Settings { kafka: config, spool } = settings.map_err(unusable)?;
    let brokers = config.endpoints().map_err(|e| unusable(e.to_string()))?.join(",");
    let topic = topic(&config, &args.topic).map_err(unusable)?;

    #[cfg(feature = "metrics")]
    let listen = crate::listen::Listen::bind(&args.listen, &config).map_err(unusable)?;

    let stop = signals(&console).map_err(failed)?;
    let troubles = Troubles::new(console.clone());
    let keep = keep(args, spool.as_ref(), &config, &topic).await.map_err(unusable)?;
    let unfit = |problem: &dyn std::fmt::Display| unusable(format!("configuration: {problem}"));
    let mut builder = KafkaBatcher::builder().shared_storage(keep.storage()).notifier(troubles.clone());
    if let Some(dead_letter) = keep.dead_letter() {
        builder = builder.shared_dead_letter(dead_letter);
    }
    #[cfg(feature = "metrics")]
    if let Some(listen) = &listen {
        builder = listen.counts(builder);
    }
    let builder = match args.backend {
        Backend::Rdkafka => builder,
        #[cfg(feature = "rskafka")]
        Backend::Rskafka => {
            let producer = kafka_batcher::rskafka::RskafkaProducer::new(&config);
            builder.producer(producer.map_err(|e| unfit(&e))?)
        }
    };
    let batcher = builder.config(config).build().map_err(|e| unfit(&e))?;
    // Answers until the end of this function.
    #[cfg(feature = "metrics")]
    let _server = listen.map(|listen| listen.serve(&batcher, &console)).transpose().map_err(failed)?;
    let collector = batcher
        .collector(&args.topic)
        .ok_or_else(|| failed(format!("topic {} is not configured", args.topic)))?;
    if broker.is_some() {
        console.note("sending to a broker inside this program: nothing is left when it ends");
    }
    let creates = topic.allow_topic_auto_creation;
    say_what_was_found(&keep, &console);
    let stores = keep.spool().is_some();
    let wait = Wait { brokers: &brokers, topic: &args.topic, creates, timeout: args.connect_timeout, stores };
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
        journal: Journal::new(&topic, args.on_error),
    };
    let work = async {
        let end = feeder.feed(blocks).await?;
        let patience = match end {
            End::Signal(_) if stores => PATIENCE_STOPPED,
            _ => args.patience.unwrap_or(if stores { PATIENCE_STORED } else { PATIENCE }),
        };
        deliver(&batcher, patience, stop.overdue(time_to_stop)).await;
        Ok(end)
    };
    let shown = Shown {
        so_far: &so_far,
        console: &console,
        start,
        interval: progress,
        stores,
        journal: topic.durability == Durability::Journal,
    };
    let end = tokio::select! {
        end = work => end,
        never = show_progress(&batcher, shown) => match never {},
    };
    let elapsed = start.elapsed();
    console.clear_bar();
    let mut taken = feeder.taken;
    let end: End = end?;
    // All the time there is for delivering has been given already.
    let ended = batcher.shutdown(Duration::ZERO).await;
    // What was on its way to the journal when the time was up is known only now.
    taken.too_late -= ended.accepted.saturating_sub(taken.events).min(taken.too_late);
    taken.events = taken.events.max(ended.accepted);
    let spool = keep.spool().map(|folder| report::Spool {
        folder: folder.display().to_string(),
        found: keep.found,
        damaged: keep.damaged,
    });
    let fate = Fate::from(&ended);
    let mut outcome =
        Outcome { topic: args.topic.clone(), input: name, is_file, taken, fate, spool, end, elapsed };
    // Events of partitions that the topic no longer has are no lane's, and stay in the spool.
    let unclaimed = keep.held(&args.topic).await.saturating_sub(outcome.fate.stored);
    outcome.fate.stored += outcome.missing().min(unclaimed);
    let code = outcome.exit_code();
    if !args.quiet || code != report::OK {
        console.result(&outcome);
    }
    Ok(code)
}

/// The spool, if there is to be one, or else memory.
async fn keep(
    args: &ProduceArgs,
    spool: Option<&toml::Value>,
    config: &KafkaConfig,
    topic: &TopicConfig,
) -> Result<Keep, String> {
    #[cfg(feature = "sled")]
    if let Some(options) = crate::spool::settings::options(&args.spool, spool)? {
        return Keep::in_spool(options, &args.topic).await;
    }
    #[cfg(not(feature = "sled"))]
    if spool.is_some() {
        return Err(
            "configuration, [spool]: this program was built without spools (feature `sled`)".to_owned()
        );
    }
    if topic.durability == Durability::Journal {
        let option =
            if args.durability.is_some() { "--durability journal" } else { "durability = \"journal\"" };
        return Err(format!("{option} needs a spool: give --spool DIR"));
    }
    // What is stored while Kafka is away is in memory as well, so the same limit holds for it.
    Ok(Keep::in_memory(config.limits().max_memory_bytes as u64))
}

fn say_what_was_found(keep: &Keep, console: &Console) {
    let Some(spool) = keep.spool().map(std::path::Path::display) else { return };
    if keep.damaged > 0 {
        let lost = counted(keep.damaged, "event");
        console.error(format_args!("the spool {spool} is damaged: {lost} of an earlier run are gone"));
    }
    if keep.found > 0 {
        let found = counted(keep.found, "event");
        console.note(format_args!("{found} of an earlier run are in the spool {spool}, and go first"));
    }
    if keep.others > 0 {
        let others = counted(keep.others, "event");
        console.note(format_args!(
            "{others} of other topics are in the spool {spool}, and stay; `kafka-batcher spool replay` sends them"
        ));
    }
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

fn signals(console: &Console) -> Result<Stop, String> {
    let console = console.clone();
    let at_once = move |signal: crate::signals::Signal| {
        console.clear_bar();
        console.error(format!("{signal} again: ended at once; what was in memory is gone"));
        std::process::exit(signal.exit_code().into());
    };
    Stop::listen(at_once).map_err(|e| format!("can't listen for signals: {e}"))
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
