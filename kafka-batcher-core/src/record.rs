//! A record: what Kafka stores for one event.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::batch::EncodedHeaders;

/// An owned record: optional key, optional value, ordered headers, optional timestamp.
///
/// A record without a value is a tombstone: on a compacted topic it deletes its key. A record
/// without a timestamp gets the wall-clock time at which the batcher accepts it.
///
/// ```
/// use kafka_batcher_core::Record;
///
/// let record = Record::new("42").with_key("N14228").with_header("trace", "a").with_header("trace", "b");
/// assert_eq!(record.headers.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key; `None` is Kafka's null key, which is not the same as an empty one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Headers,
    /// Milliseconds since the Unix epoch; `None` until the record is accepted.
    pub timestamp: Option<i64>,
}

impl Record {
    /// A record with this value, no key and no headers.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with this key and no value.
    #[must_use]
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Appends a header; an earlier one of the same name stays.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(name, Some(value.into()));
        self
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch, instead of the time of acceptance.
    #[must_use]
    pub fn with_timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// The same record, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_ref(),
            timestamp: self.timestamp,
        }
    }
}

/// A borrowed record: what an event shows of itself, and what iterating a batch yields.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordRef<'a> {
    /// The key; `None` is Kafka's null key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order; names may repeat.
    pub headers: HeadersRef<'a>,
    /// Milliseconds since the Unix epoch; always present on a record read from a batch.
    pub timestamp: Option<i64>,
}

impl RecordRef<'_> {
    /// Copies the record.
    #[must_use]
    pub fn to_owned(&self) -> Record {
        Record {
            key: self.key.map(Bytes::copy_from_slice),
            value: self.value.map(Bytes::copy_from_slice),
            headers: self
                .headers
                .iter()
                .map(|h| (h.name.to_owned(), h.value.map(Bytes::copy_from_slice)))
                .collect(),
            timestamp: self.timestamp,
        }
    }

    /// An upper bound of the bytes the record takes in a batch, cheap to compute.
    ///
    /// The memory budget counts in these units.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        // Record frame: length (5), attributes (1), timestamp delta (10), offset delta (5), key and
        // value lengths (5 each), header count (5).
        const FRAME: usize = 36;
        FRAME + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.size_hint()
    }
}

/// One header, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name; may repeat within a record.
    pub name: String,
    /// The value; Kafka allows null.
    pub value: Option<Bytes>,
}

/// An ordered list of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a header; an earlier one of the same name stays.
    pub fn push(&mut self, name: impl Into<String>, value: Option<Bytes>) {
        self.0.push(Header { name: name.into(), value });
    }

    /// How many there are, repeated names counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = HeaderRef<'_>> {
        self.as_ref().iter()
    }

    /// The same list, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef(Repr::Slice(&self.0))
    }
}

impl<N: Into<String>, V: Into<Option<Bytes>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self(
            iter.into_iter().map(|(name, value)| Header { name: name.into(), value: value.into() }).collect(),
        )
    }
}

/// One header, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// The name.
    pub name: &'a str,
    /// The value; Kafka allows null.
    pub value: Option<&'a [u8]>,
}

/// A borrowed list of headers: of an owned [`Headers`], or still encoded inside a batch.
#[derive(Clone, Copy, Default)]
pub struct HeadersRef<'a>(Repr<'a>);

#[derive(Clone, Copy, Default)]
enum Repr<'a> {
    #[default]
    Empty,
    Slice(&'a [Header]),
    Encoded(EncodedHeaders<'a>),
    Extended(&'a ExtendedHeaders<'a>),
}

/// Headers, and others behind them.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedHeaders<'a> {
    own: HeadersRef<'a>,
    more: &'a [HeaderRef<'a>],
}

