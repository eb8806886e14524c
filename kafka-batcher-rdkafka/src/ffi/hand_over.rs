//! Giving the records of a batch to librdkafka.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use kafka_batcher_core::RecordRef;
use kafka_batcher_core::batch::Records;
use rdkafka::bindings as rd;

use super::client::{Client, Topic};
use super::held::Entry;
use super::raw;
use super::text::owned;
use crate::code::Code;
use crate::parcel::Parcel;

impl Client {
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
