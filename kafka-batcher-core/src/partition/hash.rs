//! The hashes that give a keyed record its partition, each exactly as another client computes it.
//!
//! A topic is often written by more than one program. Consumers that rely on "same key, same partition" break
//! when those programs hash differently, so none of these functions is a design of ours: each follows an
//! original to the bit, and `tests/partition_vectors.rs` compares them with answers that the originals gave.
//!
//! | function | agrees with | hash of the key | how it becomes a partition |
//! |---|---|---|---|
//! | [`murmur2`] | Java's default partitioner | MurmurHash2, 32 bits | sign bit cleared, then remainder |
//! | [`crc32`] | librdkafka's `consistent` | CRC-32 (IEEE) | remainder, unsigned |
//! | [`fnv1a`] | Sarama's `NewHashPartitioner` | FNV-1a, 32 bits | magnitude as signed, then remainder |
//! | [`phash2`] | Erlang's `erlang:phash2/2` | Jenkins' lookup2 | remainder, unsigned |
//!
//! All are pure: no allocation, no panic, one pass over the key. The result is always below `partitions`.
//! Kafka counts partitions, and the bytes of a key, in an `i32`. For more partitions than that the same
//! formula simply goes on; a key longer than that does not fit into a record.
//!
//! **No key is not an empty key.** What to do with a record that has no key is the caller's decision, made
//! before any of these is called; an empty key is hashed like any other, so it always lands on one partition.
//! Some clients treat the two alike: each function says how its original behaves.
//!
//! ```
//! use std::num::NonZeroU32;
//! use kafka_batcher_core::partition::hash;
//!
//! let twelve = NonZeroU32::new(12).unwrap();
//! // The same key goes to four different places: pick the hash that the topic's other writers use.
//! assert_eq!(hash::murmur2(b"N14228", twelve), 8);
//! assert_eq!(hash::crc32(b"N14228", twelve), 10);
//! assert_eq!(hash::fnv1a(b"N14228", twelve), 0);
//! assert_eq!(hash::phash2(b"N14228", twelve), 6);
//! ```

mod crc32;
mod fnv1a;
mod murmur2;
mod phash2;

pub use crc32::crc32;
pub use fnv1a::fnv1a;
pub use murmur2::murmur2;
pub use phash2::phash2;

/// Up to four bytes as a little-endian word, zeros for those missing: how two of the hashes read a key's end.
fn le_word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    type Hash = fn(&[u8], NonZeroU32) -> u32;
    const ALL: [Hash; 4] = [murmur2, crc32, fnv1a, phash2];

    proptest! {
        #[test]
        fn any_key_lands_below_any_count(
            key in prop::collection::vec(any::<u8>(), 0..600),
            // Small counts as often as huge ones: a uniform u32 is hardly ever a count anyone has.
            count in prop_oneof![1..=64u32, 1..=u32::MAX, Just(u32::MAX), Just(1 << 31)],
        ) {
            let partitions = NonZeroU32::new(count).unwrap();
            for hash in ALL {
                prop_assert!(hash(&key, partitions) < count);
                prop_assert_eq!(hash(&key, NonZeroU32::MIN), 0);
            }
        }

        /// A key is a slice of some larger buffer, at any alignment: only its bytes may count.
        #[test]
        fn where_the_key_lies_in_memory_does_not_matter(
            key in prop::collection::vec(any::<u8>(), 0..80),
            before in 0usize..16,
            after in 0usize..16,
        ) {
            let mut buffer = vec![0xa5; before];
            buffer.extend_from_slice(&key);
            buffer.resize(buffer.len() + after, 0x5a);
            for hash in ALL {
                let inside = hash(&buffer[before..before + key.len()], NonZeroU32::MAX);
                prop_assert_eq!(inside, hash(&key, NonZeroU32::MAX));
            }
        }
    }
}
