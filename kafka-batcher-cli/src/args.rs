//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Gets events into Kafka in batches, in order, and keeps them while Kafka is down.
#[derive(Debug, Parser)]
#[command(name = "kafka-batcher", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Produce(Box<ProduceArgs>),
    #[cfg(feature = "sled")]
    #[command(subcommand)]
    Spool(crate::spool::args::SpoolCommand),
    #[cfg(feature = "metrics")]
    Top(crate::top::TopArgs),
    Demo(DemoArgs),
}

/// Pipe a file or standard input into Kafka, one event a line
///
/// A line's bytes are the event's value, unchanged; empty lines are skipped. A line that is no event (invalid
/// JSON, no such key field, too long) is reported with its number and the others are sent all the same.
/// While Kafka is unavailable, events are kept in the spool if there is one (--spool), where they survive the end of this
/// program, or else in memory; when that is used up, reading waits.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct ProduceArgs {
    /// Topic to send to
    #[arg(short, long, value_name = "TOPIC")]
    pub(crate) topic: String,

    /// File to send; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,

    /// Where Kafka is, separated by commas [default: `endpoints` of --config, then $KAFKA_BATCHER_BOOTSTRAP]
    #[arg(short, long, value_name = "HOST:PORT", conflicts_with = "embedded")]
    pub(crate) brokers: Option<String>,

    /// Try it without Kafka: send to a broker inside this program, which is gone when it ends
    #[arg(long)]
    pub(crate) embedded: bool,

    /// What a line is: anything, or JSON, which is then checked [default: lines; json with --key-field]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// Field of the line's JSON object whose content is the key: text, or a number as it is written; null is no key
    #[arg(long, value_name = "FIELD", conflicts_with = "key_separator")]
    pub(crate) key_field: Option<String>,

    /// What separates key and value; a line without it has no key. \t, \r, \\ and \xNN are understood
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_separator: Option<String>,

    /// How an event finds its partition: random, sticky, round_robin, murmur2, crc32, fnv1a, phash2
    /// [default: murmur2 with a key, which is Java's default; else sticky]
    #[arg(long, value_name = "NAME")]
    pub(crate) partition_strategy: Option<String>,

    /// Events that make a batch ready [default: 10000]
    #[arg(long, value_name = "EVENTS")]
    pub(crate) batch_size: Option<u32>,

    /// Longest time an event waits for its batch to fill [default: 50]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) max_wait_time: Option<u32>,

    /// Largest batch, and so about the largest event; Kafka's own default limit is 1048588 [default: 1000000]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_batch_bytesize: Option<u32>,

    /// Replicas that must have an event before it counts as delivered [default: all]
    #[arg(long, value_enum)]
    pub(crate) acks: Option<Acks>,

    /// Compression on the way to the brokers [default: none]
    #[arg(long, value_enum)]
    pub(crate) compression: Option<Compression>,

    /// Create the topic if it does not exist
    #[arg(long)]
    pub(crate) create_topic: bool,

    /// Partitions of a topic created so [default: the broker's; 4 with --embedded]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) partitions: Option<u32>,

    /// Replicas of a topic created so [default: the broker's]
    #[arg(long, value_name = "NUMBER", requires = "create_topic", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) replication: Option<u32>,

    /// Memory for events that Kafka does not have yet, and as much again while it is unavailable [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_bytes: Option<u64>,

    #[cfg(feature = "sled")]
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,

    /// When an event counts as accepted: in memory, or in the spool, so that even `kill -9` loses nothing that was read
    /// [default: memory]
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Durability>,

    /// Kafka client to use; which there are depends on how this program was built
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,

    /// A property of librdkafka's; may be repeated. A password is better off in the --config file
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<String>,

    #[cfg(feature = "metrics")]
    #[command(flatten)]
    pub(crate) listen: ListenArgs,

    /// TOML file with the whole configuration (endpoints, sasl, ssl, batches, ...); options given here win over it
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,

    /// Give up if Kafka or the topic can't be had for so long at the start (a topic that does not exist: 5 at most). With
    /// --spool only a topic that does not exist ends it: while Kafka is away, events are read and stored
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) connect_timeout: std::time::Duration,

    /// On Ctrl-C and SIGTERM: time to deliver what was read
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) deadline: std::time::Duration,

    /// At the end of the input: give up when nothing at all could be delivered for so long [default: 300; with --spool,
    /// where the rest is safe: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) patience: Option<std::time::Duration>,

    /// Longest line [default: the batch limit]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_line: Option<u64>,

    /// At a line that is no event: report it and go on, or stop there
    #[arg(long, value_enum, default_value_t)]
    pub(crate) on_error: OnError,

    /// No progress on the terminal
    #[arg(long)]
    pub(crate) no_progress: bool,

    /// Neither progress nor notices nor a final report, unless something went wrong
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Where the program can be looked at from outside.
#[cfg(feature = "metrics")]
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Serve /metrics, /healthz and /readyz over HTTP there, as long as the program runs; port 0 is any that is free.
    /// Everybody who can reach the address is answered: there is no authentication
    #[arg(id = "listen", long = "listen", value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,

    /// What the names of all metrics begin with; prom_ex_kafka is the Elixir library's
    #[arg(
        long = "metrics-prefix",
        value_name = "NAME",
        default_value = "kafka_batcher",
        requires = "listen"
    )]
    pub(crate) prefix: String,

    /// One series a topic instead of one a partition, for topics with very many partitions
    #[arg(long = "no-partition-labels", requires = "listen")]
    pub(crate) no_partition_labels: bool,
}

