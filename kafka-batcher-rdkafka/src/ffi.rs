//! The only module that talks to the C library; everything outside of it is safe code.
//!
//! What makes it sound, in one place:
//!
//! * **Values are borrowed by librdkafka**, from the moment a record is handed over until its delivery
//!   report (or until the client is destroyed). [`Client::hold`] therefore puts the batch's parcel into
//!   the client's `held` map, and only [`Client`] takes it out again, when as many reports came in as
//!   records were handed over. Nobody outside can shorten that. A batch's buffer is immutable and does
//!   not move while a handle to it exists.
//! * **A record's opaque is a number**, its ticket, and never dereferenced. The map translates it.
//! * **Error codes are read as `i32`**, never as the generated Rust enum: a broker may send a code that
//!   the enum doesn't know, and such a value in an enum would be undefined behaviour.
//! * The client's pointers are freed once, in `Drop`, topics and queue before the client itself.
#![expect(unsafe_code, reason = "librdkafka is a C library")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use kafka_batcher_core::RecordRef;
use kafka_batcher_core::batch::Records;
use parking_lot::Mutex;
use rdkafka::bindings as rd;

use crate::code::Code;
use crate::parcel::Parcel;

/// The same functions as in the bindings, but with error codes as the plain numbers they are in C.
mod raw {
    use super::{c_char, c_int, rd};

    unsafe extern "C" {
        pub(super) fn rd_kafka_err2str(code: c_int) -> *const c_char;
        pub(super) fn rd_kafka_error_code(error: *const rd::rd_kafka_error_t) -> c_int;
        pub(super) fn rd_kafka_event_error(event: *mut rd::rd_kafka_event_t) -> c_int;
        pub(super) fn rd_kafka_fatal_error(rk: *mut rd::rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
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
    }
}

/// A buffer librdkafka writes an error text into.
struct Text([c_char; 512]);

impl Text {
    const fn new() -> Self {
        Self([0; 512])
    }

    fn ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    fn read(&self) -> String {
        // SAFETY: librdkafka ends what it writes with a NUL inside the size given; untouched it is all NUL.
        unsafe { owned(self.0.as_ptr()) }
    }
}

/// Copies a C string; null gives an empty one.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// What librdkafka says an error code means.
pub(crate) fn describe(code: Code) -> String {
    // SAFETY: takes any number, and returns a static string or one in thread-local storage.
    unsafe { owned(raw::rd_kafka_err2str(code.0)) }
}

/// Why a property was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// There is no such property.
    Name,
    /// The property can't have this value.
    Value,
}

/// Settings of a client that is to be made.
pub(crate) struct Conf(NonNull<rd::rd_kafka_conf_t>);

// SAFETY: a plain C structure without thread affinity, owned by this value alone.
unsafe impl Send for Conf {}

impl Conf {
    /// librdkafka's defaults; `None` when out of memory.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: no preconditions.
        NonNull::new(unsafe { rd::rd_kafka_conf_new() }).map(Self)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Unfit> {
        let name = CString::new(name).map_err(|_| Unfit::Name)?;
        let value = CString::new(value).map_err(|_| Unfit::Value)?;
        let mut text = Text::new();
        // SAFETY: all pointers are valid for the call, which copies what it keeps; the size is the buffer's.
        let result = unsafe {
            rd::rd_kafka_conf_set(self.0.as_ptr(), name.as_ptr(), value.as_ptr(), text.ptr(), text.0.len())
        };
        match result {
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(Unfit::Name),
            _ => Err(Unfit::Value),
        }
    }

