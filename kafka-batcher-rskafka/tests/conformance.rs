//! Does what every producer has to do, on the broker that the environment names.

use kafka_batcher_rskafka::RskafkaProducer;
use kafka_batcher_testkit::target::TargetFixture;

kafka_batcher_testkit::producer_conformance!(
    TargetFixture::new(RskafkaProducer::new).secured(cfg!(feature = "tls"))
);
