//! Delivery reports.

use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::client::Client;
use super::text::{describe, owned};
use crate::code::Code;

impl Client {
    /// Tells parcels about their reports, and lets go of those that got their last.
    ///
    /// # Safety
    /// All pointers are to messages of an event that is not destroyed yet.
    pub(super) unsafe fn report(&self, mut messages: &[*const rd::rd_kafka_message_t]) {
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
}

/// Place for the pointers of one round of delivery reports.
pub(crate) struct Reports(pub(super) Vec<*const rd::rd_kafka_message_t>);

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
