"""Writes inputs.tsv and inputs-wide.tsv: what every original is asked, as `hex-key <tab> partitions`.

Always the same output: the arbitrary bytes come from a generator with a fixed seed, written out below.
"""

from itertools import cycle
from pathlib import Path

COUNTS = [1, 2, 3, 4, 7, 12, 100, 1000, 65536]
# The largest count that a Kafka client takes. Nearly the bare hash, so every key is asked with it.
LARGEST = 2**31 - 1
# Counts that only Erlang takes.
WIDE = [2**27, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]


def arbitrary(length, state=1):
    """The high bytes of a linear congruential generator (Knuth's MMIX constants)."""
    out = bytearray()
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(state >> 56)
    return bytes(out)


def keys():
    # Every length that ends a word (4) or a block (12) somewhere: first with no byte that a signed char could
    # turn negative, then with nothing else.
    for length in range(41):
        yield bytes(ord("a") + i % 26 for i in range(length))
    for length in range(1, 41):
        yield bytes(0x80 | byte for byte in arbitrary(length, length))

    for number in range(14220, 14240):
        yield f"N{number}".encode()
    for text in ["0", "42", "user-1", "user-2", "order:2024-02-29#000017", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]:
        yield text.encode()
    for text in ["ключ", "naïve", "Ünïcödé", "e\u0301", "鍵", "カフカのキー", "🦀", "👩‍👩‍👧‍👦 family", "مفتاح", "\ufeffbom"]:
        yield text.encode()

    # Zeros must count, also at the end, where a padded word would hide them.
    for length in [1, 2, 3, 4, 11, 12, 13]:
        yield bytes(length)
    for length in [1, 2, 3, 4, 11, 12, 13]:
        yield b"\xff" * length
    yield from [b"a\0", b"a\0\0", b"\0a", b"line\r\nbreak\t", b" "]

    # Keys whose bare hash is an extreme: where a sign, an absolute value or an overflow would show.
    yield b"N1105890078"  # fnv1a: 0x80000000
    yield bytes.fromhex("e3871844")  # murmur2: 0
    yield bytes.fromhex("a7d6506c")  # murmur2: 0x80000000
    yield bytes.fromhex("9d0ad96d")  # crc32: 0 (and 0xffffffff is four bytes 0xff, above)
    yield bytes.fromhex("1a9b421f")  # phash2: 0
    yield bytes.fromhex("cfc2db4e")  # phash2: 0xffffffff

    for length in [63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000, 1025, 16411]:
        yield arbitrary(length, length)


def main():
    here = Path(__file__).parent
    all_keys = list(keys())
    assert len(set(all_keys)) == len(all_keys), "a key is listed twice"

    # The long keys are asked once: a second time would only make the files larger.
    counts = cycle(COUNTS)
    pairs = [(key, n) for key in all_keys for n in ([LARGEST] if len(key) > 500 else [LARGEST, next(counts)])]
    # Every count with the same few keys as well, so that none is only met by luck.
    pairs += [(key, n) for key in [b"", b"a", b"N14228"] for n in COUNTS if (key, n) not in pairs]
    extremes = [bytes.fromhex("1a9b421f"), bytes.fromhex("cfc2db4e")]
    wide = [(key, n) for key in [key for key in all_keys[::10] if len(key) <= 500] + extremes for n in WIDE]

    for name, rows in [("inputs.tsv", pairs), ("inputs-wide.tsv", wide)]:
        (here / name).write_text("".join(f"{key.hex()}\t{n}\n" for key, n in rows))


main()
