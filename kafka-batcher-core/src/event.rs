//! Events: what an application hands in, and how it becomes a record.

use std::any::Any;
use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;

use crate::record::{Headers, HeadersRef, Record, RecordRef, ToHeaders};

/// An event that can be added to a collector.
///
/// Implemented for a value, a `(key, value)` pair, a `(headers, key, value)` triple and [`Record`].
/// Values and keys are anything that is a [`Payload`]: bytes, strings, `Option` of those (`None`
/// is Kafka's null), and [`Json`] around any `serde::Serialize`.
///
/// One event is always one record: a map or a list wrapped in [`Json`] is one JSON document, never
/// its members one by one.
///
/// ```
/// use kafka_batcher_core::{Event, Json};
///
/// fn takes(event: impl Event) {}
/// takes("value");
/// takes(("key", "value"));
/// takes(([("trace", "1")], "key", vec![1u8, 2, 3]));
/// takes(("key", Json(std::collections::BTreeMap::from([("a", 1)]))));
/// takes((None::<&str>, "a value with a null key"));
/// ```
pub trait Event {
    /// Shows the event to `f` as a borrowed record, together with the typed event if there is one.
    ///
    /// # Errors
    /// [`EventError`] when the event can't be encoded; `f` is then not called.
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError>;
}

/// An event as partitioners and flushers see it: the record, and the value before it was encoded.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    /// Key, value and headers as they will be sent.
    pub record: RecordRef<'a>,
    typed: Option<&'a dyn Any>,
}

impl<'a> EventRef<'a> {
    /// A view of a record that has no typed event behind it (bytes, or an event read back from storage).
    #[must_use]
    pub const fn of_record(record: RecordRef<'a>) -> Self {
        Self { record, typed: None }
    }

    /// The value as the application gave it, before it was encoded: the `T` of a [`Json<T>`].
    ///
    /// `None` when the event is of another type, was given as bytes, or comes back from storage.
    #[must_use]
    pub fn typed<T: 'static>(&self) -> Option<&'a T> {
        self.typed.and_then(|any| any.downcast_ref())
    }
}

impl std::fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRef")
            .field("record", &self.record)
            .field("typed", &self.typed.is_some())
            .finish()
    }
}

/// Why an event could not be turned into a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Its `Serialize` implementation failed, or it can't be expressed in JSON (a map with non-string keys).
    #[error("the event can't be encoded as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Something that can be a record's key or value.
pub trait Payload {
    /// Shows the bytes to `f`; `None` is Kafka's null.
    ///
    /// # Errors
    /// [`EventError`] when it can't be encoded; `f` is then not called.
    fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError>;

    /// The value before encoding, for partitioners and flushers that want its type.
    fn typed(&self) -> Option<&dyn Any> {
        None
    }
}

macro_rules! payload_as_ref {
    ($($t:ty),* $(,)?) => {$(
        impl Payload for $t {
            fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError> {
                Ok(f(Some(self.as_ref())))
            }
        }
    )*};
}

payload_as_ref!([u8], str, Vec<u8>, String, Bytes, Box<[u8]>);

impl<const LEN: usize> Payload for [u8; LEN] {
    fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError> {
        Ok(f(Some(self)))
    }
}

impl<P: Payload + ?Sized> Payload for &P {
    fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError> {
        (**self).with_bytes(f)
    }

    fn typed(&self) -> Option<&dyn Any> {
        (**self).typed()
    }
}

impl<P: Payload> Payload for Option<P> {
    fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError> {
        match self {
            Some(payload) => payload.with_bytes(f),
            None => Ok(f(None)),
        }
    }

    fn typed(&self) -> Option<&dyn Any> {
        self.as_ref().and_then(Payload::typed)
    }
}

/// Any serialisable value, sent as JSON.
///
/// Partitioners and flushers reach the value itself through [`EventRef::typed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