/// Where events are kept so that they survive the end of the program.
#[cfg(feature = "sled")]
#[derive(Debug, Args)]
pub(crate) struct SpoolArgs {
    /// Folder for events that Kafka does not have yet, made if it is not there; one process at a time. What an earlier run
    /// left there is sent first [default: `path` in `[spool]` of --config, or else memory]
    #[arg(id = "spool", long = "spool", value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,

    /// Most bytes the spool may take on the disk; when that is used up, reading waits [default: 1073741824]
    #[arg(long = "spool-quota", value_name = "BYTES")]
    pub(crate) quota: Option<u64>,

    /// What a stored event survives: a crash of the system, too, or only the end of the program [default: disk]
    #[arg(long = "spool-level", value_enum)]
    pub(crate) level: Option<Level>,
}

/// What a stored event survives.
#[cfg(feature = "sled")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The end of the process, not that of the machine
    Os,
    /// A power cut, too: forced to the disk
    Disk,
}

/// When an event counts as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    Memory,
    Journal,
}

impl Durability {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Journal => "journal",
        }
    }
}

/// Send a sample of real flights to a broker inside this program, take the broker away, and count what arrived
///
/// Reads every partition back and reports what was accepted, delivered and lost, whether the order of each key
/// was kept, and how many events arrived twice. The exit code is 0 only if nothing was lost and the order kept.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Events to send
    #[arg(long, value_name = "NUMBER", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub(crate) events: u64,

    /// How long the broker is away; 0 for no outage
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(crate) outage: std::time::Duration,
}

const EXIT_CODES: &str = "\
Exit code:
  0    every event is in Kafka or, with --spool, stored there; the report says how many
  1    events were lost, dead-lettered, or were still in memory only when the time was up
  2    the options, the configuration, the spool (another process has it) or the input file can't be used; nothing was sent
  3    some lines were no events, or reading failed; every other event is in Kafka or the spool
  4    Kafka could not be reached, or the topic does not exist; nothing was sent
  130, 143  stopped by Ctrl-C or SIGTERM before the end of FILE; what was read until then is in Kafka
       or the spool. Standard input has no end of its own: stopped there, the exit code is 0";

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Lines,
    Json,
}

/// The Kafka client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// librdkafka
    #[default]
    Rdkafka,
    /// rskafka, in pure Rust
    #[cfg(feature = "rskafka")]
    Rskafka,
}

/// What to do at a line that is no event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    #[default]
    Skip,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    #[value(alias = "-1")]
    All,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "0", alias = "none")]
    None,
}

impl Acks {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::All => -1,
            Self::Leader => 1,
            Self::None => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A day at most, so that no arithmetic with it overflows.
pub(crate) fn seconds(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=86_400.0).contains(seconds))
        .map(std::time::Duration::from_secs_f64)
        .ok_or_else(|| "not a number of seconds from 0 to 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_seconds() {
        use std::time::Duration;
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for bad in ["-1", "86401", "NaN", "inf", "1e300", "", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
