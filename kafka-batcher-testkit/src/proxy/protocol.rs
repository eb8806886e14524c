//! As much of Kafka's protocol as a proxy needs: which request an answer belongs to, and where brokers say they are.

/// Kafka's numbers of the requests that matter here.
pub(super) mod api {
    pub(in crate::proxy) const PRODUCE: i16 = 0;
    pub(in crate::proxy) const METADATA: i16 = 3;
    pub(in crate::proxy) const API_VERSIONS: i16 = 18;
}

/// From this version on answers to Produce may name brokers' addresses (KIP-951), which would lead around the proxy.
const PRODUCE_NAMES_BROKERS: i16 = 10;

/// Metadata is "flexible" from this version on: compact lengths and tagged fields (KIP-482).
const METADATA_FLEXIBLE: i16 = 9;

/// Length of a frame's length field.
pub(super) const LENGTH: usize = 4;

/// Which request this is: its number, version and correlation id. `frame` begins with its length.
pub(super) fn request(frame: &[u8]) -> Option<(i16, i16, i32)> {
    let mut reader = Reader { rest: frame.get(LENGTH..)? };
    Some((reader.i16()?, reader.i16()?, reader.i32()?))
}

/// The correlation id of an answer.
pub(super) fn answered(frame: &[u8]) -> Option<i32> {
    Reader { rest: frame.get(LENGTH..)? }.i32()
}

/// Lowers what the broker offers to versions whose answers the proxy can follow. `None` when it can't be read.
pub(super) fn restrict_versions(frame: &mut [u8], version: i16) -> Option<()> {
    let len = frame.len();
    let mut reader = Reader { rest: frame.get(LENGTH..)? };
    reader.i32()?; // correlation id; the header of this answer never has tagged fields
    let error = reader.i16()?;
    // A broker that does not know the client's version answers in version 0.
    let flexible = version >= 3 && error == 0;
    let count =
        if flexible { reader.uvarint()?.checked_sub(1)? } else { u32::try_from(reader.i32()?).ok()? };
    let mut at = None;
    for _ in 0..count {
        let key = reader.i16()?;
        let _min = reader.i16()?;
        if key == api::PRODUCE {
            at = Some(len - reader.rest.len());
        }
        reader.i16()?;
        if flexible {
            reader.tagged_fields()?;
        }
    }
    let field: &mut [u8; 2] = frame.get_mut(at?..)?.first_chunk_mut()?;
    *field = i16::from_be_bytes(*field).min(PRODUCE_NAMES_BROKERS - 1).to_be_bytes();
    Some(())
}

/// An answer to Metadata in which the brokers are where `route` says: it is given host and port, and gives a port of
/// 127.0.0.1. `None` when it can't be read.
pub(super) fn reroute(
    frame: &[u8],
    version: i16,
    mut route: impl FnMut(&str, u16) -> Option<u16>,
) -> Option<Vec<u8>> {
    const HOST: &[u8] = b"127.0.0.1";
    let flexible = version >= METADATA_FLEXIBLE;
    let mut reader = Reader { rest: frame.get(LENGTH..)? };
    reader.i32()?; // correlation id
    if flexible {
        reader.tagged_fields()?;
    }
    if version >= 3 {
        reader.i32()?; // throttle time
    }
    let count =
        if flexible { reader.uvarint()?.checked_sub(1)? } else { u32::try_from(reader.i32()?).ok()? };
    let mut out = frame.get(..frame.len() - reader.rest.len())?.to_vec();
    for _ in 0..count {
        let node = reader.i32()?;
        let host = std::str::from_utf8(reader.text(flexible)??).ok()?;
        let port = route(host, u16::try_from(reader.i32()?).ok()?)?;
        out.extend(node.to_be_bytes());
        if flexible {
            out.push(HOST.len() as u8 + 1);
        } else {
            out.extend((HOST.len() as i16).to_be_bytes());
        }
        out.extend(HOST);
        out.extend(i32::from(port).to_be_bytes());
        let before = reader.rest;
        if version >= 1 {
            reader.text(flexible)?; // rack
        }
        if flexible {
            reader.tagged_fields()?;
        }
        out.extend(before.get(..before.len() - reader.rest.len())?);
    }
    out.extend(reader.rest);
    let length = u32::try_from(out.len() - LENGTH).ok()?;
    out.get_mut(..LENGTH)?.copy_from_slice(&length.to_be_bytes());
    Some(out)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn uvarint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.take(1)?.first()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A text; the inner `None` is null.
    fn text(&mut self, compact: bool) -> Option<Option<&'a [u8]>> {
        let len = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        match usize::try_from(len) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Some(None),
        }
    }

    fn tagged_fields(&mut self) -> Option<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let len = self.uvarint()?;
            self.take(usize::try_from(len).ok()?)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn brokers_of_an_old_metadata_answer_are_rerouted() {
        let head: &[u8] = &[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2];
        let answer = frame(&[head, b"\0\x04host", &[0, 0, 0x23, 0x84], b"\0\x03abc", b"the rest"]);
        let routed = reroute(&answer, 1, |host, port| {
            assert_eq!((host, port), ("host", 0x2384));
            Some(0x1122)
        });
        let expected = frame(&[head, b"\0\x09127.0.0.1", &[0, 0, 0x11, 0x22], b"\0\x03abc", b"the rest"]);
        assert_eq!(routed.unwrap(), expected);
    }

    #[test]
    fn brokers_of_a_new_metadata_answer_are_rerouted() {
        // Correlation id, a tagged field, throttle time, one broker: node 2.
        let head: &[u8] = &[0, 0, 0, 7, 1, 5, 1, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 2];
        let tail: &[u8] = b"\x00\x00the rest"; // null rack, no tagged fields
        let answer = frame(&[head, b"\x05host", &[0, 0, 0x23, 0x84], tail]);
        let routed = reroute(&answer, 12, |_, _| Some(1)).unwrap();
        assert_eq!(routed, frame(&[head, b"\x0a127.0.0.1", &[0, 0, 0, 1], tail]));
    }

    #[test]
    fn only_produce_is_restricted() {
        let mut answer = frame(&[&[0, 0, 0, 7, 0, 0, 3, 0, 3, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 12, 0]]);
        restrict_versions(&mut answer, 3).unwrap();
        assert_eq!(answer[4..], [0, 0, 0, 7, 0, 0, 3, 0, 3, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 9, 0]);
    }

    #[test]
    fn what_is_cut_short_is_not_read() {
        let head: &[u8] = &[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2];
        let answer = frame(&[head, b"\0\x04host", &[0, 0, 0x23, 0x84], b"\0\x03abc"]);
        for len in 0..answer.len() {
            assert_eq!(reroute(&answer[..len], 1, |_, _| Some(1)), None, "{len}");
            assert!(request(&answer[..len.min(11)]).is_none());
        }
    }
}
