//! The command line of `kafka-batcher spool`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use kafka_batcher::LaneId;

use crate::args::{Backend, seconds};

const EXIT_CODES: &str = "\
Exit code:
  0    done
  2    the folder is no spool, a process is using it, or the options can't be used; nothing was changed";

const EXIT_CODES_VERIFY: &str = "\
Exit code:
  0    everything is there and sound
  1    something is missing or damaged: what could be saved is in the spool, damaged files are kept as quarantine-…
  2    the folder is no spool, or a process is using it";

const EXIT_CODES_REPLAY: &str = "\
Exit code:
  0    everything that was stored is in Kafka
  1    some is not: it is still in the spool, or among its dead letters
  2    the folder is no spool, a process is using it, or the options can't be used; nothing was sent
  4    Kafka could not be reached; everything is still in the spool
  130, 143  stopped by Ctrl-C or SIGTERM; what is not in Kafka is still in the spool";

/// Look at what `produce --spool` keeps, and work on it
///
/// A spool is changed by one process at a time: while `produce`, or an application, is using it, only `ls` and `peek`
/// can look at it.
#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    Ls(LsArgs),
    Peek(PeekArgs),
    Export(ExportArgs),
    Requeue(RequeueArgs),
    Verify(VerifyArgs),
    Replay(Box<ReplayArgs>),
    Purge(PurgeArgs),
}

/// List the lanes: a partition of a topic each, and the events that have no partition yet
///
/// Also while a process is using the spool: it reads the files and changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct LsArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the oldest events of each lane
///
/// Also while a process is using the spool: it reads the files and changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct PeekArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) which: Which,

    /// Events of each lane
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10)]
    pub(crate) count: u64,

    /// One JSON object an event, as `export` writes them
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write all events as JSON, one object a line
///
/// Nothing is removed. Keys, values and headers are text where they are UTF-8 (`"key"`), or else Base64 (`"key_base64"`).
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct ExportArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) which: Which,
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only this lane: TOPIC/PARTITION, or TOPIC/unassigned
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub(crate) lane: Option<LaneId>,

    /// Only this topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "lane")]
    pub(crate) topic: Option<String>,

    /// The dead letters instead: records that Kafka refused for good or that were too old to be sent, each with the reason
    #[arg(long)]
    pub(crate) dead: bool,
}

impl Which {
    pub(crate) fn wants(&self, lane: &LaneId) -> bool {
        self.lane.as_ref().is_none_or(|wanted| wanted == lane)
            && self.topic.as_ref().is_none_or(|topic| **topic == *lane.topic)
    }
}

/// Put dead letters back into the lanes they were meant for, to be sent with the others
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct RequeueArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    /// Only those of this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// Only those that died of this: transient, permanent, denied, too_large, unknown_topic, fatal, expired
    #[arg(long, value_name = "KIND", value_parser = ["transient", "permanent", "denied", "too_large", "unknown_topic", "fatal", "expired"])]
    pub(crate) kind: Option<String>,

    /// One JSON object instead of a sentence
    #[arg(long)]
    pub(crate) json: bool,
}

/// Read everything: checksums, gaps, whether every batch can be decoded
///
/// What is damaged is saved as far as it can be read; the damaged files are kept beside it.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES_VERIFY)]
pub(crate) struct VerifyArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Send everything to Kafka, in order, and report
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES_REPLAY)]
pub(crate) struct ReplayArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    /// Only this topic; may be repeated
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,

    /// Where Kafka is, separated by commas [default: `endpoints` of --config, then $KAFKA_BATCHER_BOOTSTRAP]
    #[arg(short, long, value_name = "HOST:PORT")]
    pub(crate) brokers: Option<String>,

    /// TOML file with the configuration (endpoints, sasl, ssl, topics, ...), as for `produce`
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,

    /// How an event finds its partition, if it has none yet [default: murmur2, which is what `produce` does with keys]
    #[arg(long, value_name = "NAME")]
    pub(crate) partition_strategy: Option<String>,

    /// Kafka client to use; which there are depends on how this program was built
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,

    /// A property of librdkafka's; may be repeated. A password is better off in the --config file
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<String>,

    #[cfg(feature = "metrics")]
    #[command(flatten)]
    pub(crate) listen: crate::args::ListenArgs,

    /// Send no more than so many events a second [default: `replay_rate` of --config, or as fast as Kafka takes them]
    #[arg(long, value_name = "EVENTS")]
    pub(crate) rate: Option<NonZeroU32>,

    /// Events older than this go to the dead letters instead [default: `max_age` of --config, or events of any age are sent]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) max_age: Option<u64>,

    /// Give up when nothing at all could be delivered for so long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) patience: Duration,

    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Delete events for good
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct PurgeArgs {
    /// The spool
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) what: PurgeWhat,

    /// Do it; without this it only says what would go
    #[arg(long)]
    pub(crate) yes: bool,

    /// One JSON object instead of a sentence
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to delete.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PurgeWhat {
    /// The events of this lane: TOPIC/PARTITION, or TOPIC/unassigned
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub(crate) lane: Option<LaneId>,

    /// The events of this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// All dead letters
    #[arg(long)]
    pub(crate) dead: bool,

    /// All events and all dead letters
    #[arg(long)]
    pub(crate) all: bool,
}

/// As [`LaneId`] shows itself.
fn lane(text: &str) -> Result<LaneId, String> {
    let lane = text.rsplit_once('/').filter(|(topic, _)| !topic.is_empty()).and_then(|(topic, partition)| {
        match partition {
            "unassigned" => Some(LaneId::unassigned(topic)),
            number => number.parse().ok().map(|number| LaneId::partition(topic, number)),
        }
    });
    lane.ok_or_else(|| "not TOPIC/PARTITION or TOPIC/unassigned".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Cli;

    /// docs/spool.md shows commands as they were typed.
    #[test]
    fn the_walk_through_uses_commands_that_there_are_and_all_of_them() {
        let text = include_str!("../../../docs/spool.md");
        let mut spool_commands = std::collections::BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let Some((_, command)) = line.split_once("kafka-batcher ") else { continue };
            let words: Vec<&str> = command.split_whitespace().take_while(|word| *word != ">").collect();
            let parsed = Cli::try_parse_from(std::iter::once("kafka-batcher").chain(words.iter().copied()));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            spool_commands.extend(words.strip_prefix(&["spool"]).and_then(|words| words.first()));
        }
        let spool = Cli::command().find_subcommand("spool").unwrap().clone();
        let all: std::collections::BTreeSet<&str> =
            spool.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "help").collect();
        assert_eq!(spool_commands, all);
    }

    #[test]
    fn a_lane_is_read_as_it_is_shown() {
        for id in [LaneId::partition("a.b", 3), LaneId::unassigned("x")] {
            assert_eq!(lane(&id.to_string()), Ok(id));
        }
        for bad in ["", "a", "/1", "a/", "a/-1", "a/x", "a/4294967296"] {
            assert!(lane(bad).is_err(), "{bad}");
        }
    }
}
