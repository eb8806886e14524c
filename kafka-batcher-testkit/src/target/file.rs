//! The file that tells how a secured cluster is reached.

use std::path::Path;

use kafka_batcher_core::config::Sasl;
use kafka_batcher_core::{Denial, KafkaConfig};
use serde_json::{Map, Value};

use super::{RefusedCase, StaticToken, Target, TargetError};

pub(super) struct SecurityFile {
    pub(super) plaintext: String,
    rows: Vec<(String, KafkaConfig)>,
    pub(super) refused: Vec<RefusedCase>,
    pub(super) secrets: Vec<String>,
}

impl SecurityFile {
    pub(super) fn read(path: &Path) -> Result<Self, TargetError> {
        // Neither the file's text nor serde_json's errors, which quote it, are shown: it holds secrets.
        let bad = |what: &str| TargetError::Environment(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| bad(&error.to_string()))?;
        let file: Map<String, Value> = serde_json::from_str(&text).map_err(|_| bad("not a table in JSON"))?;
        Self::parse(file).map_err(|what| bad(&what))
    }

    fn parse(mut file: Map<String, Value>) -> Result<Self, String> {
        let mut table = |key: &str| match file.remove(key) {
            Some(Value::Object(table)) => Ok(table),
            None => Ok(Map::new()),
            Some(_) => Err(format!("`{key}` is no table")),
        };
        let rows = table("rows")?
            .into_iter()
            .map(|(name, row)| Ok((name.clone(), Entry::parse(&name, row)?.config)))
            .collect::<Result<_, String>>()?;
        let refused = table("refused")?
            .into_iter()
            .map(|(name, case)| {
                let Entry { config, expect, topic } = Entry::parse(&name, case)?;
                let expect = expect.ok_or_else(|| format!("`{name}` does not say what to `expect`"))?;
                Ok(RefusedCase { name, config, expect, topic })
            })
            .collect::<Result<_, String>>()?;
        let Some(Value::String(plaintext)) = file.remove("plaintext") else {
            return Err("`plaintext` is missing".to_owned());
        };
        let secrets = match file.remove("secrets") {
            Some(Value::Array(secrets)) => {
                secrets.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self { plaintext, rows, refused, secrets })
    }

    pub(super) fn target(self, row: &str) -> Result<Target, TargetError> {
        let Some((_, config)) = self.rows.iter().find(|(name, _)| name == row) else {
            let names: Vec<&str> = self.rows.iter().map(|(name, _)| name.as_str()).collect();
            let problem = format!("there is no row `{row}`, but plaintext, {}", names.join(", "));
            return Err(TargetError::Environment(problem));
        };
        Ok(Target {
            row: row.to_owned(),
            config: config.clone(),
            bootstrap: self.plaintext,
            refused: self.refused,
            secrets: self.secrets,
            embedded: None,
        })
    }
}

/// A configuration and what stands beside it.
struct Entry {
    config: KafkaConfig,
    expect: Option<Denial>,
    topic: Option<String>,
}

impl Entry {
    fn parse(name: &str, value: Value) -> Result<Self, String> {
        let Value::Object(mut table) = value else { return Err(format!("`{name}` is no table")) };
        let token = table.remove("token");
        let expect = match table.remove("expect") {
            None => None,
            Some(word) => {
                let denial = word.as_str().and_then(denial);
                Some(denial.ok_or_else(|| format!("`{name}` expects {word}, which is no denial"))?)
            }
        };
        let topic = table.remove("topic").and_then(|topic| topic.as_str().map(str::to_owned));
        let config: KafkaConfig =
            serde_json::from_value(Value::Object(table)).map_err(|error| format!("`{name}`: {error}"))?;
        let config = match token {
            Some(token) => config.sasl(Sasl::oauth_bearer(parse_token(name, &token)?)),
            None => config,
        };
        Ok(Self { config, expect, topic })
    }
}

fn parse_token(name: &str, token: &Value) -> Result<StaticToken, String> {
    let text = |key: &str| token.get(key).and_then(Value::as_str);
    let expires_at = token.get("expires_at").and_then(Value::as_i64);
    match (text("value"), text("principal"), expires_at) {
        (Some(value), Some(principal), Some(expires_at)) => {
            Ok(StaticToken::new(value, principal, expires_at))
        }
        _ => Err(format!("the token of `{name}` needs value, principal and expires_at")),
    }
}

fn denial(word: &str) -> Option<Denial> {
    [
        Denial::Credentials,
        Denial::NoToken,
        Denial::Mechanism,
        Denial::CertificateExpired,
        Denial::UnknownAuthority,
        Denial::HostName,
        Denial::ClientCertificate,
        Denial::Handshake,
        Denial::NotAuthorized,
    ]
    .into_iter()
    .find(|denial| denial.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SecurityFile, String> {
        SecurityFile::parse(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn rows_refusals_tokens_and_secrets_are_read() {
        let file = parse(
            r#"{
                "plaintext": "127.0.0.1:9092",
                "rows": {
                    "tls": {"endpoints": "localhost:1", "ssl": {"ca_file": "ca.pem"}},
                    "oauthbearer": {"endpoints": "localhost:2", "ssl": true,
                        "token": {"value": "hunter2", "principal": "me", "expires_at": 1}}
                },
                "refused": {
                    "no_acl": {"endpoints": "localhost:2", "topic": "forbidden", "expect": "not_authorized"}
                },
                "secrets": ["hunter2"]
            }"#,
        )
        .unwrap();
        assert_eq!(file.secrets, ["hunter2"]);
        let [refused] = &file.refused[..] else { panic!("{:?}", file.refused) };
        assert_eq!((refused.name.as_str(), refused.topic.as_deref()), ("no_acl", Some("forbidden")));
        assert_eq!(refused.expect, Denial::NotAuthorized);
        let target = file.target("oauthbearer").unwrap();
        assert_eq!((target.row(), target.bootstrap()), ("oauthbearer", "127.0.0.1:9092"));
        assert!(target.is_secured());
        assert!(target.config().get_sasl().unwrap().tokens.is_some());
        assert!(target.config_at("localhost:9").get_ssl().is_some());
        assert!(!format!("{target:?} {:?}", target.config()).contains("hunter2"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_without_the_secrets() {
        for (text, says) in [
            (r#"{}"#, "plaintext"),
            (r#"{"plaintext": "a:1", "rows": 1}"#, "rows"),
            (r#"{"plaintext": "a:1", "refused": {"x": {"endpoints": "a:1"}}}"#, "expect"),
            (r#"{"plaintext": "a:1", "refused": {"x": {"endpoints": "a:1", "expect": "love"}}}"#, "love"),
            (
                r#"{"plaintext": "a:1", "rows": {"x": {"endpoints": "a:1", "token": {"value": "hunter2"}}}}"#,
                "token",
            ),
            (r#"{"plaintext": "a:1", "rows": {"x": {"endpoints": "a:1", "oauth": "hunter2"}}}"#, "oauth"),
        ] {
            let error = parse(text).err().unwrap();
            assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
        }
        assert!(
            parse(r#"{"plaintext": "a:1"}"#).unwrap().target("tls").unwrap_err().to_string().contains("tls")
        );
    }
}
