//! The batcher's configuration: the file's, the command line's, and this program's defaults.
//!
//! All of it is put into one TOML table and given to [`KafkaConfig`] from there, so that there is one
//! set of rules and one set of messages whether a setting comes from the file or from an option.

use std::path::Path;

use kafka_batcher::KafkaConfig;
use serde::Deserialize;
use toml::{Table, Value};

use crate::args::ProduceArgs;

/// Environment variable that says where Kafka is.
pub(crate) const BOOTSTRAP: &str = "KAFKA_BATCHER_BOOTSTRAP";

/// The settings of a run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) kafka: KafkaConfig,
    /// The file's `[spool]`, which is this program's own.
    pub(crate) spool: Option<Value>,
}

/// The configuration of a run.
///
/// `endpoints` is the embedded broker's address; `environment` is the content of [`BOOTSTRAP`].
///
/// # Errors
/// What is wrong, in words, without any value that may be a secret.
pub(crate) fn config(
    args: &ProduceArgs,
    keyed: bool,
    embedded: Option<&str>,
    environment: Option<&str>,
) -> Result<Settings, String> {
    let mut table = file(args.config.as_deref())?;
    let spool = table.remove("spool");
    let topic = topic_table(args, keyed, &mut table)?;
    table.insert("topics".to_owned(), Value::Array(vec![Value::Table(topic)]));

    if let Some(endpoints) = embedded {
        // The embedded broker knows neither.
        table.remove("sasl");
        table.remove("ssl");
        table.insert("endpoints".to_owned(), endpoints.into());
    } else {
        endpoints(args.brokers.as_deref(), environment, &mut table).ok_or_else(|| {
            format!("where is Kafka? Give --brokers HOST:PORT, set {BOOTSTRAP}, or try it without Kafka with --embedded")
        })?;
    }
    if let Some(bytes) = args.memory_bytes {
        table.insert("max_memory_bytes".to_owned(), number("--memory-bytes", bytes)?);
    }
    properties(&args.properties, &mut table)?;
    Ok(Settings { kafka: parse(table)?, spool })
}

/// The table of a configuration file, or an empty one.
fn file(path: Option<&Path>) -> Result<Table, String> {
    path.map_or_else(|| Ok(Table::new()), read)
}

/// Where Kafka is: the option, then the file, then the environment.
fn endpoints(option: Option<&str>, environment: Option<&str>, table: &mut Table) -> Option<()> {
    if let Some(brokers) = option {
        table.insert("endpoints".to_owned(), brokers.into());
    } else if !table.contains_key("endpoints") {
        let brokers = environment.filter(|brokers| !brokers.is_empty())?;
        table.insert("endpoints".to_owned(), brokers.into());
    }
    Some(())
}

fn parse(table: Table) -> Result<KafkaConfig, String> {
    KafkaConfig::deserialize(Value::Table(table))
        .map_err(|e| format!("configuration: {}", e.message().trim_end()))
}

/// The configuration by which what is stored for these topics is sent.
///
/// # Errors
/// As those of [`config`].
#[cfg(feature = "sled")]
pub(crate) fn for_replay(
    args: &crate::spool::args::ReplayArgs,
    topics: &std::collections::BTreeSet<&str>,
    environment: Option<&str>,
) -> Result<KafkaConfig, String> {
    let mut table = file(args.config.as_deref())?;
    // The spool is named on the command line.
    table.remove("spool");
    let configured = topics_of(&mut table)?;
    let settings = topics.iter().map(|name| {
        let mut topic = own_table(&configured, name)?;
        // Nothing is added, and there may be no journal to add it to.
        topic.insert("durability".to_owned(), "memory".into());
        let strategy = args.partition_strategy.as_deref();
        if let Some(strategy) = strategy.or_else(|| {
            let given = topic.contains_key("partition_strategy") || table.contains_key("partition_strategy");
            // As `produce` does it: for events that came before the partitions were known.
            (!given).then_some("murmur2")
        }) {
            topic.insert("partition_strategy".to_owned(), strategy.into());
        }
        if let Some(millis) = args.max_age {
            topic.insert("max_age".to_owned(), number("--max-age", millis)?);
        }
        topic.insert("topic_name".to_owned(), (*name).into());
        Ok(Value::Table(topic))
    });
    let settings = settings.collect::<Result<Vec<_>, String>>()?;
    table.insert("topics".to_owned(), Value::Array(settings));
    if let Some(rate) = args.rate {
        table.insert("replay_rate".to_owned(), i64::from(rate.get()).into());
    }
    endpoints(args.brokers.as_deref(), environment, &mut table)
        .ok_or_else(|| format!("where is Kafka? Give --brokers HOST:PORT, or set {BOOTSTRAP}"))?;
    properties(&args.properties, &mut table)?;
    parse(table)
}

