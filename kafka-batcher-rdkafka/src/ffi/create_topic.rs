//! Making a topic.

use std::ffi::{CString, c_int};
use std::num::NonZeroU32;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::client::Client;
use super::raw;
use super::text::{Text, describe, millis, owned};
use crate::code::Code;

impl Client {
    /// Creates a topic; `None` is the broker's default. Blocks.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: Option<NonZeroU32>,
        replicas: Option<NonZeroU32>,
        timeout: Duration,
    ) -> Result<(), (Code, String)> {
        let number = |n: Option<NonZeroU32>| n.map_or(-1, |n| c_int::try_from(n.get()).unwrap_or(c_int::MAX));
        let invalid = |text: String| (Code::INVALID_ARG, text);
        let c_name = CString::new(name).map_err(|error| invalid(error.to_string()))?;
        let mut text = Text::new();
        // SAFETY: every pointer passed is valid for its call. What is made here is destroyed here, once; the
        // result's strings are copied before the event that owns them is destroyed.
        unsafe {
            let mut topic = rd::rd_kafka_NewTopic_new(
                c_name.as_ptr(),
                number(partitions),
                number(replicas),
                text.ptr(),
                text.0.len(),
            );
            if topic.is_null() {
                return Err(invalid(text.read()));
            }
            let rk = self.rk.as_ptr();
            let options =
                rd::rd_kafka_AdminOptions_new(rk, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS);
            let set = rd::rd_kafka_AdminOptions_set_request_timeout;
            let _out_of_range_keeps_the_default =
                set(options, millis(timeout).max(1), text.ptr(), text.0.len());
            let queue = rd::rd_kafka_queue_new(rk);
            rd::rd_kafka_CreateTopics(rk, &raw mut topic, 1, options, queue);
            let event = rd::rd_kafka_queue_poll(queue, millis(timeout));
            let result = create_result(event);
            if !event.is_null() {
                rd::rd_kafka_event_destroy(event);
            }
            rd::rd_kafka_queue_destroy(queue);
            rd::rd_kafka_AdminOptions_destroy(options);
            rd::rd_kafka_NewTopic_destroy(topic);
            result
        }
    }
}

/// # Safety
/// `event` is null, or valid and a result of `rd_kafka_CreateTopics`.
unsafe fn create_result(event: *mut rd::rd_kafka_event_t) -> Result<(), (Code, String)> {
    if event.is_null() {
        return Err((Code::TIMED_OUT, describe(Code::TIMED_OUT)));
    }
    // SAFETY: valid as the caller promises; the result and its topics live as long as the event.
    unsafe {
        let code = Code(raw::rd_kafka_event_error(event));
        if code != Code::NONE {
            return Err((code, owned(rd::rd_kafka_event_error_string(event))));
        }
        let mut count = 0;
        let result = rd::rd_kafka_event_CreateTopics_result(event);
        if result.is_null() {
            return Err((Code::FAIL, "no result".to_owned()));
        }
        let topics = rd::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err((Code::FAIL, "the result names no topic".to_owned()));
        }
        let code = Code(raw::rd_kafka_topic_result_error(*topics));
        let text = owned(rd::rd_kafka_topic_result_error_string(*topics));
        if code == Code::NONE { Ok(()) } else { Err((code, text)) }
    }
}
