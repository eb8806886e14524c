//! The suite of [`Producer`].
//!
//! What a fixture can't do is skipped, and said so: a producer that writes to a file passes with three methods of
//! [`ProducerFixture`]; one that talks to Kafka gets all of it from `TargetFixture`.

mod deadlines;
mod faults;
mod life;
mod metadata;
mod order;
mod records;
mod refusals;
mod rig;
mod search;
mod secrets;

use std::sync::Arc;

use async_trait::async_trait;
use kafka_batcher_core::config::Compression;
use kafka_batcher_core::{Denial, ErrorKind, KafkaConfig, Producer, Record};

use super::Skip;
use crate::proxy::FaultProxy;
pub use {
    deadlines::*, faults::*, life::*, metadata::*, order::*, records::*, refusals::*, search::*, secrets::*,
};

/// Makes producers for the suite, and looks behind them.
///
/// A fixture is made anew for each case. Methods may panic when something fails that should not.
#[async_trait]
pub trait ProducerFixture: Send + Sync {
    /// Makes a producer that is connected to nothing yet. The error is what its constructor said, for people.
    ///
    /// # Errors
    /// When the adapter refuses the configuration.
    fn producer(&self, config: &KafkaConfig) -> Result<Arc<dyn Producer>, String>;

    /// Makes a topic with so many partitions, empty and ready for use, with a name not used before.
    async fn topic(&self, partitions: u32) -> String;

    /// What is in a partition, in order, with timestamps. What a producer was told is delivered must be seen.
    async fn read(&self, topic: &str, partition: u32) -> Vec<Record>;

    /// Whether the suite can be run at all here.
    ///
    /// # Errors
    /// Why it can't.
    fn ready(&self) -> Result<(), Skip> {
        Ok(())
    }

    /// How to reach the broker; everything else at its default, no topics.
    fn config(&self) -> KafkaConfig {
        KafkaConfig::new("localhost:9092")
    }

    /// The same with other addresses, where there may be no broker.
    ///
    /// # Errors
    /// Why that makes no sense here.
    fn config_at(&self, endpoints: &str) -> Result<KafkaConfig, Skip> {
        let _ = endpoints;
        Err(no_network())
    }

    /// A proxy in front of the broker, to be reached by [`config_at`](Self::config_at).
    ///
    /// # Errors
    /// Why there can be none.
    fn proxy(&self) -> Result<FaultProxy, Skip> {
        Err(no_network())
    }

    /// The name of a topic that does not exist.
    ///
    /// # Errors
    /// Why every topic exists.
    async fn missing_topic(&self) -> Result<String, Skip> {
        Err(Skip::new("every topic exists"))
    }

    /// A name under which a topic may be created.
    ///
    /// # Errors
    /// Why topics can't be created through a producer.
    async fn creatable_topic(&self) -> Result<String, Skip> {
        Err(Skip::new("producers create no topics here"))
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// Why it can't grow.
    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Skip> {
        let _ = (topic, partitions);
        Err(Skip::new("topics do not grow here"))
    }

    /// A batch that is refused with an error of this kind when it is sent next.
    ///
    /// # Errors
    /// Why there is none.
    async fn refused(&self, kind: ErrorKind) -> Result<RefusedBatch, Skip> {
        Err(Skip::new(format!("nothing is refused as {kind} here")))
    }

    /// The next produce requests are answered with these errors, by Kafka's numbers, and not carried out.
    ///
    /// # Errors
    /// Why the broker can't be told to.
    fn answer_produce_with(&self, errors: &[i16]) -> Result<(), Skip> {
        let _ = errors;
        Err(Skip::new("the broker can't be told to answer with errors"))
    }

    /// Moves the leadership of a partition to another broker.
    ///
    /// # Errors
    /// Why it can't be moved.
    async fn move_leader(&self, topic: &str, partition: u32) -> Result<(), Skip> {
        let _ = (topic, partition);
        Err(Skip::new("leaders can't be moved here"))
    }

    /// Has another client than the adapter write records to a partition, headers and all, as one batch if it can.
    ///
    /// # Errors
    /// Why there is no other client, or not with this compression.
    async fn write(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
        compression: Compression,
    ) -> Result<(), Skip> {
        let _ = (topic, partition, records, compression);
        Err(Skip::new("no other client writes here"))
    }

    /// Whether the broker finds the offset to a timestamp.
    ///
    /// # Errors
    /// Why it does not.
    fn finds_offsets_by_time(&self) -> Result<(), Skip> {
        Ok(())
    }

    /// Whether the broker drops what an idempotent producer sends twice.
    fn deduplicates(&self) -> bool {
        false
    }

    /// Configurations with which a producer must not get in.
    ///
    /// # Errors
    /// Why there are none.
    fn denied(&self) -> Result<Vec<DeniedCase>, Skip> {
        Err(Skip::new("everybody is let in here"))
    }

    /// Texts that must not turn up in errors and `Debug`, beside those the suite invents.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

fn no_network() -> Skip {
    Skip::new("the fixture has no network")
}

/// A batch that is refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedBatch {
    /// Where to send it; partition 0.
    pub topic: String,
    /// What to send.
    pub records: Vec<Record>,
    /// Indexes of the records at fault. Others may be refused along with them.
    pub at_fault: Vec<u32>,
}

impl RefusedBatch {
    /// These records, sent to partition 0 of `topic`, are refused on account of those with the indexes `at_fault`.
    #[must_use]
    pub const fn new(topic: String, records: Vec<Record>, at_fault: Vec<u32>) -> Self {
        Self { topic, records, at_fault }
    }
}

/// A configuration with which a producer must not get in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeniedCase {
    /// What is wrong with it.
    pub name: String,
    /// How to connect.
    pub config: KafkaConfig,
    /// What the producer has to say.
    pub expect: Denial,
    /// If set, connecting works, and writing to this topic does not.
    pub topic: Option<String>,
}