    pub(crate) fn get(&self, name: &CStr) -> Option<String> {
        let mut text = Text::new();
        let mut size = text.0.len();
        // SAFETY: all pointers are valid for the call; it writes at most `size` bytes, the NUL included.
        let result =
            unsafe { rd::rd_kafka_conf_get(self.0.as_ptr(), name.as_ptr(), text.ptr(), &raw mut size) };
        (result == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK).then(|| text.read())
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: owned and not given away: giving it to a client forgets `self`.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

/// A producer of librdkafka. Dropping it blocks until its threads have ended, and loses what is in flight.
pub(crate) struct Client {
    rk: NonNull<rd::rd_kafka_t>,
    queue: NonNull<rd::rd_kafka_queue_t>,
    topics: Mutex<HashMap<Box<str>, NonNull<rd::rd_kafka_topic_t>>>,
    held: Mutex<Held>,
}

// SAFETY: librdkafka's functions may be called from any thread at once; our own fields are behind locks.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Parcels that librdkafka may still read from, by their first ticket.
#[derive(Default)]
struct Held {
    parcels: BTreeMap<usize, Entry>,
    next: usize,
}

struct Entry {
    parcel: Arc<Parcel>,
    /// Tickets taken: one for each record.
    tickets: usize,
    /// Records handed over, once it is known.
    handed: Option<usize>,
    reported: usize,
}

impl Held {
    /// Finds `tickets` numbers in a row of which none is in use. They run out on 32-bit machines only, where
    /// they are used again.
    fn take(&mut self, tickets: usize) -> usize {
        let mut base = self.next.max(1);
        loop {
            let Some(end) = base.checked_add(tickets) else {
                base = 1;
                continue;
            };
            match self.parcels.range(..end).next_back() {
                Some((other, entry)) if other + entry.tickets > base => base = other + entry.tickets,
                _ => {
                    self.next = end;
                    return base;
                }
            }
        }
    }

    fn settle(&mut self, base: usize) -> Option<Arc<Parcel>> {
        let entry = self.parcels.get(&base)?;
        if entry.handed != Some(entry.reported) {
            return None;
        }
        self.parcels.remove(&base).map(|entry| entry.parcel)
    }
}

/// Something the client has to say.
#[derive(Debug)]
pub(crate) enum Said {
    /// A log line; `level` is syslog's.
    Log { level: i32, facility: String, text: String },
    /// Something went wrong that concerns the whole client.
    Error { code: Code, text: String },
}

impl Client {
    /// Makes a client and starts its threads, without waiting for a broker.
    pub(crate) fn new(mut conf: Conf) -> Result<Self, String> {
        let _always_there = conf.set("log.queue", "true");
        let mut text = Text::new();
        let events = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_LOG | rd::RD_KAFKA_EVENT_ERROR;
        // SAFETY: `conf` is valid; `rd_kafka_new` takes it over if and only if it succeeds.
        let rk = unsafe {
            rd::rd_kafka_conf_set_events(conf.0.as_ptr(), events);
            rd::rd_kafka_new(
                rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                conf.0.as_ptr(),
                text.ptr(),
                text.0.len(),
            )
        };
        let rk = NonNull::new(rk).ok_or_else(|| text.read())?;
        std::mem::forget(conf);
        // SAFETY: `rk` was just made. Null, which does not happen, is dealt with below.
        let Some(queue) = NonNull::new(unsafe { rd::rd_kafka_queue_get_main(rk.as_ptr()) }) else {
            // SAFETY: made above and used by nobody.
            unsafe { rd::rd_kafka_destroy(rk.as_ptr()) };
            return Err("the client has no main queue".to_owned());
        };
        // SAFETY: both were just made.
        let _only_fails_without_log_queue =
            unsafe { rd::rd_kafka_set_log_queue(rk.as_ptr(), queue.as_ptr()) };
        Ok(Self { rk, queue, topics: Mutex::default(), held: Mutex::default() })
    }

    /// The handle of a topic, made on first use with `properties` on top of the client's defaults.
    pub(crate) fn topic(
        &self,
        name: &str,
        properties: impl FnOnce() -> &'static [(&'static str, &'static str)],
    ) -> Result<Topic<'_>, String> {
        let mut topics = self.topics.lock();
        if let Some(topic) = topics.get(name) {
            return Ok(Topic { ptr: *topic, client: PhantomData });
        }
        let c_name = CString::new(name).map_err(|error| error.to_string())?;
        let mut text = Text::new();
        // SAFETY: `rk` is valid; the copy belongs to us until `rd_kafka_topic_new` takes it over, which it does
        // in any case, or until we destroy it; strings are valid for the calls.
        let topic = unsafe {
            let conf = rd::rd_kafka_default_topic_conf_dup(self.rk.as_ptr());
            for (key, value) in properties() {
                let (Ok(key), Ok(value)) = (CString::new(*key), CString::new(*value)) else { continue };
                let set =
                    rd::rd_kafka_topic_conf_set(conf, key.as_ptr(), value.as_ptr(), text.ptr(), text.0.len());
                if set != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    rd::rd_kafka_topic_conf_destroy(conf);
                    return Err(text.read());
                }
            }
            rd::rd_kafka_topic_new(self.rk.as_ptr(), c_name.as_ptr(), conf)
        };
        let topic =
            NonNull::new(topic).ok_or_else(|| format!("topic `{name}` is not a name Kafka allows"))?;
        topics.insert(name.into(), topic);
        Ok(Topic { ptr: topic, client: PhantomData })
    }

