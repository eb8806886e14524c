use std::num::NonZeroU32;

/// Kafka's choice; MurmurHash2 itself leaves it open.
const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The partition that Kafka's Java producer, by default, gives to `key`.
///
/// `(murmur2(key) & 0x7fffffff) % partitions`: MurmurHash2 of 32 bits over little-endian words with a seed of
/// Kafka's own; the sign bit is cleared, not the absolute value taken. librdkafka's `murmur2` and Sarama's
/// `NewMurmur2Partitioner` agree with this one.
///
/// An empty key is hashed like any other, as in Java, where only a `null` key may go anywhere.
///
/// Source: `BuiltInPartitioner.partitionForKey`, which is `Utils.toPositive(Utils.murmur2(key))` modulo the
/// count, in Apache Kafka's clients (4.4.0); the hash is Austin Appleby's, in the public domain.
///
/// ```
/// use std::num::NonZeroU32;
/// use kafka_batcher_core::partition::hash::murmur2;
///
/// let partitions = NonZeroU32::new(12).unwrap();
/// assert_eq!(murmur2(b"N14228", partitions), 8);
/// assert_eq!(murmur2(b"", partitions), 9);
/// ```
#[must_use]
pub fn murmur2(key: &[u8], partitions: NonZeroU32) -> u32 {
    (hash(key) & 0x7fff_ffff) % partitions
}

fn hash(key: &[u8]) -> u32 {
    let (words, tail) = key.as_chunks::<4>();
    let mut h = SEED ^ key.len() as u32;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        h = (h ^ super::le_word(tail)).wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// The values in Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_kafkas_unit_test() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(hash(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }
}
