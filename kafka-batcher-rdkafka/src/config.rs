//! From the batcher's configuration to librdkafka's properties.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::config::{
    Compression, KafkaConfig, RequiredAcks, Sasl, SaslMechanism, Tls, Token, TokenProvider,
};
use kafka_batcher_core::{ConfigError, TopicConfig};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use crate::error::SetupError;
use crate::ffi::{Client, Conf, Kind, Unfit};
use crate::lines::Lines;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To produce, with these `acks`.
    Produce(RequiredAcks),
    /// To look for records in the log.
    Search,
}

/// Everything needed to make clients, checked.
pub(crate) struct Settings {
    /// For messages.
    pub(crate) endpoints: String,
    /// What the topics configured need; the client used for everything but producing.
    pub(crate) acks: RequiredAcks,
    /// In this order; a later one wins.
    properties: Vec<(String, SecretString)>,
    secrets: Vec<SecretString>,
    /// Where tokens come from, with SASL/OAUTHBEARER.
    pub(crate) tokens: Option<Arc<dyn TokenProvider>>,
    /// How long it may take to get one.
    pub(crate) token_timeout: Duration,
    /// The last tokens, which are secrets, too.
    recent_tokens: Mutex<Vec<SecretString>>,
    /// Compression of the topics configured.
    compression: HashMap<Arc<str>, Compression>,
    /// Which lines of librdkafka are logged.
    pub(crate) lines: Lines,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings").field("endpoints", &self.endpoints).field("properties", &names).finish()
    }
}

const BOOTSTRAP: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
const ACKS: [&str; 2] = ["acks", "request.required.acks"];
const COMPRESSION: [&str; 2] = ["compression.type", "compression.codec"];

/// What the properties begin with that a client which searches has in common with one that produces: how brokers are
/// reached, and how it is let in.
const SHARED: [&str; 20] = [
    "api.version.",
    "bootstrap.servers",
    "broker.",
    "client.dns.lookup",
    "client.id",
    "connections.",
    "debug",
    "enable.metrics.push",
    "enable.sasl.",
    "enable.ssl.",
    "https.",
    "log.",
    "metadata.",
    "reconnect.",
    "retry.backoff.",
    "sasl.",
    "security.",
    "socket.",
    "ssl.",
    "topic.metadata.",
];

/// The others of a client that searches. It belongs to no group, and leaves no trace.
const SEARCHING: [(&str, &str); 11] = [
    ("allow.auto.create.topics", "false"),
    // Never read from elsewhere than asked for: what is not looked at would count as not there.
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_uncommitted"),
    // Memory: some two megabytes of records, or one batch that is larger.
    ("fetch.message.max.bytes", "1048576"),
    ("queued.max.messages.kbytes", "1024"),
    // How long nothing is asked for when these are there; a second by default.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
    // How long the end of the log is in coming, when the last offsets are no records.
    ("fetch.wait.max.ms", "50"),
];

/// Part of a produce request that is not records: names, lengths, and the difference between an estimate and the truth.
const SLACK: usize = 64 * 1024;

