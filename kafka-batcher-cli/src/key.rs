//! What the key and the value of a line are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where an event's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keying {
    /// Nowhere: events have no key.
    None,
    /// From before the first of these; a line without one has no key, as with `kcat -K`.
    Separator(Vec<u8>),
    /// From this field of the line's JSON object.
    Field(String),
}

/// Turns a line into key and value.
#[derive(Clone, Debug)]
pub(crate) struct LineParser {
    pub(crate) keying: Keying,
    /// The value must be valid JSON.
    pub(crate) json: bool,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Nothing: it is skipped.
    Blank,
    /// An event.
    Event {
        /// Its key; `None` is Kafka's null.
        key: Option<Cow<'a, [u8]>>,
        /// The line's bytes, or those behind the separator.
        value: &'a [u8],
        /// The separator did not occur.
        unseparated: bool,
    },
}

/// Why a line is not an event. Shows nothing of the line's content but the field name that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadLine {
    /// Not valid JSON.
    InvalidJson {
        /// Byte in the line, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Valid as far as it was read, but not an object.
    NotAnObject(String),
    /// The object has no such field.
    NoSuchField(String),
    /// The field is a list or an object.
    FieldNotAKey {
        /// The field.
        field: String,
        /// What it is.
        found: &'static str,
    },
    /// Longer than the limit.
    TooLong {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The batcher refused the event.
    Refused(String),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidJson { column, problem } => write!(f, "invalid JSON at column {column}: {problem}"),
            Self::NotAnObject(problem) => write!(f, "not a JSON object: {problem}"),
            Self::NoSuchField(field) => write!(f, "no such key field `{field}`"),
            Self::FieldNotAKey { field, found } => {
                write!(f, "key field `{field}` is {found}; a key is text, a number, true, false or null")
            }
            Self::TooLong { bytes, limit } => write!(f, "too long: {bytes} bytes, the limit is {limit}"),
            Self::Refused(problem) => f.write_str(problem),
        }
    }
}

impl LineParser {
    /// Finds key and value of a line. Neither is copied, but for a key with an escape in it.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse<'a>(&self, line: &'a [u8]) -> Result<Parsed<'a>, BadLine> {
        let blank = if self.json { line.iter().all(u8::is_ascii_whitespace) } else { line.is_empty() };
        if blank {
            return Ok(Parsed::Blank);
        }
        let event = |key, value| Parsed::Event { key, value, unseparated: false };
        match &self.keying {
            Keying::None => {
                self.check(line)?;
                Ok(event(None, line))
            }
            Keying::Separator(separator) => match memchr::memmem::find(line, separator) {
                Some(at) => {
                    let value = &line[at + separator.len()..];
                    self.check(value)?;
                    Ok(event(Some(Cow::Borrowed(&line[..at])), value))
                }
                None => {
                    self.check(line)?;
                    Ok(Parsed::Event { key: None, value: line, unseparated: true })
                }
            },
            Keying::Field(field) => Ok(event(key_of(line, field)?, line)),
        }
    }

    fn check(&self, value: &[u8]) -> Result<(), BadLine> {
        if self.json {
            serde_json::from_str::<IgnoredAny>(text(value)?).map_err(invalid)?;
        }
        Ok(())
    }
}

/// JSON is UTF-8. Checked at once: that is faster than letting each string be checked, and finds it outside of strings, too.
fn text(line: &[u8]) -> Result<&str, BadLine> {
    std::str::from_utf8(line)
        .map_err(|e| BadLine::InvalidJson { column: e.valid_up_to() + 1, problem: "not UTF-8".to_owned() })
}

fn invalid(error: serde_json::Error) -> BadLine {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let problem = match message.strip_suffix(&place).unwrap_or(&message) {
        // serde_json's word for a value that begins like null, true or false.
        "expected ident" => "expected null, true or false".to_owned(),
        problem => problem.to_owned(),
    };
    if error.is_data() {
        BadLine::NotAnObject(problem)
    } else {
        BadLine::InvalidJson { column: error.column(), problem }
    }
}

