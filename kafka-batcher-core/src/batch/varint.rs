//! Kafka's variable-length integers: zigzag, seven bits a byte, low group first
//! (the encoding of Protocol Buffers' `sint32` and `sint64`).

/// Bytes that `value` takes.
pub(super) const fn len(value: i64) -> usize {
    // (bits * 9 + 64) / 64 is bits / 7 rounded up, for 1 to 64 bits, without a division.
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends `value`.
#[inline]
pub(super) fn put(buf: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buf.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buf.push(rest as u8);
}

/// A few small fields, gathered on the stack so that they go into a batch's buffer with one copy of a size that the
/// compiler knows.
pub(super) struct Fields {
    bytes: [u8; Fields::ROOM],
    start: usize,
    end: usize,
}

impl Fields {
    /// Before the fields, for a length that is known only behind them.
    const LEAD: usize = 10;
    /// Four varints of at most ten bytes, and one more byte.
    const MOST: usize = 41;
    /// A power of two, so that places in it need no check.
    pub(super) const ROOM: usize = 64;

    #[inline]
    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], start: Self::LEAD, end: Self::LEAD }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Appends `value`. At most four times.
    #[inline]
    pub(super) const fn put(&mut self, value: i64) {
        let mut rest = zigzag(value);
        // Nearly all lengths and deltas take one byte or two.
        if rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
            if rest >= 0x80 {
                rest = self.more(rest);
            }
        }
        self.byte(rest as u8);
    }

    /// Appends all bytes but the last, which it returns.
    const fn more(&mut self, mut rest: u64) -> u64 {
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        rest
    }

    #[inline]
    pub(super) const fn byte(&mut self, byte: u8) {
        self.bytes[self.end % Self::ROOM] = byte;
        self.end += 1;
    }

    /// Puts `value`, which takes `len` bytes, before all else. At most once.
    #[inline]
    pub(super) const fn lead(&mut self, value: i64, len: usize) {
        let end = self.end;
        self.start = Self::LEAD - len;
        self.end = self.start;
        self.put(value);
        self.end = end;
    }

    /// Appends the fields to `buf`.
    #[inline]
    pub(super) fn write(&self, buf: &mut Vec<u8>) {
        let end = buf.len() + self.len();
        if let Some(bytes) = self.bytes[self.start..].first_chunk::<{ Self::ROOM - Self::LEAD }>() {
            buf.extend_from_slice(bytes);
            buf.truncate(end);
        }
    }
}

const _: () = assert!(Fields::LEAD + Fields::MOST <= Fields::ROOM - Fields::LEAD);

/// Takes a value off the front of `buf`; `None` when it is cut short or longer than 64 bits.
#[inline]
pub(super) fn take(buf: &mut &[u8]) -> Option<i64> {
    // Nearly all lengths and deltas take one byte or two.
    match **buf {
        [first, ref rest @ ..] if first < 0x80 => {
            *buf = rest;
            Some(unzigzag(u64::from(first)))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *buf = rest;
            Some(unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7))
        }
        _ => take_long(buf),
    }
}

#[cold]
fn take_long(buf: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = buf.split_first()?;
        *buf = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(unzigzag(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(value: i64) {
            let mut buf = Vec::new();
            put(&mut buf, value);
            prop_assert_eq!(buf.len(), len(value));
            let mut rest = &buf[..];
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn fields_are_the_same_bytes(length: i64, byte: u8, values: [i64; 4], before: Vec<u8>) {
            let mut expected = before.clone();
            put(&mut expected, length);
            expected.push(byte);
            values.iter().for_each(|value| put(&mut expected, *value));
            let (mut buf, mut fields) = (before, Fields::new());
            fields.byte(byte);
            values.iter().for_each(|value| fields.put(*value));
            prop_assert_eq!(fields.len() + buf.len() + len(length), expected.len());
            fields.lead(length, len(length));
            fields.write(&mut buf);
            prop_assert_eq!(buf, expected);
        }

        #[test]
        fn small_ones_too(value in -9000_i64..9000) {
            let mut buf = Vec::new();
            put(&mut buf, value);
            prop_assert_eq!(take(&mut &buf[..]), Some(value));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            take(&mut &bytes[..]);
        }
    }

    #[test]
    fn known_encodings() {
        for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[127]), (64, &[128, 1])] {
            let mut buf = Vec::new();
            put(&mut buf, value);
            assert_eq!(buf, bytes, "{value}");
        }
    }
}