/// The topic's own settings: taken out of the file's `topics`, with the options on top and the defaults beneath.
fn topic_table(args: &ProduceArgs, keyed: bool, file: &mut Table) -> Result<Table, String> {
    let mut topic = own_table(&topics_of(file)?, &args.topic)?;
    let mut default = |key: &str, value: Value| {
        if !topic.contains_key(key) && !file.contains_key(key) {
            topic.insert(key.to_owned(), value);
        }
    };
    default("batch_size", 10_000.into());
    default("max_wait_time", 50.into());
    // With keys, so that no partition waits for another; without, so that whole batches are spread.
    default("collect_by_partition", keyed.into());
    default("partition_strategy", if keyed { "murmur2" } else { "sticky" }.into());

    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            topic.insert(key.to_owned(), value);
        }
    };
    set("topic_name", Some(args.topic.as_str().into()));
    set("partition_strategy", args.partition_strategy.as_deref().map(Value::from));
    set("batch_size", args.batch_size.map(|n| i64::from(n).into()));
    set("max_wait_time", args.max_wait_time.map(|n| i64::from(n).into()));
    set("max_batch_bytesize", args.max_batch_bytesize.map(|n| i64::from(n).into()));
    set("required_acks", args.acks.map(|acks| acks.number().into()));
    set("compression", args.compression.map(|compression| compression.name().into()));
    set("allow_topic_auto_creation", args.create_topic.then(|| true.into()));
    set("new_topic_partitions", args.partitions.map(|n| i64::from(n).into()));
    set("durability", args.durability.map(|durability| durability.name().into()));
    set("new_topic_replication", args.replication.map(|n| i64::from(n).into()));
    Ok(topic)
}

/// The file's `topics`, taken out.
fn topics_of(file: &mut Table) -> Result<Vec<Value>, String> {
    match file.remove("topics") {
        Some(Value::Array(topics)) => Ok(topics),
        None => Ok(Vec::new()),
        Some(_) => Err("configuration: `topics` is not a list of tables, one a topic".to_owned()),
    }
}

/// The settings of the topic of this name, or none.
fn own_table(topics: &[Value], name: &str) -> Result<Table, String> {
    let wanted = |topic: &&Value| topic.get("topic_name").and_then(Value::as_str) == Some(name);
    let mut same = topics.iter().filter(wanted);
    let own = same.next().and_then(Value::as_table).cloned().unwrap_or_default();
    if same.next().is_some() {
        return Err(format!("configuration: topic `{name}` is configured twice"));
    }
    Ok(own)
}

fn properties(options: &[String], table: &mut Table) -> Result<(), String> {
    if options.is_empty() {
        return Ok(());
    }
    let entry = table.entry("properties").or_insert_with(|| Value::Table(Table::new()));
    let Value::Table(properties) = entry else {
        return Err("configuration: `properties` is not a table".to_owned());
    };
    for (index, option) in options.iter().enumerate() {
        // What has no `=` is not shown: it may be a password.
        let Some((name, value)) = option.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(format!("option -X number {} is not NAME=VALUE", index + 1));
        };
        properties.insert(name.trim().to_owned(), value.into());
    }
    Ok(())
}

fn number(option: &str, number: u64) -> Result<Value, String> {
    i64::try_from(number).map(Value::from).map_err(|_| format!("option {option} is too large"))
}