/// The key in `field` of the JSON object `line`; the whole line is checked to be valid JSON.
fn key_of<'a>(line: &'a [u8], field: &str) -> Result<Option<Cow<'a, [u8]>>, BadLine> {
    let mut json = serde_json::Deserializer::from_str(text(line)?);
    let found = FieldOf(field).deserialize(&mut json).map_err(invalid)?;
    json.end().map_err(invalid)?;
    let raw = found.ok_or_else(|| BadLine::NoSuchField(field.to_owned()))?.get();
    let not_a_key = |found| Err(BadLine::FieldNotAKey { field: field.to_owned(), found });
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'{', ..] => not_a_key("an object"),
        [b'[', ..] => not_a_key("a list"),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Ok(Some(Cow::Borrowed(inner))),
        [b'"', ..] => {
            let key: String = serde_json::from_str(raw).map_err(invalid)?;
            Ok(Some(Cow::Owned(key.into_bytes())))
        }
        // A number's own text: `1.0` and `1` are different keys, and no digit is lost.
        number_or_bool => Ok(Some(Cow::Borrowed(number_or_bool))),
    }
}

/// Finds one field of an object and skips the others without building them. Of a repeated field the last one counts.
struct FieldOf<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Is(self.0))? {
            if wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a field's name is the one wanted.
struct Is<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// The bytes a separator option stands for: itself, with `\t`, `\r`, `\\` and `\xNN` understood.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn separator(option: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = option.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        rest = match tail {
            [b't', tail @ ..] => {
                bytes.push(b'\t');
                tail
            }
            [b'r', tail @ ..] => {
                bytes.push(b'\r');
                tail
            }
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                tail
            }
            [b'x', high, low, tail @ ..] => {
                let digit = |c: &u8| (*c as char).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err("`\\x` needs two hexadecimal digits".to_owned());
                };
                bytes.push((high * 16 + low) as u8);
                tail
            }
            _ => return Err("after `\\` there may be t, r, \\ or xNN".to_owned()),
        };
    }
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    if bytes.contains(&b'\n') {
        return Err("a newline ends the line and can't separate its key".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_field(line: &str) -> Result<Option<String>, BadLine> {
        let parser = LineParser { keying: Keying::Field("k".to_owned()), json: true };
        match parser.parse(line.as_bytes())? {
            Parsed::Blank => panic!("{line:?} is blank"),
            Parsed::Event { key, value, .. } => {
                assert_eq!(value, line.as_bytes(), "the value is the line, unchanged");
                Ok(key.map(|key| String::from_utf8(key.into_owned()).unwrap()))
            }
        }
    }

    fn key(line: &str) -> Option<String> {
        by_field(line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn some(key: &str) -> Option<String> {
        Some(key.to_owned())
    }

    #[test]
    fn a_field_of_text_is_its_content() {
        assert_eq!(key(r#"{"k":"N14228"}"#), some("N14228"));
        assert_eq!(key(r#" { "a" : [1,{"k":"no"}] , "k" : "yes" , "z":{} } "#), some("yes"));
        assert_eq!(key(r#"{"k":""}"#), some(""));
        assert_eq!(key(r#"{"k":"a\"b\\cÿ\u00e9\ud83d\ude00"}"#), some("a\"b\\cÿé😀"));
        assert_eq!(key(r#"{"\u006b":"escaped name"}"#), some("escaped name"));
        assert_eq!(key(r#"{"k":"first","k":"last"}"#), some("last"));
        assert_eq!(key("{\"k\":\"crlf\"}\r"), some("crlf"));
    }

    #[test]
    fn a_number_is_its_own_text_and_null_is_no_key() {
        assert_eq!(key(r#"{"k":17}"#), some("17"));
        assert_eq!(key(r#"{"k":-1.50e+3}"#), some("-1.50e+3"));
        assert_eq!(key(r#"{"k":123456789012345678901234567890}"#), some("123456789012345678901234567890"));
        assert_eq!(key(r#"{"k":true}"#), some("true"));
        assert_eq!(key(r#"{"k": null }"#), None);
    }

    #[test]
    fn a_bad_line_says_why_and_shows_no_content() {
        let problem = |line: &str| by_field(line).unwrap_err().to_string();
        assert_eq!(problem(r#"{"secret":"s3cr3t"}"#), "no such key field `k`");
        assert_eq!(problem(r"{}"), "no such key field `k`");
        assert_eq!(
            problem(r#"{"k":[1]}"#),
            "key field `k` is a list; a key is text, a number, true, false or null"
        );
        assert_eq!(
            problem(r#"{"k":{}}"#),
            "key field `k` is an object; a key is text, a number, true, false or null"
        );
        assert_eq!(problem("[1,2]"), "not a JSON object: invalid type: sequence, expected a JSON object");
        for (line, column) in [
            (r#"{"k":"a","b":}"#, 14),
            (r#"{"k":"a""#, 8),
            (r#"{"k":"a"} x"#, 11),
            (r#"{"k":"a","b":01}"#, 15),
            (r#"{"k":"a",}"#, 10),
            ("{\"k\":\"a\",\"b\":\"\u{1}\"}", 14),
            (r#"{"k":"\ud800"}"#, 0),
            ("nonsense", 2),
        ] {
            let BadLine::InvalidJson { column: at, .. } = by_field(line).unwrap_err() else {
                panic!("{line} passes for JSON");
            };
            assert!(column == 0 || at == column, "{line}: {at}");
        }
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_not_json() {
        let parser = LineParser { keying: Keying::Field("k".to_owned()), json: true };
        let error = parser.parse(b"{\"k\":\"a\",\"b\":\"\xff\"}").unwrap_err();
        assert_eq!(error.to_string(), "invalid JSON at column 15: not UTF-8");
        let parser = LineParser { keying: Keying::None, json: false };
        assert!(matches!(parser.parse(b"\xff"), Ok(Parsed::Event { value: b"\xff", .. })));
    }

    #[test]
    fn deep_nesting_is_no_stack_overflow() {
        let deep = format!(r#"{{"k":1,"x":{}"#, "[".repeat(500_000));
        assert!(matches!(by_field(&deep), Err(BadLine::InvalidJson { .. })));
        let deep = format!(r#"{{"k":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(by_field(&deep).is_err());
    }

    #[test]
    fn json_without_a_key_is_checked_and_blank_lines_are_none() {
        let parser = LineParser { keying: Keying::None, json: true };
        assert_eq!(parser.parse(b"  \r"), Ok(Parsed::Blank));
        assert_eq!(parser.parse(b""), Ok(Parsed::Blank));
        assert!(matches!(
            parser.parse(b"[1,\"two\"]"),
            Ok(Parsed::Event { key: None, value: b"[1,\"two\"]", .. })
        ));
        assert!(matches!(parser.parse(b"{\"a\":"), Err(BadLine::InvalidJson { .. })));
    }

    #[test]
    fn the_first_separator_cuts_and_a_line_without_one_has_no_key() {
        let parser = LineParser { keying: Keying::Separator(b"::".to_vec()), json: false };
        let parsed = |line: &'static str| match parser.parse(line.as_bytes()).unwrap() {
            Parsed::Blank => None,
            Parsed::Event { key, value, unseparated } => {
                Some((key.map(|k| k.into_owned()), value.to_vec(), unseparated))
            }
        };
        assert_eq!(parsed("k::v::w"), Some((Some(b"k".to_vec()), b"v::w".to_vec(), false)));
        assert_eq!(parsed("::v"), Some((Some(vec![]), b"v".to_vec(), false)));
        assert_eq!(parsed("k::"), Some((Some(b"k".to_vec()), vec![], false)));
        assert_eq!(parsed("k:v"), Some((None, b"k:v".to_vec(), true)));
        assert_eq!(parsed(""), None);
        assert_eq!(parsed(" "), Some((None, b" ".to_vec(), true)));
    }

    #[test]
    fn separators() {
        assert_eq!(separator(","), Ok(b",".to_vec()));
        assert_eq!(separator(r"\t"), Ok(b"\t".to_vec()));
        assert_eq!(separator(r"a\\\x00\xFf"), Ok(b"a\\\x00\xff".to_vec()));
        for bad in ["", r"\", r"\q", r"\x1", r"\xzz", "\n", r"\x0a"] {
            assert!(separator(bad).is_err(), "{bad:?}");
        }
    }
}
