//! Breaks what lies between the batcher and Kafka, and checks the promises against what Kafka holds afterwards.
//!
//! ```sh
//! cargo run --example faults --features rdkafka,rskafka -- cuts rskafka 200      # through the fault proxy
//! cargo run --example faults --features rdkafka,rskafka -- deadlines rdkafka 50
//! ```
//!
//! Runs on the embedded broker, or on the Kafka that `KAFKA_BATCHER_BOOTSTRAP` names. `KAFKA_BATCHER_SEED` repeats a run.

mod cuts;
mod deadlines;
mod dice;

use std::process::ExitCode;
use std::sync::Arc;

use kafka_batcher::rdkafka::RdkafkaProducer;
use kafka_batcher::rskafka::RskafkaProducer;
use kafka_batcher::{KafkaConfig, Producer};
use kafka_batcher_testkit::target::Target;

/// Whatever went wrong, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A Kafka client to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Rdkafka,
    Rskafka,
}

impl Backend {
    fn producer(self, config: &KafkaConfig) -> Result<Arc<dyn Producer>, Failure> {
        Ok(match self {
            Self::Rdkafka => Arc::new(RdkafkaProducer::new(config)?),
            Self::Rskafka => Arc::new(RskafkaProducer::new(config)?),
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "faults cuts|deadlines rdkafka|rskafka [TIMES]";
    let [what, backend, rest @ ..] = &arguments[..] else { return Err(usage.into()) };
    let backend = match backend.as_str() {
        "rdkafka" => Backend::Rdkafka,
        "rskafka" => Backend::Rskafka,
        _ => return Err(usage.into()),
    };
    let times: Option<usize> = rest.first().map(|times| times.parse()).transpose()?;
    let target = Arc::new(Target::from_env()?);
    let seed = std::env::var("KAFKA_BATCHER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(dice::from_the_clock);
    println!("{backend:?} on {}, seed {seed}", target.bootstrap());
    match what.as_str() {
        "cuts" => cuts::run(backend, &target, times.unwrap_or(200), seed).await,
        "deadlines" => deadlines::run(backend, &target, times.unwrap_or(50)).await,
        _ => Err(usage.into()),
    }
}

/// A topic name nobody has used.
fn unused(what: &str) -> String {
    format!("faults-{what}-{}", dice::from_the_clock())
}
