//! The suite of producers passes one that is right, and each thing that can be wrong is found by a case with a name.

mod toy;

use std::future::Future;
use std::pin::Pin;

use kafka_batcher_testkit::conformance::Outcome;
use kafka_batcher_testkit::conformance::producer::{self, ProducerFixture};
use toy::{Bug, Toy};

kafka_batcher_testkit::producer_conformance!(a_right_one, Toy::new(None));

type Case = for<'a> fn(&'a dyn ProducerFixture) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Runs one case against a toy with this bug, and expects it to fail.
fn finds(name: &str, case: Case, bug: Bug) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async move {
        let run = tokio::spawn(async move { case(&Toy::new(Some(bug))).await });
        tokio::time::timeout(std::time::Duration::from_secs(100), run).await
    });
    runtime.shutdown_background();
    match result {
        Err(_) => {} // a case that hangs is ended by the suite
        Ok(Err(error)) => assert!(error.is_panic()),
        Ok(Ok(outcome)) => panic!("{name} did not find {bug:?}: {outcome:?}"),
    }
}

macro_rules! finds {
    ($($bug:ident: $case:ident,)*) => {
        mod a_wrong_one {
            use super::*;
            $(
                #[test]
                #[expect(non_snake_case, reason = "named for the bug")]
                fn $bug() {
                    finds(stringify!($case), |fixture| Box::pin(producer::$case(fixture)), Bug::$bug);
                }
            )*
        }
    };
}

finds! {
    DropsARecord: records_of_a_batch_stay_in_order,
    Reorders: records_of_a_batch_stay_in_order,
    SendsTwice: batches_follow_one_another,
    NullBecomesEmpty: null_and_empty_stay_apart,
    DropsHeaders: headers_arrive_as_they_are,
    SortsHeaders: headers_keep_their_order_or_are_refused,
    FoldsHeaders: repeated_headers_arrive_or_are_refused,
    NullHeaderBecomesEmpty: null_header_values_arrive_or_are_refused,
    RefusesNullHeaders: null_header_values_arrive_or_are_refused,
    TimestampIsNow: timestamps_arrive_as_they_are,
    EpochIsNow: early_timestamps_arrive_or_are_refused,
    CutsLargeValues: a_large_record_arrives,
    WrongPartition: a_batch_goes_to_its_partition_and_no_other,
    OffsetIsOffByOne: batches_follow_one_another,
    NoOffset: batches_follow_one_another,
    SwallowsErrors: an_unknown_topic_is_said_to_be_unknown,
    UnknownIsTransient: an_unknown_topic_is_said_to_be_unknown,
    UnknownIsMaybe: an_unknown_partition_is_refused,
    CreatesByAsking: asking_for_a_topic_does_not_create_it,
    TooLargeIsTransient: a_batch_too_large_is_said_to_be_too_large,
    PermanentIsTransient: errors_of_the_broker_have_their_kind,
    NamesTheWrongRecord: what_is_refused_for_good_is_named,
    NamesTooFewRecords: what_is_refused_for_good_is_named,
    IgnoresDeadlines: a_black_hole_ends_in_time,
    IsLate: a_refused_port_ends_in_time,
    RefusedIsMaybe: a_refused_port_ends_in_time,
    LostIsNot: a_swallowed_answer_leaves_it_open_what_was_written,
    WritesLate: connect_works_after_it_failed,
    BlocksTheExecutor: waiting_does_not_block_the_executor,
    DoesNotRetry: passing_errors_are_retried,
    RetriesBlindly: a_lost_answer_leaves_no_duplicate_with_idempotence,
    GivesUpAtOnce: a_short_outage_within_the_deadline_is_survived,
    NeverConnectsAgain: connect_works_after_it_failed,
    CachesCounts: partitions_are_counted_by_the_cluster_and_not_by_a_cache,
    FailsOnExistingTopics: creating_a_topic_again_is_success,
    CreatesOnePartition: a_topic_is_created_as_configured,
    CapabilitiesChange: capabilities_do_not_change,
    ConnectBreaksWhatFlies: connect_leaves_nothing_in_flight_unanswered,
    LeaksDelivered: a_delivered_batch_is_let_go,
    LeaksFailed: a_failed_batch_is_let_go,
    LeaksDropped: dropped_calls_leak_nothing_and_wedge_nothing,
    WedgesWhenDropped: dropped_calls_leak_nothing_and_wedge_nothing,
    CloseForgets: close_ends_in_time_without_an_answer,
    CloseHangs: close_ends_in_time_without_an_answer,
    SendsAfterClose: nothing_is_sent_after_close,
    DebugShowsSecrets: secrets_are_not_shown,
    ErrorsShowSecrets: secrets_are_not_shown,
    DenialHasNoReason: who_is_denied_is_told_why_and_in_time,
    DenialIsTransient: who_is_denied_is_told_why_and_in_time,
    IgnoresAcks: acks_are_honoured_or_refused,
    IgnoresCompressionRefusal: compressed_batches_arrive_or_are_refused_at_construction,
    MixesUpTasks: many_partitions_at_once,
    SearchTellsTheLastPlace: a_search_finds_exactly_what_is_there,
    SearchGoesByTheFirstHeader: a_search_goes_by_the_last_header_of_the_name,
    SearchTakesNullForEmpty: a_search_takes_null_headers_for_no_value,
    SearchIgnoresOffsets: a_search_leaves_out_earlier_offsets,
    SearchIgnoresTimes: a_search_leaves_out_earlier_times,
    SearchFindsItsOwnOnly: a_search_finds_what_others_wrote,
    SearchFailsWhereNothingIs: an_empty_partition_is_searched_in_vain,
    SearchStopsEarly: a_long_log_is_searched_to_its_end,
    SearchRemembersTheEnd: a_search_sees_what_was_acknowledged,
    SearchTakesUnknownForEmpty: a_search_where_nothing_can_be_is_refused,
    SearchTellsAPart: a_search_that_comes_to_no_end_tells_no_part,
    SearchWedgesWhenDropped: dropped_searches_wedge_nothing,
    SearchesAfterClose: nothing_is_searched_after_close,
}

