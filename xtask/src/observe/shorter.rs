//! Alerts and queries for a run of minutes instead of hours: their durations, and no threshold, get shorter.

/// The one threshold that is a time, in seconds, and what it becomes; see [`rules`].
const HOUR: &str = "stored_oldest_seconds > 3600";
const SHORT_HOUR: &str = "stored_oldest_seconds > 20";

/// The rules with shorter durations; and the hour after which something counts as stored for long is 20 seconds.
///
/// None if that hour is not in them: then this is out of date.
pub(super) fn rules(text: &str) -> Option<String> {
    text.contains(HOUR).then(|| durations(&text.replace(HOUR, SHORT_HOUR)))
}

/// Minutes become seconds, hours minutes, and days hours: in ranges (`[5m]`), after `offset` and after `for:`.
pub(super) fn durations(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        out.push_str(before);
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(digits);
        out.push_str(digits);
        let is_duration =
            ["[", "offset ", "for: "].iter().any(|sign| out.trim_end_matches(digits).ends_with(sign));
        let shorter = match after.chars().next() {
            Some('m') if is_duration => Some("s"),
            Some('h') if is_duration => Some("m"),
            Some('d') if is_duration => Some("h"),
            _ => None,
        };
        rest = after;
        if let Some(unit) = shorter {
            out.push_str(unit);
            rest = &after[1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_get_shorter_and_nothing_else_does() {
        for (long, short) in [
            ("rate(x[5m]) > 5", "rate(x[5s]) > 5"),
            ("for: 10m\n", "for: 10s\n"),
            ("last_over_time(x[1d])", "last_over_time(x[1h])"),
            ("x offset 30m) > 0", "x offset 30s) > 0"),
            ("predict_linear(u[15m], 4 * 3600) > 0.8", "predict_linear(u[15s], 4 * 3600) > 0.8"),
            ("[2h] 5m 99m kafka_5m 1d", "[2m] 5m 99m kafka_5m 1d"),
            ("55m for: 5", "55m for: 5"),
        ] {
            assert_eq!(durations(long), short);
        }
    }

    #[test]
    fn rules_without_the_hour_are_not_those_this_was_written_for() {
        assert_eq!(rules("for: 5m"), None);
        assert_eq!(
            rules("kafka_batcher_stored_oldest_seconds > 3600 for: 5m").unwrap(),
            "kafka_batcher_stored_oldest_seconds > 20 for: 5s"
        );
    }
}