    /// Keeps `parcel` until librdkafka is done with it, and readies its records for handing over.
    pub(crate) fn hold<'a>(&'a self, parcel: &'a Arc<Parcel>) -> Hold<'a> {
        let batch = parcel.batch();
        let tickets = batch.len() as usize;
        let mut held = self.held.lock();
        let base = held.take(tickets);
        let entry = Entry { parcel: Arc::clone(parcel), tickets, handed: None, reported: 0 };
        held.parcels.insert(base, entry);
        Hold { client: self, parcel, base, handed: 0, records: batch.records(), pending: None }
    }

    /// Waits for the next event, up to `timeout`, and handles it; `false` when there was none.
    pub(crate) fn serve(&self, timeout: Duration, room: &mut Reports, said: &mut dyn FnMut(Said)) -> bool {
        // SAFETY: the queue is valid; the event returned belongs to us.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue.as_ptr(), millis(timeout)) };
        if event.is_null() {
            return false;
        }
        // SAFETY: the event is valid until destroyed below, and with it all it contains.
        let kind = unsafe { rd::rd_kafka_event_type(event) };
        match kind {
            rd::RD_KAFKA_EVENT_DR => loop {
                // SAFETY: `room` has place for as many pointers as we say.
                let count =
                    unsafe { rd::rd_kafka_event_message_array(event, room.0.as_mut_ptr(), room.0.len()) };
                if count == 0 {
                    break;
                }
                // SAFETY: the first `count` pointers were just written, and are valid as long as the event is.
                unsafe { self.report(&room.0[..count]) };
            },
            rd::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
                // SAFETY: the places to write to are valid; the strings live as long as the event.
                let line = unsafe {
                    let known =
                        rd::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level) == 0;
                    known.then(|| Said::Log { level, facility: owned(facility), text: owned(text) })
                };
                line.into_iter().for_each(said);
            }
            rd::RD_KAFKA_EVENT_ERROR => {
                // SAFETY: an error event has both; the string lives as long as the event.
                said(unsafe {
                    Said::Error {
                        code: Code(raw::rd_kafka_event_error(event)),
                        text: owned(rd::rd_kafka_event_error_string(event)),
                    }
                });
            }
            _ => {}
        }
        // SAFETY: ours, and nothing taken out of it is kept.
        unsafe { rd::rd_kafka_event_destroy(event) };
        true
    }

    /// Tells parcels about their reports, and lets go of those that got their last.
    ///
    /// # Safety
    /// All pointers are to messages of an event that is not destroyed yet.
    unsafe fn report(&self, mut messages: &[*const rd::rd_kafka_message_t]) {
        // SAFETY: valid messages, as the caller promises; `_private` is the ticket, a number.
        let ticket = |message: &*const rd::rd_kafka_message_t| unsafe { (**message)._private }.addr();
        while let Some(first) = messages.first() {
            let first = ticket(first);
            let found = {
                let held = self.held.lock();
                let before = held.parcels.range(..=first).next_back();
                before.map(|(base, entry)| (*base, entry.tickets, Arc::clone(&entry.parcel)))
            };
            let Some((base, tickets, parcel)) = found.filter(|(base, tickets, _)| first - base < *tickets)
            else {
                messages = &messages[1..]; // not one of ours; can't be
                continue;
            };
            let run = messages.iter().take_while(|m| ticket(m).wrapping_sub(base) < tickets).count();
            let (run, rest) = messages.split_at(run);
            messages = rest;
            parcel.report(run.iter().map(|message| Report { message, base }));
            drop(parcel);
            let settled = {
                let mut held = self.held.lock();
                if let Some(entry) = held.parcels.get_mut(&base) {
                    entry.reported += run.len();
                }
                held.settle(base)
            };
            // Wakes the waiter, when the batch is out of our hands.
            if let Some(parcel) = settled {
                parcel.settle();
            }
        }
    }

    /// Makes a [`serve`](Self::serve) that waits, or the next one, return at once.
    pub(crate) fn nudge(&self) {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }

    /// Records and requests that are not done with.
    pub(crate) fn outstanding(&self) -> usize {
        // SAFETY: `rk` is valid.
        usize::try_from(unsafe { rd::rd_kafka_outq_len(self.rk.as_ptr()) }).unwrap_or(0)
    }

    /// Fails everything that is queued or in flight; the reports follow.
    pub(crate) fn purge(&self) {
        const QUEUE_AND_INFLIGHT: c_int = 0x1 | 0x2; // RD_KAFKA_PURGE_F_QUEUE, RD_KAFKA_PURGE_F_INFLIGHT
        // SAFETY: `rk` is valid.
        let _fails_on_consumers_only = unsafe { rd::rd_kafka_purge(self.rk.as_ptr(), QUEUE_AND_INFLIGHT) };
    }

    /// Answers everybody who still waits. What librdkafka holds stays held until the client is dropped.
    pub(crate) fn abandon(&self) {
        let parcels: Vec<_> =
            self.held.lock().parcels.values().map(|entry| Arc::clone(&entry.parcel)).collect();
        parcels.into_iter().for_each(Parcel::settle);
    }

    /// The error that made this client unusable, if one did.
    pub(crate) fn fatal(&self) -> Option<(Code, String)> {
        let mut text = Text::new();
        // SAFETY: `rk` is valid, the size is the buffer's.
        let code = Code(unsafe { raw::rd_kafka_fatal_error(self.rk.as_ptr(), text.ptr(), text.0.len()) });
        (code != Code::NONE).then(|| (code, text.read()))
    }

    /// Raises a fatal error as if librdkafka had found one; for tests.
    pub(crate) fn raise_fatal(&self, reason: &CStr) {
        let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: `rk` and the string are valid.
        let _only_the_first_counts =
            unsafe { rd::rd_kafka_test_fatal_error(self.rk.as_ptr(), code, reason.as_ptr()) };
    }

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

    /// Asks the leader of a partition for its offsets, which shows that it knows that it is. Blocks.
    pub(crate) fn ask_leader(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(), Code> {
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
        if code == Code::NONE { Ok(()) } else { Err(code) }
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

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: each was made by or for this client and is freed once, here. When the last call returns,
        // librdkafka's threads have ended and nothing reads from the parcels any more; they go after it.
        unsafe {
            for topic in self.topics.get_mut().values() {
                rd::rd_kafka_topic_destroy(topic.as_ptr());
            }
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
            rd::rd_kafka_destroy(self.rk.as_ptr());
        }
        self.abandon();
    }
}

