//! A client: made, served, ended.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings as rd;

use super::conf::Conf;
use super::held::Held;
use super::raw;
use super::report::Reports;
use super::text::{Text, millis, owned};
use crate::code::Code;
use crate::parcel::Parcel;

/// A client of librdkafka. Dropping it blocks until its threads have ended, and loses what is in flight.
pub(crate) struct Client {
    pub(super) rk: NonNull<rd::rd_kafka_t>,
    pub(super) queue: NonNull<rd::rd_kafka_queue_t>,
    topics: Mutex<HashMap<Box<str>, NonNull<rd::rd_kafka_topic_t>>>,
    pub(super) held: Mutex<Held>,
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

/// Something the client has to say.
#[derive(Debug)]
pub(crate) enum Said {
    /// A log line; `level` is syslog's.
    Log { level: i32, facility: String, text: String },
    /// Something went wrong that concerns the whole client.
    Error { code: Code, text: String },
    /// Its statistics, as JSON.
    Statistics(String),
    /// A token is needed; [`Client::set_token`] takes it.
    TokenWanted,
}

/// What a client of librdkafka can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Producer,
    Consumer,
}

impl Client {
    /// Makes a client and starts its threads, without waiting for a broker.
    ///
    /// With `tokens` it asks for those of SASL/OAUTHBEARER: [`Said::TokenWanted`].
    pub(crate) fn new(mut conf: Conf, kind: Kind, tokens: bool) -> Result<Self, String> {
        let _always_there = conf.set("log.queue", "true");
        conf.explain_certificates();
        let mut text = Text::new();
        let mut events = rd::RD_KAFKA_EVENT_DR
            | rd::RD_KAFKA_EVENT_LOG
            | rd::RD_KAFKA_EVENT_ERROR
            | rd::RD_KAFKA_EVENT_STATS;
        if tokens {
            events |= rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
        }
        let kind = match kind {
            Kind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        // SAFETY: `conf` is valid; `rd_kafka_new` takes it over if and only if it succeeds.
        let rk = unsafe {
            rd::rd_kafka_conf_set_events(conf.0.as_ptr(), events);
            rd::rd_kafka_new(kind, conf.0.as_ptr(), text.ptr(), text.0.len())
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
            // SAFETY: an event of statistics has a text, which lives as long as the event.
            rd::RD_KAFKA_EVENT_STATS => {
                said(Said::Statistics(unsafe { owned(rd::rd_kafka_event_stats(event)) }))
            }
            rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => said(Said::TokenWanted),
            _ => {}
        }
        // SAFETY: ours, and nothing taken out of it is kept.
        unsafe { rd::rd_kafka_event_destroy(event) };
        true
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

    /// Whether librdkafka may still send records to this partition, of calls that have ended, too.
    pub(crate) fn holds(&self, topic: &str, partition: u32) -> bool {
        self.held.lock().parcels.values().any(|entry| entry.parcel.is_for(topic, partition))
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
    pub(super) ptr: NonNull<rd::rd_kafka_topic_t>,
    client: PhantomData<&'a Client>,
}

// SAFETY: a handle to a structure that librdkafka locks itself, alive as long as the client is.
unsafe impl Send for Topic<'_> {}
// SAFETY: as above.
unsafe impl Sync for Topic<'_> {}
