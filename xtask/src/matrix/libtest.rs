//! What a run of `cargo test -- --show-output` came to, read from what it printed.
//!
//! A test that cannot do its work here, as it wants a broker for example, prints `SKIPPED <name>: <reason>` and returns.
//! To libtest it has passed; here it counts as skipped, and so does one that is `#[ignore]`d.

use std::collections::BTreeSet;

/// Counts and names, over all test programs of the run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skips: Vec<Skip>,
    pub(crate) failures: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Skip {
    pub(crate) test: String,
    pub(crate) reason: String,
}

pub(crate) fn parse(output: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut program = Program::default();
    for line in output.lines() {
        program.read(line);
        if let Some(counts) = parse_result(line) {
            std::mem::take(&mut program).finish(&counts, &mut outcome);
        }
    }
    // The last program may have died before it had a result; what it said before is worth knowing.
    outcome.failures.append(&mut program.failures);
    outcome
}

/// What one test program has printed so far.
#[derive(Debug, Default)]
struct Program {
    failures: Vec<String>,
    ignored: Vec<Skip>,
    skipped: Vec<Skip>,
    /// Tests whose skip is counted; one may give several reasons.
    seen: BTreeSet<String>,
    /// The test whose output the lines are.
    section: Option<String>,
    /// Below `failures:`, where a test that printed SKIPPED did not get away with it.
    among_failures: bool,
}

impl Program {
    fn read(&mut self, line: &str) {
        match line {
            "successes:" => (self.among_failures, self.section) = (false, None),
            "failures:" => (self.among_failures, self.section) = (true, None),
            _ => {}
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.section = Some(name.to_owned());
        }
        if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            if verdict == "FAILED" {
                self.failures.push(name.to_owned());
            } else if let Some(why) = verdict.strip_prefix("ignored") {
                let reason = why.strip_prefix(", ").unwrap_or("ignored, without a reason").to_owned();
                self.ignored.push(Skip { test: name.to_owned(), reason });
            }
        }
        if let Some((name, reason)) = line.strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": "))
            && !self.among_failures
        {
            let test = self.section.clone().unwrap_or_else(|| name.to_owned());
            if self.seen.insert(test.clone()) {
                self.skipped.push(Skip { test, reason: reason.to_owned() });
            }
        }
    }

    fn finish(mut self, counts: &Counts, outcome: &mut Outcome) {
        // More skips than passes would be somebody printing the word for another reason.
        self.skipped.truncate(usize::try_from(counts.passed).unwrap_or(usize::MAX));
        outcome.passed += counts.passed - self.skipped.len() as u64;
        outcome.failed += counts.failed;
        // Ignored tests that were listed without a line, as in terse output, count all the same.
        while (self.ignored.len() as u64) < counts.ignored {
            self.ignored.push(Skip { test: "?".to_owned(), reason: "ignored".to_owned() });
        }
        outcome.skips.append(&mut self.skipped);
        outcome.skips.append(&mut self.ignored);
        outcome.failures.append(&mut self.failures);
    }
}

struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn parse_result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let mut parts = counts.split("; ");
    let mut number = |word: &str| parts.next()?.strip_suffix(word)?.trim_end().parse().ok();
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(test: &str, reason: &str) -> Skip {
        Skip { test: test.into(), reason: reason.into() }
    }

    #[test]
    fn programs_are_added_up() {
        let outcome = parse(
            "\
     Running unittests src/lib.rs (target/debug/deps/a-1)

running 2 tests
test a ... ok
test b::c ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests a

running 1 test
test src/lib.rs - (line 8) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.10s
",
        );
        assert_eq!(outcome, Outcome { passed: 3, ..Outcome::default() });
    }

    #[test]
    fn a_test_that_says_so_is_skipped_and_not_passed() {
        let outcome = parse(
            "\
running 3 tests
test a ... ok
test b ... ok
test c ... ignored, takes an hour

successes:

---- b stdout ----
SKIPPED b: KAFKA_BATCHER_BOOTSTRAP is not set
SKIPPED b: and there is no Java: none


successes:
    a
    b

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
",
        );
        assert_eq!((outcome.passed, outcome.failed), (1, 0));
        assert_eq!(
            outcome.skips,
            [skip("b", "KAFKA_BATCHER_BOOTSTRAP is not set"), skip("c", "takes an hour")]
        );
    }

    #[test]
    fn a_test_that_fails_has_not_skipped() {
        let outcome = parse(
            "\
running 2 tests
test a ... FAILED
test b ... ok

successes:

---- b stdout ----
nothing much

successes:
    b

failures:

---- a stdout ----
SKIPPED a: no broker
thread 'a' panicked

failures:
    a

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
",
        );
        assert_eq!((outcome.passed, outcome.failed), (1, 1));
        assert_eq!((outcome.failures, outcome.skips), (vec!["a".to_owned()], vec![]));
    }

    #[test]
    fn skips_are_counted_program_by_program() {
        let program = "SKIPPED a: why\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        let outcome = parse(&program.repeat(2));
        assert_eq!((outcome.passed, outcome.skips.len()), (0, 2), "two tests of the same name");
        // There is no more to skip than there was to pass.
        let more = format!("SKIPPED b: why\n{program}");
        assert_eq!((parse(&more).passed, parse(&more).skips.len()), (0, 1));
    }

    #[test]
    fn a_program_that_died_leaves_its_failures() {
        let outcome = parse("running 2 tests\ntest a ... FAILED\nerror: test failed (signal: 6, SIGABRT)\n");
        assert_eq!(outcome.failures, ["a"]);
        assert_eq!((outcome.passed, outcome.failed), (0, 0));
        assert_eq!(parse(""), Outcome::default());
    }

    #[test]
    fn an_odd_line_is_no_result() {
        for line in
            ["test result: ok.", "test result: ok. x passed; 0 failed; 0 ignored", "result: ok. 1 passed"]
        {
            assert!(parse_result(line).is_none(), "{line}");
        }
    }
}