/// A topic of a client.
#[derive(Clone, Copy)]
pub(crate) struct Topic<'a> {
    ptr: NonNull<rd::rd_kafka_topic_t>,
    client: PhantomData<&'a Client>,
}

// SAFETY: a handle to a structure that librdkafka locks itself, alive as long as the client is.
unsafe impl Send for Topic<'_> {}
// SAFETY: as above.
unsafe impl Sync for Topic<'_> {}

/// Place for the pointers of one round of delivery reports.
pub(crate) struct Reports(Vec<*const rd::rd_kafka_message_t>);

impl Reports {
    pub(crate) fn new() -> Self {
        Self(vec![ptr::null(); 1024])
    }
}

/// A delivery report. Made only from messages whose event is alive for longer than `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Report<'a> {
    message: &'a *const rd::rd_kafka_message_t,
    base: usize,
}

impl Report<'_> {
    /// Index of the record in its batch.
    #[inline]
    pub(crate) fn index(self) -> u32 {
        // SAFETY: the message is valid as long as the event, which outlives the iteration that made this.
        let ticket = unsafe { (**self.message)._private }.addr();
        (ticket - self.base) as u32 // less than the batch's length, a u32
    }

    #[inline]
    pub(crate) fn code(self) -> Code {
        // SAFETY: as above; read as the number it is.
        Code(unsafe { (&raw const (**self.message).err).cast::<c_int>().read() })
    }

    #[inline]
    pub(crate) fn offset(self) -> i64 {
        // SAFETY: as above.
        unsafe { (**self.message).offset }
    }

    /// Whether the record is certainly not in the log.
    pub(crate) fn not_persisted(self) -> bool {
        // SAFETY: as above.
        let status = unsafe { rd::rd_kafka_message_status(*self.message) };
        status == rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
    }

    /// The broker's own words, or librdkafka's for the code.
    pub(crate) fn text(self) -> String {
        // SAFETY: as above; the string lives as long as the message.
        let text = unsafe { owned(rd::rd_kafka_message_produce_errstr(*self.message)) };
        if text.is_empty() { describe(self.code()) } else { text }
    }
}