/// More bugs that other cases find, too.
mod again {
    use super::*;

    macro_rules! again {
        ($($name:ident: $bug:ident $case:ident,)*) => {$(
            #[test]
            fn $name() {
                finds(stringify!($case), |fixture| Box::pin(producer::$case(fixture)), Bug::$bug);
            }
        )*};
    }

    again! {
        lost: Reorders what_is_sent_through_cut_connections_arrives_in_order,
        counted: CountsOneLess partitions_are_counted,
        again: SendsTwice connect_may_be_called_again,
        reset: SendsTwice a_lost_connection_is_made_again,
        closed: CloseHangs close_answers_what_is_in_flight,
        stalled: WritesLate stalled_requests_end_in_time_and_are_tagged_rightly,
        hung: IgnoresDeadlines a_hung_broker_holds_up_no_metadata_call,
        shortest: IsLate the_shortest_timeouts_hold,
        moved: DoesNotRetry a_leader_that_moved_is_found,
        dropped: DropsARecord many_topics_at_once,
        values: CutsLargeValues keys_and_values_arrive_as_they_are,
        permanent: PermanentIsTransient what_is_refused_for_good_is_named,
        once: NeverConnectsAgain connect_works_after_it_failed,
        searched_late: IsLate a_search_of_nobody_ends_in_time,
        searched_by_halves: SearchTellsAPart a_search_survives_a_broker_that_hangs_or_is_gone,
        searched_compressed: SearchFindsItsOwnOnly a_search_reads_compressed_batches,
    }
}

/// A case that is written and not listed would never be run.
#[test]
fn every_case_is_in_the_macro() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
    for suite in ["producer", "storage", "dead_letter", "telemetry", "notifier", "partitioner"] {
        let mut files = vec![format!("{folder}/{suite}.rs")];
        if let Ok(entries) = std::fs::read_dir(format!("{folder}/{suite}")) {
            files = entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
        }
        let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let (_, list) = text.split_once("$crate::__conformance_tests! {").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        let listed: std::collections::BTreeSet<&str> = list.split_whitespace().skip(3).collect();
        let mut written = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                written.insert(rest.split('(').next().unwrap());
            }
        }
        assert_eq!(listed, written, "{suite}");
        assert!(!listed.is_empty());
    }
}