thread_local! {
    /// Where JSON is written before it is copied into the batch, kept between events.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A scratch buffer that grew beyond this is not kept.
const SCRATCH_KEPT: usize = 64 * 1024;

impl<T: Serialize + 'static> Payload for Json<T> {
    fn with_bytes<R>(&self, f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, EventError> {
        // Taken out, not borrowed: a key and a value may both be JSON, and `f` may run user code.
        let mut buffer = SCRATCH.take();
        buffer.clear();
        serde_json::to_writer(&mut buffer, &self.0)?;
        let result = f(Some(&buffer));
        if buffer.capacity() <= SCRATCH_KEPT {
            SCRATCH.set(buffer);
        }
        Ok(result)
    }

    fn typed(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }
}

impl<V: Payload> Event for V {
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError> {
        self.with_bytes(|value| {
            let record = RecordRef { value, ..RecordRef::default() };
            f(EventRef { record, typed: self.typed() })
        })
    }
}

impl<K: Payload, V: Payload> Event for (K, V) {
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError> {
        with_parts(HeadersRef::default(), &self.0, &self.1, f)
    }
}

impl<H: ToHeaders, K: Payload, V: Payload> Event for (H, K, V) {
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError> {
        let headers: std::borrow::Cow<'_, Headers> = self.0.to_headers();
        with_parts((*headers).as_ref(), &self.1, &self.2, f)
    }
}

fn with_parts<R>(
    headers: HeadersRef<'_>,
    key: &impl Payload,
    value: &impl Payload,
    f: impl FnOnce(EventRef<'_>) -> R,
) -> Result<R, EventError> {
    key.with_bytes(|key| {
        value.with_bytes(|bytes| {
            let record = RecordRef { key, value: bytes, headers, timestamp: None };
            f(EventRef { record, typed: value.typed() })
        })
    })?
}

impl Event for Record {
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError> {
        Ok(f(EventRef::of_record(self.as_ref())))
    }
}

impl Event for &Record {
    fn with_record<R>(&self, f: impl FnOnce(EventRef<'_>) -> R) -> Result<R, EventError> {
        (**self).with_record(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn seen(event: impl Event) -> Record {
        event.with_record(|e| e.record.to_owned()).unwrap()
    }

    #[test]
    fn a_value_a_pair_a_triple_and_a_record() {
        assert_eq!(seen("v"), Record::new("v"));
        assert_eq!(seen(("k", "v")), Record::new("v").with_key("k"));
        let expected = Record::new("v").with_key("k").with_header("h", "1").with_header("h", "2");
        assert_eq!(seen(([("h", "1"), ("h", "2")], "k", "v")), expected);
        assert_eq!(seen(expected.clone()), expected);
    }

    #[test]
    fn none_is_null_and_not_empty() {
        assert_eq!(seen((None::<&str>, "v")), Record::new("v"));
        assert_eq!(seen(("k", None::<&str>)), Record::tombstone("k"));
        assert_eq!(seen(("", "v")).key, Some(Bytes::new()));
    }

    /// Defect 6: one map is one event.
    #[test]
    fn defect_06_a_map_is_one_event_and_not_its_fields() {
        let map = BTreeMap::from([("a", 1), ("b", 2)]);
        assert_eq!(seen(Json(map)), Record::new(r#"{"a":1,"b":2}"#));
    }

    #[test]
    fn the_typed_event_is_there_before_encoding() {
        let event = ("k", Json(7_u32));
        assert_eq!(event.with_record(|e| e.typed::<u32>().copied()).unwrap(), Some(7));
        assert!(event.with_record(|e| e.typed::<String>().is_none()).unwrap());
        assert!("bytes".with_record(|e| e.typed::<str_type::Str>().is_none()).unwrap());
    }

    mod str_type {
        pub(super) struct Str;
    }

    #[test]
    fn a_json_key_and_a_json_value_do_not_share_a_buffer() {
        assert_eq!(seen((Json(1), Json(2))), Record::new("2").with_key("1"));
    }

    #[test]
    fn what_is_not_json_is_a_typed_error() {
        let map = BTreeMap::from([(vec![1], 1)]);
        assert!(matches!(Json(map).with_record(|_| ()), Err(EventError::Json(_))));
    }
}
