use std::num::NonZeroU32;

const OFFSET_BASIS: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// The partition that `NewHashPartitioner`, the default of the Go client Sarama, gives to `key`.
///
/// FNV-1a of 32 bits read as a *signed* number: `hash % partitions`, negated where that is negative. Half of
/// all keys have a negative hash, and those would land elsewhere with an unsigned remainder, or with the sign
/// bit cleared as by Sarama's own `NewReferenceHashPartitioner`. librdkafka's `fnv1a` agrees with this one.
///
/// An empty key is hashed like any other, as in Sarama, where only a `nil` key goes to a random partition.
///
/// Source: `hashPartitioner.Partition` in Sarama's `partitioner.go` (1.61.1) over Go's `hash/fnv`; the hash
/// is Fowler, Noll and Vo's, in the public domain.
///
/// ```
/// use std::num::NonZeroU32;
/// use kafka_batcher_core::partition::hash::fnv1a;
///
/// let partitions = NonZeroU32::new(12).unwrap();
/// assert_eq!(fnv1a(b"N14228", partitions), 0);
/// assert_eq!(fnv1a(b"", partitions), 3);
/// ```
#[must_use]
pub fn fnv1a(key: &[u8], partitions: NonZeroU32) -> u32 {
    // Go's remainder takes the sign of the dividend, so its magnitude is the remainder of the magnitude.
    // Taken in this order the most negative hash needs no special case, nor do counts beyond `i32::MAX`.
    hash(key).cast_signed().unsigned_abs() % partitions
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_BASIS, |h, &byte| (h ^ u32::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// From the test vectors that the hash's authors publish.
    #[test]
    fn agrees_with_the_authors_vectors() {
        for (key, expected) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(hash(key.as_bytes()), expected, "{key}");
        }
    }
}
