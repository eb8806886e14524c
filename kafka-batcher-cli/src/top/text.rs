//! Prometheus' text format, as far as counters, gauges and histograms go.
//!
//! As specified at <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

/// A value of a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    /// In the order in which they are written.
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    /// The value of a label; empty when there is no such label, which means the same.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }
}

/// All samples of a page.
///
/// # Errors
/// The number of the first line that is none, from 1.
pub(super) fn parse(page: &str) -> Result<Vec<Sample>, usize> {
    let lines = page.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| sample(line).ok_or(number))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = name(line)?;
    let mut labels = Vec::new();
    let mut rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (label, behind) = self::name(rest)?;
            let (value, behind) = quoted(behind.trim_start().strip_prefix('=')?.trim_start())?;
            labels.push((label.to_owned(), value));
            let behind = behind.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(behind) => behind.trim_start(),
                None if behind.starts_with('}') => behind,
                None => return None,
            };
        }
        rest = &rest[1..];
    }
    let mut words = rest.split_ascii_whitespace();
    let value = number(words.next()?)?;
    // A time may follow.
    if words.next().is_some_and(|time| time.parse::<i64>().is_err()) || words.next().is_some() {
        return None;
    }
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The name at the beginning of a text, and what is behind it.
fn name(text: &str) -> Option<(&str, &str)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let end = text.find(|c| !legal(c)).unwrap_or(text.len());
    (end > 0 && !text.starts_with(|c: char| c.is_ascii_digit())).then(|| text.split_at(end))
}

/// The content of the quotes at the beginning of a text, and what is behind them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust knows more words than Prometheus.
        other if other.contains(|c: char| c.is_ascii_digit()) => other.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Sample {
        let mut samples = parse(line).unwrap();
        assert_eq!(samples.len(), 1);
        samples.remove(0)
    }

    #[test]
    fn a_page_of_the_specification_is_understood() {
        // Prometheus' own example, shortened.
        let page = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
"#;
        let samples = parse(page).unwrap();
        assert_eq!(samples.len(), 7);
        assert_eq!((samples[0].label("code"), samples[0].value), ("200", 1027.0));
        assert_eq!(samples[2].label("path"), "C:\\DIR\\FILE.TXT");
        assert_eq!(samples[2].label("error"), "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!(samples[3].value, 12.47);
        assert_eq!(samples[4].value, f64::INFINITY);
        assert_eq!(samples[6].label("le"), "+Inf");
    }

    #[test]
    fn labels_may_hold_anything_and_be_none() {
        let odd = one(r#"a:b_1 { x = "}, y=\"1\" é" , z="", } -1e-3"#);
        assert_eq!((odd.name.as_str(), odd.value), ("a:b_1", -0.001));
        assert_eq!((odd.label("x"), odd.label("z"), odd.label("no")), ("}, y=\"1\" é", "", ""));
        assert_eq!(one("a{} 1").labels, []);
        assert!(one("a NaN").value.is_nan());
    }

    #[test]
    fn what_is_no_page_of_metrics_is_not_taken_for_one() {
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("a 1\n\n<html>"), Err(3));
        for bad in [
            "a",
            "a{",
            "a{x",
            "a{x=",
            "a{x=\"",
            "a{x=\"\\",
            "a{x=\"1\"",
            "a{x=\"1\" y=\"2\"} 1",
            "a{x=1} 1",
            "1a 1",
            "a inf",
            "a one",
            "a 1 2 3",
            "a 1 x",
            "{x=\"1\"} 1",
            "é 1",
            "a{é=\"1\"} 1",
        ] {
            assert_eq!(parse(bad), Err(1), "{bad}");
        }
    }
}