impl Settings {
    /// With `statistics`, librdkafka gives them so often.
    pub(crate) fn new(config: &KafkaConfig, statistics: Option<Duration>) -> Result<Self, SetupError> {
        config.validate()?;
        let endpoints = config.endpoints()?.join(",");
        let topics = config.topics()?;
        let used: BTreeSet<_> = topics.iter().map(|topic| topic.required_acks.as_i16()).collect();
        let acks = topics
            .iter()
            .map(|topic| topic.required_acks)
            .find(|acks| used.len() == 1 || *acks == RequiredAcks::All)
            .unwrap_or_default();

        let mut properties = base(config, &endpoints, &topics);
        if let Some(every) = statistics {
            properties.push(("statistics.interval.ms", every.as_millis().clamp(1, 86_400_000).to_string()));
        }
        properties.extend(config.get_sasl().iter().flat_map(|sasl| sasl_properties(sasl)));
        properties.extend(config.get_ssl().map(tls_properties).transpose()?.into_iter().flatten());
        let protocol = match (config.get_ssl().is_some(), config.get_sasl().is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        properties.push(("security.protocol", protocol.to_owned()));
        let mut properties: Vec<(String, SecretString)> =
            properties.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        properties
            .extend(config.properties().iter().map(|(name, value)| (name.clone(), value.clone().into())));

        let settings = Self {
            endpoints,
            acks,
            secrets: properties
                .iter()
                .filter(|(name, _)| is_secret(name))
                .map(|(_, value)| value.clone())
                .collect(),
            properties,
            tokens: config.get_sasl().and_then(|sasl| sasl.tokens.clone()),
            token_timeout: config.timing().connect_timeout,
            recent_tokens: Mutex::default(),
            compression: topics
                .iter()
                .map(|topic| (Arc::clone(&topic.topic_name), topic.compression))
                .collect(),
            lines: Lines::default(),
        };
        settings.check_features(config, &topics)?;
        // A client without brokers does no I/O beyond reading certificates, and finds what does not fit together.
        let mut tried = BTreeSet::new();
        for acks in topics.iter().map(|topic| topic.required_acks).chain([settings.acks]) {
            if tried.insert(acks.as_i16()) {
                drop(settings.producer(acks, false)?);
            }
        }
        Ok(settings)
    }

    /// Makes a client that produces; without brokers it can do nothing, but be made.
    pub(crate) fn producer(&self, acks: RequiredAcks, brokers: bool) -> Result<Client, SetupError> {
        let number = acks.as_i16().to_string();
        let idempotent = self.is_idempotent(acks);
        // A message set that is tried again falls behind those sent after it, unless the brokers check sequence
        // numbers. Where they don't, a batch is better one message set, for which librdkafka has to wait a little:
        // it makes the next one while the last is in flight, even when only one may be.
        let (in_flight, linger) = if idempotent { ("5", "0") } else { ("1", "2") };
        let idempotent = idempotent.to_string();
        let derived = [
            ("acks", number.as_str()),
            ("enable.idempotence", &idempotent),
            ("max.in.flight", in_flight),
            // Batches arrive complete: each is to travel in as few message sets as can be, and at once.
            ("linger.ms", linger),
        ];
        self.client(Kind::Producer, derived.into_iter().chain(self.given()), brokers)
    }

    /// Makes a client that searches; it reaches the brokers as the others do.
    pub(crate) fn consumer(&self) -> Result<Client, SetupError> {
        let shared = |name: &str| SHARED.iter().any(|part| name.starts_with(part));
        let given = self.given().filter(|(name, _)| shared(name));
        self.client(Kind::Consumer, given.chain(SEARCHING.iter().copied()), true)
    }

    /// The properties given, by the configuration's settings and by the user.
    fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }

    fn client<'a>(
        &self,
        kind: Kind,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        brokers: bool,
    ) -> Result<Client, SetupError> {
        let mut conf =
            Conf::new().ok_or_else(|| SetupError::Refused { reason: "out of memory".to_owned() })?;
        for (name, value) in properties {
            if !brokers && BOOTSTRAP.contains(&name) {
                continue;
            }
            conf.set(name, value).map_err(|unfit| match unfit {
                Unfit::Name => SetupError::UnknownProperty { name: name.to_owned() },
                Unfit::Value => SetupError::InvalidProperty { name: name.to_owned() },
            })?;
        }
        Client::new(conf, kind, self.tokens.is_some())
            .map_err(|reason| SetupError::Refused { reason: self.clean(&reason) })
    }

    /// Whether the client for `acks` numbers what it sends.
    pub(crate) fn is_idempotent(&self, acks: RequiredAcks) -> bool {
        match self.last(&["enable.idempotence"]) {
            Some(value) => value.eq_ignore_ascii_case("true") || value == "1",
            None => {
                acks == RequiredAcks::All && self.last(&ACKS).is_none_or(|acks| ["all", "-1"].contains(&acks))
            }
        }
    }

    /// Whether brokers answer requests of the client for `acks`.
    pub(crate) fn is_answered(&self, acks: RequiredAcks) -> bool {
        self.last(&ACKS).map_or(acks != RequiredAcks::None, |acks| acks != "0")
    }

    /// The value given last for one of these names, if one was.
    fn last(&self, names: &[&str]) -> Option<&str> {
        let given = self.properties.iter().rev().find(|(name, _)| names.contains(&name.as_str()));
        given.map(|(_, value)| value.expose_secret())
    }

    /// The properties of a topic that differ from the client's. librdkafka takes them from whoever names a topic
    /// first, so everybody has to give the same.
    pub(crate) fn topic(
        &self,
        topic: &str,
        otherwise: Compression,
    ) -> &'static [(&'static str, &'static str)] {
        if self.last(&COMPRESSION).is_some() {
            return &[];
        }
        match self.compression.get(topic).copied().unwrap_or(otherwise) {
            Compression::None => &[],
            Compression::Gzip => &[("compression.codec", "gzip")],
            Compression::Snappy => &[("compression.codec", "snappy")],
            Compression::Lz4 => &[("compression.codec", "lz4")],
            Compression::Zstd => &[("compression.codec", "zstd")],
            _ => &[("compression.codec", "unknown to this crate")],
        }
    }

    /// Makes a token a secret, for as long as it may be in use.
    pub(crate) fn keep_secret(&self, token: &Token) {
        /// Of each of the clients the one in use and the one before it.
        const RECENT: usize = 6;
        let mut recent = self.recent_tokens.lock();
        recent.push(token.value.clone());
        let surplus = recent.len().saturating_sub(RECENT);
        recent.drain(..surplus);
    }

    /// `text` without secrets.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().chain(&*self.recent_tokens.lock()) {
            let secret = secret.expose_secret();
            if !secret.is_empty() && text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
        text
    }

    fn check_features(&self, config: &KafkaConfig, topics: &[TopicConfig]) -> Result<(), SetupError> {
        let built = Conf::new().and_then(|conf| conf.get(c"builtin.features")).unwrap_or_default();
        let check = |name: &str, feature, needed_for: String| {
            if built.split(',').any(|have| have.trim() == name) {
                return Ok(());
            }
            Err(SetupError::MissingFeature { needed_for, feature })
        };
        if config.get_ssl().is_some() {
            check("ssl", "ssl", "setting `ssl`".to_owned())?;
        }
        if let Some(sasl) = config.get_sasl()
            && sasl.mechanism != SaslMechanism::Plain
        {
            let name = match sasl.mechanism {
                SaslMechanism::OauthBearer => "sasl_oauthbearer",
                _ => "sasl_scram",
            };
            check(name, "ssl", format!("SASL mechanism {}", sasl.mechanism.as_str()))?;
        }
        for topic in topics {
            let needed_for =
                || format!("compression `{}` of topic `{}`", topic.compression.as_str(), topic.topic_name);
            match topic.compression {
                Compression::Gzip => check("gzip", "libz", needed_for())?,
                Compression::Zstd => check("zstd", "zstd", needed_for())?,
                _ => {}
            }
        }
        for (name, value) in config.properties() {
            let needed_for = || format!("property `{name}`");
            let value = value.to_ascii_lowercase();
            match name.as_str() {
                "security.protocol" if value.contains("ssl") => check("ssl", "ssl", needed_for())?,
                name if name.starts_with("ssl.") => check("ssl", "ssl", needed_for())?,
                "sasl.mechanism" | "sasl.mechanisms" if value.starts_with("scram") => {
                    check("sasl_scram", "ssl", needed_for())?;
                }
                "sasl.mechanism" | "sasl.mechanisms" if value == "oauthbearer" => {
                    check("sasl_oauthbearer", "ssl", needed_for())?;
                }
                "sasl.mechanism" | "sasl.mechanisms" if value == "gssapi" => {
                    check("sasl_gssapi", "gssapi", needed_for())?;
                }
                "compression.type" | "compression.codec" if value == "gzip" => {
                    check("gzip", "libz", needed_for())?
                }
                "compression.type" | "compression.codec" if value == "zstd" => {
                    check("zstd", "zstd", needed_for())?
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether values of this property are kept out of every text.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "pem", "token", "sasl.oauthbearer.config"].iter().any(|part| name.contains(part))
}

/// How long librdkafka itself may try.
///
/// It looks for records whose time is up once a second, so a report comes up to a second late, and a busy machine adds
/// to that; with this it still comes before `produce_timeout` is over, and tells whether the record was written.
fn message_timeout(produce_timeout: Duration) -> Duration {
    const LATE: Duration = Duration::from_millis(1500);
    produce_timeout.saturating_sub(LATE).max(produce_timeout / 3)
}

fn base(config: &KafkaConfig, endpoints: &str, topics: &[TopicConfig]) -> Vec<(&'static str, String)> {
    let timing = config.timing();
    let millis = |time: Duration, from: u128, to: u128| time.as_millis().clamp(from, to).to_string();
    let message_timeout = message_timeout(timing.produce_timeout);
    let largest = topics.iter().map(|topic| topic.max_batch_bytesize.get()).max().unwrap_or(0).max(1_000_000);
    let largest = (largest + SLACK).min(1_000_000_000).to_string();
    vec![
        ("bootstrap.servers", endpoints.to_owned()),
        ("client.id", config.get_client_id().to_owned()),
        // Topics are created when the configuration says so, never by asking for them.
        ("allow.auto.create.topics", "false".to_owned()),
        ("batch.num.messages", "1000000".to_owned()),
        ("batch.size", largest.clone()),
        ("message.max.bytes", largest),
        // Memory is bounded by the batcher.
        ("queue.buffering.max.messages", "0".to_owned()),
        ("queue.buffering.max.kbytes", i32::MAX.to_string()),
        ("message.timeout.ms", millis(message_timeout, 10, i32::MAX as u128)),
        ("request.timeout.ms", millis(message_timeout, 10, 30_000)),
        ("socket.timeout.ms", millis(timing.produce_timeout.max(timing.connect_timeout), 10, 60_000)),
        ("socket.connection.setup.timeout.ms", millis(timing.connect_timeout, 1000, 30_000)),
        ("socket.nagle.disable", "true".to_owned()),
        ("reconnect.backoff.ms", "50".to_owned()),
        ("reconnect.backoff.max.ms", millis(timing.recheck_interval, 100, 1000)),
        // After this time a topic nobody has heard of is reported as unknown instead of timing out.
        ("topic.metadata.propagation.max.ms", millis(message_timeout / 2, 0, 5000)),
        ("enable.metrics.push", "false".to_owned()),
    ]
}

fn sasl_properties(sasl: &Sasl) -> Vec<(&'static str, String)> {
    let mut properties = vec![("sasl.mechanism", sasl.mechanism.as_str().to_owned())];
    // A token says who we are.
    if sasl.mechanism != SaslMechanism::OauthBearer {
        properties.push(("sasl.username", sasl.login.clone()));
        properties.push(("sasl.password", sasl.password.expose_secret().to_owned()));
    }
    properties
}

fn tls_properties(tls: &Tls) -> Result<Vec<(&'static str, String)>, SetupError> {
    let path = |key: &str, path: &Option<std::path::PathBuf>| {
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                let problem = format!("{}, which is not UTF-8", path.display());
                ConfigError::Invalid { key: key.to_owned(), problem, allowed: "a path in UTF-8" }
            })
        };
        path.as_deref().map(text).transpose()
    };
    let properties = [
        ("ssl.ca.location", path("ssl.ca_file", &tls.ca_file)?),
        ("ssl.certificate.location", path("ssl.cert_file", &tls.cert_file)?),
        ("ssl.key.location", path("ssl.key_file", &tls.key_file)?),
        ("ssl.key.password", tls.key_password.as_ref().map(|password| password.expose_secret().to_owned())),
    ];
    Ok(properties.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_out_of_what_librdkafka_says() {
        let config = KafkaConfig::new("127.0.0.1:1")
            .sasl(Sasl::new(SaslMechanism::Plain, "me", "hunter2"))
            .property("sasl.password", "hunter3");
        let settings = Settings::new(&config, None).expect("valid");
        assert_eq!(settings.clean("me:hunter2, then hunter3hunter3."), "me:***, then ******.");
        assert_eq!(format!("{settings:?}").find("hunter"), None);
    }

    #[test]
    fn librdkafka_s_verdict_comes_before_the_batcher_s_deadline() {
        let at = |millis| message_timeout(Duration::from_millis(millis)).as_millis();
        assert_eq!([at(10_000), at(3000), at(2100), at(90)], [8500, 1500, 700, 30]);
    }

    #[test]
    fn whether_a_client_is_idempotent_and_answered_follows_what_is_in_force() {
        let of = |properties: &[(&str, &str)]| {
            let config = KafkaConfig::new("127.0.0.1:1");
            let config =
                properties.iter().fold(config, |config, (name, value)| config.property(*name, *value));
            let settings = Settings::new(&config, None).expect("valid");
            let both = |acks| (settings.is_idempotent(acks), settings.is_answered(acks));
            [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None].map(both)
        };
        assert_eq!(of(&[]), [(true, true), (false, true), (false, false)]);
        assert_eq!(of(&[("enable.idempotence", "false")]), [(false, true), (false, true), (false, false)]);
        assert_eq!(of(&[("acks", "1")]), [(false, true); 3]);
        assert_eq!(of(&[("acks", "0")]), [(false, false); 3]);
    }
}
