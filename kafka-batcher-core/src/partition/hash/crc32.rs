use std::num::NonZeroU32;

/// The partition that librdkafka's `consistent` partitioner gives to `key`.
///
/// `crc32(key) % partitions`, unsigned, where the CRC is the IEEE one of zlib and gzip (not the CRC-32C that
/// guards Kafka's record batches). Sarama's `NewConsistentCRCHashPartitioner` agrees with it.
///
/// An empty key has CRC 0, so it always lands on partition 0. That is `consistent`. librdkafka's default,
/// `consistent_random`, agrees on every other key but takes an empty one for none: a random partition.
///
/// Source: `rd_kafka_msg_partitioner_consistent` in librdkafka's `rdkafka_msg.c` (2.0.2; the same in 2.12.1).
///
/// ```
/// use std::num::NonZeroU32;
/// use kafka_batcher_core::partition::hash::crc32;
///
/// let partitions = NonZeroU32::new(12).unwrap();
/// assert_eq!(crc32(b"N14228", partitions), 10);
/// assert_eq!(crc32(b"", partitions), 0);
/// ```
#[must_use]
pub fn crc32(key: &[u8], partitions: NonZeroU32) -> u32 {
    crc32fast::hash(key) % partitions
}