impl<'a> ExtendedHeaders<'a> {
    /// Puts `more` behind `headers`; in place of what was put there before.
    #[must_use]
    pub const fn new(headers: HeadersRef<'a>, more: &'a [HeaderRef<'a>]) -> Self {
        let own = match headers.0 {
            Repr::Extended(extended) => extended.own,
            _ => headers,
        };
        Self { own, more }
    }

    /// All of them, in order.
    #[must_use]
    pub const fn as_ref(&'a self) -> HeadersRef<'a> {
        HeadersRef(Repr::Extended(self))
    }
}

impl<'a> HeadersRef<'a> {
    pub(crate) fn encoded(headers: EncodedHeaders<'a>) -> Self {
        Self(Repr::Encoded(headers))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Repr::Empty => 0,
            Repr::Slice(slice) => slice.len(),
            Repr::Encoded(headers) => headers.count(),
            Repr::Extended(extended) => extended.own.len() + extended.more.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = HeaderRef<'a>> + use<'a> {
        let (own, more) = match self.0 {
            Repr::Extended(extended) => (extended.own.0, extended.more),
            own => (own, &[][..]),
        };
        let (slice, encoded) = match own {
            // What is extended is never extended itself.
            Repr::Empty | Repr::Extended(_) => (&[][..], EncodedHeaders::default()),
            Repr::Slice(slice) => (slice, EncodedHeaders::default()),
            Repr::Encoded(headers) => (&[][..], headers),
        };
        let slice = slice.iter().map(|h| HeaderRef { name: &h.name, value: h.value.as_deref() });
        slice.chain(encoded).chain(more.iter().copied())
    }

    /// An upper bound of the encoded size.
    fn size_hint(&self) -> usize {
        match self.0 {
            Repr::Empty => 0,
            Repr::Slice(slice) => {
                slice.iter().map(|h| 10 + h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum()
            }
            Repr::Encoded(headers) => headers.encoded_len(),
            Repr::Extended(extended) => {
                let more = extended.more.iter();
                let more = more.map(|h| 10 + h.name.len() + h.value.map_or(0, <[u8]>::len));
                extended.own.size_hint() + more.sum::<usize>()
            }
        }
    }
}

impl fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Something that can stand in the headers' place of a `(headers, key, value)` event.
pub trait ToHeaders {
    /// The headers as an owned or borrowed list.
    fn to_headers(&self) -> Cow<'_, Headers>;
}

impl ToHeaders for Headers {
    fn to_headers(&self) -> Cow<'_, Headers> {
        Cow::Borrowed(self)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> ToHeaders for [(N, V)] {
    fn to_headers(&self) -> Cow<'_, Headers> {
        Cow::Owned(
            self.iter()
                .map(|(n, v)| (n.as_ref(), Some(Bytes::copy_from_slice(v.as_ref()))))
                .collect::<Headers>(),
        )
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const LEN: usize> ToHeaders for [(N, V); LEN] {
    fn to_headers(&self) -> Cow<'_, Headers> {
        self.as_slice().to_headers()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> ToHeaders for Vec<(N, V)> {
    fn to_headers(&self) -> Cow<'_, Headers> {
        self.as_slice().to_headers()
    }
}

impl<H: ToHeaders + ?Sized> ToHeaders for &H {
    fn to_headers(&self) -> Cow<'_, Headers> {
        (**self).to_headers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    #[test]
    fn headers_that_are_put_behind_others_are_sent_and_counted_as_those_are() {
        let whole = Record::new("v").with_header("a", "1").with_header("b", "22").with_header("c", "");
        let own = Record::new("v").with_header("a", "1");
        let more = [
            HeaderRef { name: "b", value: Some(&b"22"[..]) },
            HeaderRef { name: "c", value: Some(&b""[..]) },
        ];
        let headers = ExtendedHeaders::new(own.headers.as_ref(), &more);
        let record = RecordRef { headers: headers.as_ref(), ..own.as_ref() };
        assert_eq!((record.to_owned(), record.headers.len()), (whole.clone(), 3));
        assert_eq!(record.size_hint(), whole.as_ref().size_hint());
        let encoded = |record: &RecordRef<'_>| {
            let mut builder = BatchBuilder::new();
            assert!(builder.push(record, 0, None, usize::MAX));
            builder.seal().map(|batch| batch.as_bytes().clone())
        };
        assert_eq!(encoded(&record), encoded(&whole.as_ref()));
        let again = ExtendedHeaders::new(record.headers, &more[..1]);
        assert_eq!(again.as_ref().len(), 2, "in place of what was there");
    }
}