/// Reads a configuration file. Its text is not shown in errors: it may hold a password.
fn read(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("can't read configuration file {}: {e}", path.display()))?;
    text.parse::<Table>().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map_or(1, |span| 1 + text.as_bytes()[..span.start].iter().filter(|b| **b == b'\n').count());
        format!("configuration file {}, line {line}: {}", path.display(), e.message())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(options: &[&str]) -> ProduceArgs {
        let line = ["kafka-batcher", "produce", "--topic", "flights"].iter().chain(options);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Produce(args) => *args,
            _ => unreachable!(),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn kafka(
        args: &ProduceArgs,
        keyed: bool,
        embedded: Option<&str>,
        env: Option<&str>,
    ) -> Result<KafkaConfig, String> {
        config(args, keyed, embedded, env).map(|settings| settings.kafka)
    }

    fn with_file(text: &str, options: &[&str]) -> Result<KafkaConfig, String> {
        let file = file(text);
        let path = file.path().to_str().unwrap();
        kafka(&args(&[&["--config", path], options].concat()), true, None, Some("env:1"))
    }

    #[test]
    fn kafka_is_where_the_option_says_then_the_file_then_the_environment() {
        let endpoints = |options: &[&str], file: &str, env| {
            let file = self::file(file);
            let mut all = vec!["--config", file.path().to_str().unwrap()];
            all.extend(options);
            kafka(&args(&all), false, None, env).map(|config| config.endpoints().unwrap())
        };
        assert_eq!(
            endpoints(&["--brokers", "a:1,b:2"], "endpoints = 'f:1'", Some("e:1")).unwrap(),
            ["a:1", "b:2"]
        );
        assert_eq!(endpoints(&[], "endpoints = 'f:1'", Some("e:1")).unwrap(), ["f:1"]);
        assert_eq!(endpoints(&[], "", Some("e:1")).unwrap(), ["e:1"]);
        let error = endpoints(&[], "", None).unwrap_err();
        assert!(error.contains("--brokers") && error.contains("--embedded"), "{error}");
        let error = endpoints(&["--brokers", "nonsense"], "", None).unwrap_err();
        assert!(error.contains("`endpoints`") && error.contains("host:port"), "{error}");
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_the_defaults() {
        let text = "
            batch_size = 7
            max_memory_bytes = 5000000
            [[topics]]
            topic_name = 'flights'
            partition_strategy = 'crc32'
            compression = 'gzip'
            [[topics]]
            topic_name = 'other'
        ";
        let config = with_file(text, &["--compression", "lz4", "--acks", "1", "-X", "linger.ms=3"]).unwrap();
        let topics = config.topics().unwrap();
        assert_eq!(topics.len(), 1, "no other topic is opened");
        let topic = &topics[0];
        assert_eq!(&*topic.topic_name, "flights");
        assert_eq!(topic.batch_size.get(), 7);
        assert_eq!(topic.max_wait_time, Duration::from_millis(50));
        assert_eq!(format!("{:?}", topic.partition_strategy), "crc32");
        assert_eq!(topic.compression.as_str(), "lz4");
        assert_eq!(topic.required_acks.as_i16(), 1);
        assert_eq!(config.limits().max_memory_bytes, 5_000_000);
        assert_eq!(config.properties()["linger.ms"], "3");
    }

    #[test]
    fn keyed_events_go_by_murmur2_and_others_are_spread() {
        let strategy = |keyed| {
            let config = kafka(&args(&[]), keyed, Some("e:1"), None).unwrap();
            let topic = &config.topics().unwrap()[0];
            (format!("{:?}", topic.partition_strategy), topic.collect_by_partition)
        };
        assert_eq!(strategy(true), ("murmur2".to_owned(), true));
        assert_eq!(strategy(false), ("sticky".to_owned(), false));
    }

    #[cfg(feature = "sled")]
    #[test]
    fn a_replay_goes_by_the_limits_of_the_file_unless_options_win() {
        use crate::spool::args::SpoolCommand;
        let file = file("replay_rate = 7\nmax_age = 60000\n[[topics]]\ntopic_name = 'b'\nmax_age = false");
        let path = file.path().to_str().unwrap();
        let limits = |options: &[&str]| {
            let line = ["kafka-batcher", "spool", "replay", "DIR", "--config", path];
            let Command::Spool(SpoolCommand::Replay(args)) =
                Cli::try_parse_from(line.iter().chain(options)).unwrap().command
            else {
                unreachable!()
            };
            let config = for_replay(&args, &["a", "b"].into(), Some("e:1"))?;
            let ages = config.topics().unwrap().into_iter().map(|topic| topic.max_age).collect::<Vec<_>>();
            Ok::<_, String>((config.limits().replay_rate.map(|rate| rate.get()), ages))
        };
        assert_eq!(limits(&[]).unwrap(), (Some(7), vec![Some(Duration::from_secs(60)), None]));
        let both = vec![Some(Duration::from_millis(5)); 2];
        assert_eq!(limits(&["--rate", "9", "--max-age", "5"]).unwrap(), (Some(9), both));
        assert!(limits(&["--max-age", "0"]).unwrap_err().contains("`max_age`"));
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not_shown() {
        let error = |text: &str, options: &[&str]| with_file(text, options).unwrap_err();
        let message = error("batch_sizes = 1", &[]);
        assert!(message.contains("`batch_sizes`") && message.contains("`batch_size`?"), "{message}");
        assert!(error("", &["--batch-size", "0"]).contains("`batch_size`"));
        assert!(error("", &["--partition-strategy", "x"]).contains("\"murmur2\""));
        assert!(error("topics = 1", &[]).contains("`topics`"));
        assert!(
            error("[[topics]]\ntopic_name='flights'\n[[topics]]\ntopic_name='flights'", &[])
                .contains("twice")
        );
        let message = error("[sasl]\nlogin = 'me'\npassword = 's3cr3t' x", &[]);
        assert!(message.contains("line 3") && !message.contains("s3cr3t"), "{message}");
        let message = error("[sasl]\nlogin = 'me'\npassword = 's3cr3t'\nmechanism = 's3cr3t'", &[]);
        assert!(message.contains("scram_sha_512"), "{message}");
        let message = error("", &["-X", "a=b", "-X", "s3cr3t"]);
        assert!(message.contains("number 2") && !message.contains("s3cr3t"), "{message}");
        assert!(error("", &["--memory-bytes", "18446744073709551615"]).contains("--memory-bytes"));
        let nowhere = kafka(&args(&["--config", "/no/such.toml"]), true, None, None).unwrap_err();
        assert!(nowhere.contains("/no/such.toml"), "{nowhere}");
    }
}
