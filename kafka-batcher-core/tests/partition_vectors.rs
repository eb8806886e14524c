//! The keyed partition hashes against what the originals answered: see `vectors/README.md`.

use std::num::NonZeroU32;

use kafka_batcher_core::partition::hash;

/// As many lines as `vectors/inputs.py` writes; a file cut short must not pass for a good one.
const INPUTS: usize = 331;
const WIDE_INPUTS: usize = 90;

#[test]
fn murmur2_agrees_with_java() {
    compare(hash::murmur2, include_str!("vectors/murmur2.tsv"), &inputs());
}

#[test]
fn crc32_agrees_with_librdkafka() {
    compare(hash::crc32, include_str!("vectors/crc32.tsv"), &inputs());
}

#[test]
fn fnv1a_agrees_with_sarama() {
    compare(hash::fnv1a, include_str!("vectors/fnv1a.tsv"), &inputs());
}

#[test]
fn phash2_agrees_with_erlang() {
    compare(hash::phash2, include_str!("vectors/phash2.tsv"), &inputs());
}

#[test]
fn phash2_agrees_with_erlang_on_counts_beyond_i32() {
    let inputs = lines(include_str!("vectors/inputs-wide.tsv"));
    assert_eq!(inputs.len(), WIDE_INPUTS);
    compare(hash::phash2, include_str!("vectors/phash2-wide.tsv"), &inputs);
}

/// `[hex-key, partitions]` of every question.
fn inputs() -> Vec<Vec<&'static str>> {
    let inputs = lines(include_str!("vectors/inputs.tsv"));
    assert_eq!(inputs.len(), INPUTS);
    inputs
}

fn lines(file: &'static str) -> Vec<Vec<&'static str>> {
    file.lines().map(|line| line.split('\t').collect()).collect()
}

/// Every question answered, in order, and every answer ours.
fn compare(hash: fn(&[u8], NonZeroU32) -> u32, answers: &'static str, inputs: &[Vec<&str>]) {
    let answers = lines(answers);
    assert_eq!(answers.len(), inputs.len(), "as many answers as questions");

    let mut wrong = Vec::new();
    for (input, answer) in inputs.iter().zip(&answers) {
        let [key, partitions, expected] = answer[..] else { panic!("not three fields: {answer:?}") };
        assert_eq!([key, partitions], input[..], "an answer to another question");

        let got = hash(&unhex(key), partitions.parse().unwrap());
        if got != expected.parse::<u32>().unwrap() {
            wrong.push(format!(
                "key {key:.80} of {} bytes, {partitions} partitions: {got}, not {expected}",
                key.len() / 2
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), answers.len(), wrong.join("\n"));
}

fn unhex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte: {digits}");
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}
