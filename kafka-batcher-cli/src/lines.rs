//! Cuts blocks of bytes into lines.

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It is longer than the limit and was not kept.
    TooLong {
        /// How long it is.
        bytes: u64,
    },
}

/// Cuts blocks into lines; holds at most one line, and of that at most `limit` bytes.
///
/// Only `\n` ends a line. A `\r` before it belongs to the line: values go out as they came in.
#[derive(Debug)]
pub(crate) struct Lines {
    limit: usize,
    /// The line that began in an earlier block.
    carry: Vec<u8>,
    /// `carry` was handed out and is to be forgotten.
    spent: bool,
    /// Length so far of a line that is over the limit.
    skipped: u64,
}

impl Lines {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, carry: Vec::new(), spent: false, skipped: 0 }
    }

    /// The next complete line; `None` when the block holds no more. Its rest is then kept for the next block.
    pub(crate) fn next<'a, 'b: 'a>(&'a mut self, block: &mut &'b [u8]) -> Option<Line<'a>> {
        self.forget_spent();
        let Some(end) = memchr::memchr(b'\n', block) else {
            self.keep(block);
            *block = &[];
            return None;
        };
        let head = &block[..end];
        *block = &block[end + 1..];
        if self.skipped == 0 && self.carry.is_empty() && head.len() <= self.limit {
            return Some(Line::Whole(head));
        }
        self.keep(head);
        Some(self.take())
    }

    /// The last line, if the input does not end with a newline.
    pub(crate) fn finish(&mut self) -> Option<Line<'_>> {
        if self.unfinished() == 0 {
            return None;
        }
        Some(self.take())
    }

    /// Bytes of the line that has begun and not ended.
    pub(crate) fn unfinished(&mut self) -> u64 {
        self.forget_spent();
        self.skipped + self.carry.len() as u64
    }

    fn forget_spent(&mut self) {
        if std::mem::take(&mut self.spent) {
            self.carry.clear();
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let length = self.carry.len() + part.len();
        if self.skipped > 0 || length > self.limit {
            self.skipped += length as u64;
            self.carry.clear();
        } else {
            self.carry.extend_from_slice(part);
        }
    }

    fn take(&mut self) -> Line<'_> {
        match std::mem::take(&mut self.skipped) {
            0 => {
                self.spent = true;
                Line::Whole(&self.carry)
            }
            bytes => Line::TooLong { bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `input`, cut into blocks of `size` bytes; too long ones as their length.
    fn split(input: &[u8], size: usize, limit: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        let mut add = |line: Line<'_>| {
            found.push(match line {
                Line::Whole(bytes) => Ok(bytes.to_vec()),
                Line::TooLong { bytes } => Err(bytes),
            });
        };
        for mut block in input.chunks(size) {
            while let Some(line) = lines.next(&mut block) {
                add(line);
            }
            assert!(lines.carry.len() <= limit);
        }
        if let Some(line) = lines.finish() {
            add(line);
        }
        assert!(lines.finish().is_none());
        found
    }

    fn whole(lines: &[&str]) -> Vec<Result<Vec<u8>, u64>> {
        lines.iter().map(|line| Ok(line.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_size_of_the_blocks_makes_no_difference() {
        for size in 1..20 {
            assert_eq!(
                split(b"one\n\ntwo\r\nthree", size, 10),
                whole(&["one", "", "two\r", "three"]),
                "size {size}"
            );
            assert_eq!(split(b"one\ntwo\n", size, 10), whole(&["one", "two"]), "size {size}");
            assert_eq!(split(b"\n", size, 10), whole(&[""]));
            assert_eq!(split(b"", size, 10), whole(&[]));
        }
    }

    #[test]
    fn a_line_over_the_limit_is_measured_and_the_others_are_not_touched() {
        for size in 1..30 {
            let lines = split(b"1234\n12345\n1\n1234567890\n12\n1234567", size, 4);
            let expected =
                [Ok(b"1234".to_vec()), Err(5), Ok(b"1".to_vec()), Err(10), Ok(b"12".to_vec()), Err(7)];
            assert_eq!(lines, expected, "size {size}");
        }
    }

    #[test]
    fn what_has_begun_and_not_ended_is_known() {
        let mut lines = Lines::new(4);
        let mut block: &[u8] = b"a\nbc";
        assert_eq!(lines.next(&mut block), Some(Line::Whole(b"a")));
        assert_eq!(lines.next(&mut block), None);
        assert_eq!(lines.unfinished(), 2);
        assert_eq!(lines.next(&mut b"defgh".as_slice()), None);
        assert_eq!(lines.unfinished(), 7);
        assert_eq!(lines.finish(), Some(Line::TooLong { bytes: 7 }));
        assert_eq!(lines.unfinished(), 0);
    }
}
