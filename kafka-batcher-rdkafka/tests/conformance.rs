//! Does what every producer has to do, on the broker that the environment names.

use kafka_batcher_rdkafka::RdkafkaProducer;
use kafka_batcher_testkit::target::TargetFixture;

const SECURED: bool = cfg!(any(feature = "ssl", feature = "ssl-vendored"));

kafka_batcher_testkit::producer_conformance!(TargetFixture::new(RdkafkaProducer::new).secured(SECURED));
