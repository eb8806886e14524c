//! Questions to the cluster. All of them block.

use std::ffi::{CString, c_int};
use std::num::NonZeroU32;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::client::{Client, Topic};
use super::raw;
use super::text::millis;
use crate::code::Code;

impl Client {
    /// Asks a broker who is there. Blocks.
    pub(crate) fn ping(&self, timeout: Duration) -> Result<(), Code> {
        self.metadata(None, timeout, |_| ())
    }

    /// Asks a broker for the topic's number of partitions. Blocks.
    pub(crate) fn partitions(&self, topic: Topic<'_>, timeout: Duration) -> Result<Option<NonZeroU32>, Code> {
        self.metadata(Some(topic), timeout, |metadata| {
            if metadata.topic_cnt < 1 || metadata.topics.is_null() {
                return Ok(None);
            }
            let topic = metadata.topics;
            // SAFETY: there is at least one topic. Its `err` is read as the number it is.
            let (code, count) =
                unsafe { ((&raw const (*topic).err).cast::<c_int>().read(), (*topic).partition_cnt) };
            match Code(code) {
                Code::NONE => Ok(u32::try_from(count).ok().and_then(NonZeroU32::new)),
                code => Err(code),
            }
        })?
    }

    /// Asks the leader of a partition for the offset of the first record and the one behind the last, which shows that
    /// it knows that it is the leader. Blocks.
    pub(crate) fn ask_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), Code> {
        let name = CString::new(topic).map_err(|_| Code::UNKNOWN_TOPIC)?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: `rk`, the string and the places to write to are valid.
        let code = Code(unsafe {
            raw::rd_kafka_query_watermark_offsets(
                self.rk.as_ptr(),
                name.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
                millis(timeout),
            )
        });
        if code == Code::NONE { Ok((low, high)) } else { Err(code) }
    }

    fn metadata<T>(
        &self,
        topic: Option<Topic<'_>>,
        timeout: Duration,
        read: impl FnOnce(&rd::rd_kafka_metadata) -> T,
    ) -> Result<T, Code> {
        let topic = topic.map_or(ptr::null_mut(), |topic| topic.ptr.as_ptr());
        let mut metadata = ptr::null();
        // SAFETY: `rk` is valid, `topic` is null or a handle of this client.
        let code =
            unsafe { raw::rd_kafka_metadata(self.rk.as_ptr(), 0, topic, &raw mut metadata, millis(timeout)) };
        if Code(code) != Code::NONE || metadata.is_null() {
            return Err(Code(code));
        }
        // SAFETY: given to us by a call that succeeded, and freed after its last use.
        unsafe {
            let result = read(&*metadata);
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(result)
        }
    }
}
