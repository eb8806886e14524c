//! The `[spool]` table of a configuration file, and the options that win over it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use kafka_batcher::ConfigError;
use kafka_batcher::sled::{Durability, SledOptions};
use toml::{Table, Value};

use crate::args::{Level, SpoolArgs};

const KEYS: &[&str] = &["path", "quota", "level", "dead_letter_limit", "dead_letter_max_age"];

/// How the spool is to be opened; `None` when there is to be none.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn options(args: &SpoolArgs, table: Option<&Value>) -> Result<Option<SledOptions>, String> {
    let file = match table {
        None => FromFile::default(),
        Some(Value::Table(table)) => {
            FromFile::read(table).map_err(|error| format!("configuration, [spool]: {error}"))?
        }
        Some(_) => return Err("configuration: `spool` is not a table".to_owned()),
    };
    let Some(path) = args.path.clone().or(file.path) else {
        return if args.quota.is_some() || args.level.is_some() {
            Err("--spool-quota and --spool-level need --spool DIR".to_owned())
        } else if table.is_some() {
            Err("configuration, [spool]: `path` is missing; it may be given by --spool, too".to_owned())
        } else {
            Ok(None)
        };
    };
    let mut options = SledOptions::new(path).dead_letter_limit(file.dead_letter_limit);
    if let Some(quota) = args.quota.or(file.quota) {
        options = options.quota(quota);
    }
    options = options.durability(match args.level.or(file.level) {
        Some(Level::Os) => Durability::Os,
        Some(Level::Disk) | None => Durability::Disk,
    });
    if let Some(age) = file.dead_letter_max_age {
        options = options.dead_letter_max_age(age);
    }
    options.check().map_err(|error| error.to_string())?;
    Ok(Some(options))
}

struct FromFile {
    path: Option<PathBuf>,
    quota: Option<u64>,
    level: Option<Level>,
    dead_letter_limit: Option<NonZeroU64>,
    dead_letter_max_age: Option<Duration>,
}

impl Default for FromFile {
    fn default() -> Self {
        let dead_letter_limit = NonZeroU64::new(100_000);
        Self { path: None, quota: None, level: None, dead_letter_limit, dead_letter_max_age: None }
    }
}

impl FromFile {
    fn read(table: &Table) -> Result<Self, ConfigError> {
        let mut file = Self::default();
        for (key, value) in table {
            match key.as_str() {
                "path" => {
                    let path = value.as_str().filter(|path| !path.is_empty());
                    file.path = Some(path.ok_or_else(|| invalid(key, value, "a folder"))?.into());
                }
                "quota" => {
                    file.quota = Some(number(key, value, "bytes, a whole number from 8388608 (8 MiB)")?)
                }
                "level" => {
                    file.level = Some(match value.as_str() {
                        Some("os") => Level::Os,
                        Some("disk") => Level::Disk,
                        _ => return Err(invalid(key, value, "\"os\", \"disk\"")),
                    });
                }
                "dead_letter_limit" => {
                    let records = number(key, value, "records, a whole number; 0 is no limit but the quota")?;
                    file.dead_letter_limit = NonZeroU64::new(records);
                }
                "dead_letter_max_age" => {
                    let allowed = "milliseconds, a whole number from 1";
                    let age = Some(number(key, value, allowed)?).filter(|age| *age > 0);
                    let age = age.ok_or_else(|| invalid(key, value, allowed))?;
                    file.dead_letter_max_age = Some(Duration::from_millis(age));
                }
                _ => return Err(unknown(key)),
            }
        }
        Ok(file)
    }
}

fn number(key: &str, value: &Value, allowed: &'static str) -> Result<u64, ConfigError> {
    value.as_integer().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| invalid(key, value, allowed))
}

fn invalid(key: &str, value: &Value, allowed: &'static str) -> ConfigError {
    let problem = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        other => format!("of the kind {}", other.type_str()),
    };
    ConfigError::Invalid { key: key.to_owned(), problem, allowed }
}

fn unknown(key: &str) -> ConfigError {
    let likeness = |known: &str| strsim::jaro_winkler(key, known);
    let nearest = KEYS.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    ConfigError::UnknownKey { key: key.to_owned(), nearest: nearest.filter(|known| likeness(known) > 0.75) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        path: Option<&str>,
        quota: Option<u64>,
        level: Option<Level>,
        file: &str,
    ) -> Result<String, String> {
        let args = SpoolArgs { path: path.map(PathBuf::from), quota, level };
        let file: Table = file.parse().unwrap();
        options(&args, file.get("spool")).map(|options| format!("{options:?}"))
    }

    #[test]
    fn options_win_over_the_file() {
        assert_eq!(chosen(None, None, None, "").unwrap(), "None");
        let file = "[spool]\npath = '/a'\nquota = 9000000\nlevel = 'os'\ndead_letter_limit = 0\ndead_letter_max_age = 60000";
        let text = chosen(None, None, None, file).unwrap();
        for part in ["\"/a\"", "quota: 9000000", "durability: Os", "dead_limit: None", "dead_age: Some(60s)"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = chosen(Some("/b"), Some(10_000_000), Some(Level::Disk), file).unwrap();
        for part in ["\"/b\"", "quota: 10000000", "durability: Disk"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = chosen(Some("/b"), None, None, "").unwrap();
        assert!(text.contains("durability: Disk") && text.contains("dead_limit: Some(100000)"), "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |file: &str| chosen(None, None, None, file).unwrap_err();
        assert!(error("[spool]\npaht = '/a'").contains("`paht`; did you mean `path`?"));
        assert!(error("[spool]\nquotas = 1").contains("`quota`?"));
        assert!(error("[spool]\nquota = -1").contains("8388608"));
        assert!(error("[spool]\nlevel = 'paper'").contains("\"disk\""));
        assert!(error("[spool]\npath = 1").contains("a folder"));
        assert!(error("[spool]\ndead_letter_max_age = 0").contains("milliseconds"));
        assert!(error("[spool]\nlevel = 'os'").contains("`path` is missing"));
        assert!(error("spool = '/a'").contains("not a table"));
        assert!(error("[spool]\npath = '/a'\nquota = 1").contains("the quota is 1 bytes"));
        assert!(chosen(None, Some(1), None, "").unwrap_err().contains("need --spool"));
    }
}