/// A parcel whose records are being handed over; dropping it ends that.
pub(crate) struct Hold<'a> {
    client: &'a Client,
    parcel: &'a Arc<Parcel>,
    base: usize,
    handed: usize,
    records: Records<'a>,
    pending: Option<RecordRef<'a>>,
}

/// How far handing over got.
#[derive(Debug)]
pub(crate) enum Step {
    /// There are more records.
    More,
    /// All are handed over.
    Done,
    /// librdkafka's queue is full.
    Full,
    /// The next record was refused.
    Refused(Code, String),
}

impl Hold<'_> {
    /// Records handed over so far.
    pub(crate) fn handed(&self) -> usize {
        self.handed
    }

    /// Hands up to `at_most` records over.
    pub(crate) fn hand_over(&mut self, topic: Topic<'_>, partition: i32, at_most: u32) -> Step {
        let mem = |bytes: Option<&[u8]>| rd::rd_kafka_vu_s__bindgen_ty_1 {
            mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                // A slice's pointer is never null, so "empty" and "null" stay two things.
                ptr: bytes.map_or(ptr::null_mut(), |b| b.as_ptr().cast_mut().cast()),
                size: bytes.map_or(0, <[u8]>::len),
            },
        };
        let vu = |vtype: rd::rd_kafka_vtype_t, u| rd::rd_kafka_vu_t { vtype, u };
        use rd::rd_kafka_vtype_t as V;
        type U = rd::rd_kafka_vu_s__bindgen_ty_1;
        let mut vus = [
            vu(V::RD_KAFKA_VTYPE_RKT, U { rkt: topic.ptr.as_ptr() }),
            vu(V::RD_KAFKA_VTYPE_PARTITION, U { i32_: partition }),
            vu(V::RD_KAFKA_VTYPE_VALUE, mem(None)),
            vu(V::RD_KAFKA_VTYPE_KEY, mem(None)),
            vu(V::RD_KAFKA_VTYPE_TIMESTAMP, U { i64_: 0 }),
            vu(V::RD_KAFKA_VTYPE_OPAQUE, U { ptr: ptr::null_mut() }),
            vu(V::RD_KAFKA_VTYPE_HEADERS, U { headers: ptr::null_mut() }),
        ];
        for _ in 0..at_most {
            let Some(record) = self.pending.take().or_else(|| self.records.next()) else { return Step::Done };
            vus[2].u = mem(record.value);
            vus[3].u = mem(record.key);
            // To librdkafka 0 means "now"; the epoch itself is the one time it can't send.
            vus[4].u.i64_ = record.timestamp.map_or(0, |t| if t == 0 { 1 } else { t });
            vus[5].u.ptr = ptr::without_provenance_mut::<c_void>(self.base + self.handed);
            let headers = if record.headers.is_empty() { ptr::null_mut() } else { headers(&record) };
            vus[6].u.headers = headers;
            let count = vus.len() - usize::from(headers.is_null());
            // SAFETY: the client and the topic, which is one of its own, are valid. Key and timestamp are copied.
            // The value is read until its delivery report came: it lies in the batch of a parcel that
            // `Client::held` keeps until as many reports came as records were handed over, or until the client
            // is destroyed. Headers are taken over on success only.
            let error = unsafe { rd::rd_kafka_produceva(self.client.rk.as_ptr(), vus.as_ptr(), count) };
            if error.is_null() {
                self.handed += 1;
                continue;
            }
            // SAFETY: both are ours after a failure.
            let (code, text) = unsafe {
                if !headers.is_null() {
                    rd::rd_kafka_headers_destroy(headers);
                }
                let error_is =
                    (Code(raw::rd_kafka_error_code(error)), owned(rd::rd_kafka_error_string(error)));
                rd::rd_kafka_error_destroy(error);
                error_is
            };
            self.pending = Some(record);
            return if code == Code::QUEUE_FULL { Step::Full } else { Step::Refused(code, text) };
        }
        if self.records.len() == 0 { Step::Done } else { Step::More }
    }
}

