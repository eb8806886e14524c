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

/// A few small fields, gathered on the stack so that they go into a batch's buffer with one copy.
pub(super) struct Fields {
    bytes: [u8; Fields::ROOM],
    len: usize,
}

impl Fields {
    /// Five varints of at most ten bytes, and one more byte.
    const ROOM: usize = 51;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], len: 0 }
    }

    /// Appends `value`. At most five times.
    #[inline]
    pub(super) const fn put(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    #[inline]
    pub(super) const fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes a value off the front of `buf`; `None` when it is cut short or longer than 64 bits.
#[inline]
pub(super) fn take(buf: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = buf.split_first()?;
        *buf = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
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
        fn fields_are_the_same_bytes(values: [i64; 5]) {
            let (mut buf, mut fields) = (Vec::new(), Fields::new());
            for value in values {
                put(&mut buf, value);
                fields.put(value);
            }
            prop_assert_eq!(fields.as_slice(), buf);
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