impl DeniedCase {
    /// `config` must be denied for this reason; if there is a `topic`, only writing to that.
    #[must_use]
    pub const fn new(name: String, config: KafkaConfig, expect: Denial, topic: Option<String>) -> Self {
        Self { name, config, expect, topic }
    }
}

/// Tests that a [`Producer`] does what the trait's documentation promises: one test for each case.
///
/// Takes an expression that makes a [`ProducerFixture`], evaluated anew for each test. The tests are in a module
/// `producer_conformance`, or of the name given before the expression. See the crate's guide "Write your own adapter".
///
/// ```rs
/// kafka_batcher_testkit::producer_conformance!(TargetFixture::new(RdkafkaProducer::new));
/// ```
#[macro_export]
macro_rules! producer_conformance {
    ($fixture:expr) => {
        $crate::producer_conformance!(producer_conformance, $fixture);
    };
    ($module:ident, $fixture:expr) => {
        $crate::__conformance_tests! { producer, $module, $fixture;
            keys_and_values_arrive_as_they_are
            null_and_empty_stay_apart
            timestamps_arrive_as_they_are
            early_timestamps_arrive_or_are_refused
            headers_arrive_as_they_are
            headers_keep_their_order_or_are_refused
            repeated_headers_arrive_or_are_refused
            null_header_values_arrive_or_are_refused
            a_large_record_arrives
            compressed_batches_arrive_or_are_refused_at_construction
            acks_are_honoured_or_refused
            records_of_a_batch_stay_in_order
            batches_follow_one_another
            a_batch_goes_to_its_partition_and_no_other
            many_partitions_at_once
            many_topics_at_once
            an_unknown_topic_is_said_to_be_unknown
            asking_for_a_topic_does_not_create_it
            an_unknown_partition_is_refused
            a_batch_too_large_is_said_to_be_too_large
            what_is_refused_for_good_is_named
            errors_of_the_broker_have_their_kind
            passing_errors_are_retried
            who_is_denied_is_told_why_and_in_time
            a_refused_port_ends_in_time
            a_black_hole_ends_in_time
            a_swallowed_answer_leaves_it_open_what_was_written
            stalled_requests_end_in_time_and_are_tagged_rightly
            a_hung_broker_holds_up_no_metadata_call
            the_shortest_timeouts_hold
            waiting_does_not_block_the_executor
            a_lost_connection_is_made_again
            a_short_outage_within_the_deadline_is_survived
            connect_works_after_it_failed
            what_is_sent_through_cut_connections_arrives_in_order
            a_lost_answer_leaves_no_duplicate_with_idempotence
            a_leader_that_moved_is_found
            connect_may_be_called_again
            connect_leaves_nothing_in_flight_unanswered
            partitions_are_counted
            partitions_are_counted_by_the_cluster_and_not_by_a_cache
            a_topic_is_created_as_configured
            creating_a_topic_again_is_success
            capabilities_do_not_change
            a_delivered_batch_is_let_go
            a_failed_batch_is_let_go
            dropped_calls_leak_nothing_and_wedge_nothing
            close_answers_what_is_in_flight
            close_ends_in_time_without_an_answer
            nothing_is_sent_after_close
            a_search_finds_exactly_what_is_there
            a_search_goes_by_the_last_header_of_the_name
            a_search_takes_null_headers_for_no_value
            a_search_leaves_out_earlier_offsets
            a_search_leaves_out_earlier_times
            a_search_finds_what_others_wrote
            a_search_reads_compressed_batches
            an_empty_partition_is_searched_in_vain
            a_long_log_is_searched_to_its_end
            a_search_sees_what_was_acknowledged
            a_search_where_nothing_can_be_is_refused
            a_search_of_nobody_ends_in_time
            a_search_survives_a_broker_that_hangs_or_is_gone
            a_search_that_comes_to_no_end_tells_no_part
            dropped_searches_wedge_nothing
            nothing_is_searched_after_close
            secrets_are_not_shown
        }
    };
}