/// Copies a record's headers into a list of librdkafka's.
fn headers(record: &RecordRef<'_>) -> *mut rd::rd_kafka_headers_t {
    // SAFETY: the list is made here and given to the caller; names and values are copied, lengths are theirs.
    // No slice is longer than isize::MAX.
    unsafe {
        let list = rd::rd_kafka_headers_new(record.headers.len());
        for header in record.headers.iter() {
            let name = header.name.as_bytes();
            let (value, size) = header.value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            let _fails_on_shared_lists_only = rd::rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                name.len() as isize,
                value.cast(),
                size as isize,
            );
        }
        list
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.parcel.handed_over(self.handed as u32);
        let settled = {
            let mut held = self.client.held.lock();
            if let Some(entry) = held.parcels.get_mut(&self.base) {
                entry.handed = Some(self.handed);
            }
            held.settle(self.base)
        };
        if let Some(parcel) = settled {
            parcel.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_batcher_core::{BatchBuilder, Record};

    use super::*;

    fn held(held: &mut Held, tickets: usize) -> usize {
        let base = held.take(tickets);
        let mut builder = BatchBuilder::new();
        assert!(builder.push(&Record::new("v").as_ref(), 1, None, usize::MAX));
        let parcel = Arc::new(Parcel::new(builder.seal().expect("one record"), true));
        held.parcels.insert(base, Entry { parcel, tickets, handed: None, reported: 0 });
        base
    }

    #[test]
    fn tickets_are_never_in_use_twice_even_when_numbers_run_out() {
        let mut all = Held { next: usize::MAX - 25, ..Held::default() };
        let bases: Vec<_> = [10, 10, 10, 5, 10].into_iter().map(|tickets| held(&mut all, tickets)).collect();
        assert_eq!(bases, [usize::MAX - 25, usize::MAX - 15, 1, 11, 16]);
        // Around again, with some of the first still out.
        all.parcels.remove(&11);
        all.next = usize::MAX - 5;
        assert_eq!(held(&mut all, 5), usize::MAX - 5);
        assert_eq!(held(&mut all, 6), 26, "11 to 15 have room for 5");
        all.next = 1;
        assert_eq!(held(&mut all, 5), 11);
    }

    #[test]
    fn a_parcel_is_let_go_at_its_last_report_and_not_before() {
        let mut all = Held::default();
        let base = held(&mut all, 3);
        let entry = |all: &mut Held, handed, reported| {
            let entry = all.parcels.get_mut(&base).expect("still held");
            (entry.handed, entry.reported) = (handed, reported);
        };
        entry(&mut all, None, 3);
        assert!(all.settle(base).is_none(), "more may be handed over");
        entry(&mut all, Some(3), 2);
        assert!(all.settle(base).is_none(), "one is out");
        entry(&mut all, Some(3), 3);
        assert!(all.settle(base).is_some());
        assert!(all.settle(base).is_none());
    }
}
