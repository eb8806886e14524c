use std::num::NonZeroU32;

/// The golden ratio, as the hash's author seeds it.
const GOLDEN: u32 = 0x9e37_79b9;
/// What Erlang starts from when the term is a binary: 13 times the golden ratio.
const BINARY: u32 = GOLDEN.wrapping_mul(13);

/// The partition that `erlang:phash2(Key, Partitions)` gives to a binary `key`, and so `:erlang.phash2/2` in
/// Elixir. It is Erlang's portable hash: the same on every machine and release.
///
/// `make_hash2(key) % partitions`, unsigned, where `make_hash2` of a binary is Bob Jenkins' lookup2 from a
/// seed of Erlang's own. Every count means here what it means there. (Erlang goes one further, to 2³², which
/// gives the bare hash. `phash2/1`, without a range, is this with 2²⁷.)
///
/// The key must be a *binary* on the other side: a charlist, an atom or an iolist hashes differently there.
///
/// An empty key is a key like any other, in Erlang too; its hash is the bare seed.
///
/// Source: `make_hash2_helper` and `block_hash` in Erlang/OTP's `erts/emulator/beam/erl_term_hashing.c`
/// (`utils.c` in older releases) and `phash2_2` in `bif.c`; lookup2 is in the public domain.
///
/// ```
/// use std::num::NonZeroU32;
/// use kafka_batcher_core::partition::hash::phash2;
///
/// let partitions = NonZeroU32::new(12).unwrap();
/// assert_eq!(phash2(b"N14228", partitions), 6);
/// assert_eq!(phash2(b"", partitions), 1);
/// ```
#[must_use]
pub fn phash2(key: &[u8], partitions: NonZeroU32) -> u32 {
    hash(key) % partitions
}

fn hash(key: &[u8]) -> u32 {
    if key.is_empty() {
        return BINARY;
    }
    let mut state = State { a: GOLDEN, b: GOLDEN, c: BINARY };
    let (blocks, tail) = key.as_chunks::<12>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        let [a, b, c] = [0, 1, 2].map(|i| u32::from_le_bytes(words[i]));
        state.mix(a, b, c);
    }
    let mut last = [0; 3];
    for (word, bytes) in last.iter_mut().zip(tail.chunks(4)) {
        *word = super::le_word(bytes);
    }
    // The length takes the lowest byte of the third word, so what is left of the tail moves up by one.
    state.mix(last[0], last[1], (last[2] << 8).wrapping_add(key.len() as u32));
    state.c
}

/// The three running words of lookup2.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn mix(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
        self.round(13, 8, 13);
        self.round(12, 16, 5);
        self.round(3, 10, 15);
    }

    fn round(&mut self, right_c: u32, left_a: u32, right_b: u32) {
        let Self { a, b, c } = self;
        *a = a.wrapping_sub(*b).wrapping_sub(*c) ^ (*c >> right_c);
        *b = b.wrapping_sub(*c).wrapping_sub(*a) ^ (*a << left_a);
        *c = c.wrapping_sub(*a).wrapping_sub(*b) ^ (*b >> right_b);
    }
}

#[cfg(test)]
mod tests {
    use super::{BINARY, hash};

    #[test]
    fn the_empty_binary_is_its_seed() {
        // HCONST_13 in OTP's source.
        assert_eq!(BINARY, 0x08d1_2e65);
        assert_eq!(hash(b""), BINARY);
    }
}
