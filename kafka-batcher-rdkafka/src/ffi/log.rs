//! Reading the log of a partition, without being one of a group.

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::client::{Client, Topic};
use super::raw;
use super::text::{describe, millis, owned};
use crate::code::Code;

impl Client {
    /// Asks for the offset of the first record that has this timestamp or a later one; `None` if none has. Blocks.
    pub(crate) fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        timeout: Duration,
    ) -> Result<Option<i64>, Code> {
        let name = CString::new(topic).map_err(|_| Code::UNKNOWN_TOPIC)?;
        // SAFETY: the list is made here with its one element, which is valid as long as the list; the string is copied.
        // The element's `err` is read as the number it is.
        let (code, offset) = unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(1);
            let element = rd::rd_kafka_topic_partition_list_add(list, name.as_ptr(), partition);
            (*element).offset = timestamp;
            let code = raw::rd_kafka_offsets_for_times(self.rk.as_ptr(), list, millis(timeout));
            let of_partition = (&raw const (*element).err).cast::<c_int>().read();
            let offset = (*element).offset;
            rd::rd_kafka_topic_partition_list_destroy(list);
            (if code == 0 { of_partition } else { code }, offset)
        };
        match Code(code) {
            // The end of the log is a negative number.
            Code::NONE => Ok((offset >= 0).then_some(offset)),
            code => Err(code),
        }
    }

    /// Starts reading a partition at this offset, which nobody else does with this client.
    pub(crate) fn read<'a>(
        &'a self,
        topic: Topic<'a>,
        partition: i32,
        from: i64,
    ) -> Result<Reading<'a>, Code> {
        // SAFETY: the topic is valid. What is read belongs to `Reading`, which ends it.
        let started = unsafe { rd::rd_kafka_consume_start(topic.ptr.as_ptr(), partition, from) };
        if started == 0 {
            return Ok(Reading { topic, partition });
        }
        // SAFETY: no preconditions.
        Err(Code(unsafe { raw::rd_kafka_last_error() }))
    }
}

/// A partition that is being read; dropping it ends that.
pub(crate) struct Reading<'a> {
    topic: Topic<'a>,
    partition: i32,
}

/// What reading came upon.
#[derive(Debug)]
pub(crate) enum Read {
    /// A record at this offset.
    Record(i64),
    /// The end of the log: the next record will be at this offset, or behind it.
    End(i64),
    /// Nothing yet.
    Nothing,
    /// Reading can't go on.
    Failed(Code, String),
}

impl Reading<'_> {
    /// Waits for the next record, up to `timeout`; `see` gets its offset and the value of its last header of this name.
    pub(crate) fn next(
        &mut self,
        timeout: Duration,
        header: &CStr,
        see: impl FnOnce(i64, Option<&[u8]>),
    ) -> Read {
        // SAFETY: the topic is valid and being read; the message belongs to us until destroyed below, and nothing
        // taken out of it is kept. Its `err` is read as the number it is.
        unsafe {
            let message = rd::rd_kafka_consume(self.topic.ptr.as_ptr(), self.partition, millis(timeout));
            if message.is_null() {
                return Read::Nothing;
            }
            let code = Code((&raw const (*message).err).cast::<c_int>().read());
            let offset = (*message).offset;
            let read = match code {
                Code::NONE => match last_header(message, header) {
                    Ok(value) => {
                        see(offset, value);
                        Read::Record(offset)
                    }
                    Err(code) => Read::Failed(code, describe(code)),
                },
                Code::PARTITION_EOF => Read::End(offset),
                code => Read::Failed(code, owned(rd::rd_kafka_message_errstr(message))),
            };
            rd::rd_kafka_message_destroy(message);
            read
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // SAFETY: valid, and being read. Waits for librdkafka's own thread, not for a broker.
        let _only_fails_for_unknown_partitions =
            unsafe { rd::rd_kafka_consume_stop(self.topic.ptr.as_ptr(), self.partition) };
    }
}

/// # Safety
/// `message` is valid, for longer than what is returned is used.
unsafe fn last_header<'a>(
    message: *const rd::rd_kafka_message_t,
    name: &CStr,
) -> Result<Option<&'a [u8]>, Code> {
    const NO_HEADERS: Code = Code(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT as c_int);
    let mut headers = ptr::null_mut();
    // SAFETY: valid, and so is the place to write to.
    match Code(unsafe { raw::rd_kafka_message_headers(message, &raw mut headers) }) {
        Code::NONE => {}
        NO_HEADERS => return Ok(None),
        code => return Err(code),
    }
    let (mut value, mut size) = (ptr::null(), 0);
    // SAFETY: the headers are the message's, the string ends with a NUL, and so on as above.
    let found = unsafe {
        raw::rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size) == 0
            && !value.is_null()
    };
    // SAFETY: librdkafka says that so many bytes of the message's are there.
    Ok(found.then(|| unsafe { std::slice::from_raw_parts(value.cast(), size) }))
}
