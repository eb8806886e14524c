//! The same functions as in the bindings, but with error codes as the plain numbers they are in C.

use std::ffi::{c_char, c_int, c_void};

use rdkafka::bindings as rd;

unsafe extern "C" {
    pub(super) fn rd_kafka_err2str(code: c_int) -> *const c_char;
    pub(super) fn rd_kafka_error_code(error: *const rd::rd_kafka_error_t) -> c_int;
    pub(super) fn rd_kafka_event_error(event: *mut rd::rd_kafka_event_t) -> c_int;
    pub(super) fn rd_kafka_fatal_error(rk: *mut rd::rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
    pub(super) fn rd_kafka_header_get_last(
        headers: *const rd::rd_kafka_headers_t,
        name: *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> c_int;
    pub(super) fn rd_kafka_last_error() -> c_int;
    pub(super) fn rd_kafka_message_headers(
        message: *const rd::rd_kafka_message_t,
        headers: *mut *mut rd::rd_kafka_headers_t,
    ) -> c_int;
    pub(super) fn rd_kafka_offsets_for_times(
        rk: *mut rd::rd_kafka_t,
        times: *mut rd::rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_topic_result_error(result: *const rd::rd_kafka_topic_result_t) -> c_int;
    pub(super) fn rd_kafka_query_watermark_offsets(
        rk: *mut rd::rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_metadata(
        rk: *mut rd::rd_kafka_t,
        all: c_int,
        only: *mut rd::rd_kafka_topic_t,
        metadata: *mut *const rd::rd_kafka_metadata,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_oauthbearer_set_token(
        rk: *mut rd::rd_kafka_t,
        value: *const c_char,
        expires_at: i64,
        principal: *const c_char,
        extensions: *mut *const c_char,
        count: usize,
        text: *mut c_char,
        size: usize,
    ) -> c_int;
}
