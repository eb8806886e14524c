//! How a client gets in: credentials (`sasl`) and encryption (`ssl`).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::ConfigError;
use super::value::Value;

/// Who the client is, and how that is proved (`sasl`).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sasl {
    /// How.
    pub mechanism: SaslMechanism,
    /// `login`: the user name. Empty with [`SaslMechanism::OauthBearer`], where the token tells.
    pub login: String,
    /// The password; never shown in `Debug`, logs or errors.
    pub password: SecretString,
    /// Where tokens come from, with [`SaslMechanism::OauthBearer`].
    pub tokens: Option<Arc<dyn TokenProvider>>,
}

impl Sasl {
    /// A user name and a password for `mechanism`.
    #[must_use]
    pub fn new(mechanism: SaslMechanism, login: impl Into<String>, password: impl Into<String>) -> Self {
        Self { mechanism, login: login.into(), password: password.into().into(), tokens: None }
    }

    /// OAUTHBEARER with tokens of `provider`.
    #[must_use]
    pub fn oauth_bearer(provider: impl TokenProvider + 'static) -> Self {
        let tokens: Option<Arc<dyn TokenProvider>> = Some(Arc::new(provider));
        Self { tokens, ..Self::new(SaslMechanism::OauthBearer, "", "") }
    }

    /// # Errors
    /// [`ConfigError`] when the mechanism and what it needs do not fit together.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if (self.mechanism == SaslMechanism::OauthBearer) == self.tokens.is_some() {
            return Ok(());
        }
        let problem = format!(
            "{:?}, and {} token provider",
            self.mechanism.key(),
            self.tokens.as_ref().map_or("no", |_| "a")
        );
        let allowed =
            "\"oauthbearer\" with a token provider, set in code (`Sasl::oauth_bearer`), others without";
        Err(ConfigError::invalid("sasl.mechanism", problem, allowed))
    }

    pub(super) fn from_value(value: &Value) -> Result<Option<Self>, ConfigError> {
        if matches!(value, Value::Bool(false)) {
            return Ok(None);
        }
        let table = value.table("sasl", SASL)?;
        if let Some(key) =
            table.keys().find(|key| !["mechanism", "login", "password"].contains(&key.as_str()))
        {
            return Err(ConfigError::unknown(
                &format!("sasl.{key}"),
                ["sasl.mechanism", "sasl.login", "sasl.password"].into_iter(),
            ));
        }
        let text = |key: &'static str| match table.get(key) {
            Some(value) => value.text(key, SASL),
            None => Err(ConfigError::Missing { key, allowed: SASL }),
        };
        let given = text("mechanism")?;
        let Some(mechanism) = SaslMechanism::ALL.into_iter().find(|mechanism| mechanism.key() == given)
        else {
            return Err(ConfigError::invalid("sasl.mechanism", format!("{given:?}"), SASL));
        };
        if mechanism == SaslMechanism::OauthBearer {
            // Says that the provider is missing.
            Self::new(mechanism, "", "").validate()?;
        }
        Ok(Some(Self::new(mechanism, text("login")?, text("password")?)))
    }
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
}

impl SaslMechanism {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// Kafka's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// Its name in a configuration file.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::ScramSha256 => "scram_sha_256",
            Self::ScramSha512 => "scram_sha_512",
            Self::OauthBearer => "oauthbearer",
        }
    }
}

/// Gets the tokens that prove who the client is, for SASL/OAUTHBEARER.
///
/// Asked when a client starts, for every new connection or before the last token expires, whichever the backend needs.
#[async_trait]
pub trait TokenProvider: Send + Sync + fmt::Debug {
    /// A token that is valid now. Has to answer within `connect_timeout`; may be called from several tasks at once.
    ///
    /// **Cancellation:** a dropped future must not leak.
    ///
    /// # Errors
    /// Why there is none. The text is shown: it must not contain a secret.
    async fn token(&self) -> Result<Token, TokenError>;
}

/// A bearer token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    /// The token itself; never shown.
    pub value: SecretString,
    /// Whom it names: the principal.
    pub principal: String,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at: i64,
}

impl Token {
    /// A token that names `principal` until `expires_at`, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(value: impl Into<String>, principal: impl Into<String>, expires_at: i64) -> Self {
        Self { value: value.into().into(), principal: principal.into(), expires_at }
    }
}

/// There is no token. Holds the reason, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token: {0}")]
#[expect(clippy::exhaustive_structs, reason = "a text")]
pub struct TokenError(pub String);

/// TLS towards the brokers (`ssl = true`, or a table with these keys).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tls {
    /// `ca_file`: PEM file of the authorities to trust; `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// `cert_file`: PEM file of the client's certificate.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: PEM file of the client's private key.
    pub key_file: Option<PathBuf>,
    /// `key_password`: password of that file; never shown.
    pub key_password: Option<SecretString>,
}

impl Tls {
    pub(super) fn from_value(value: &Value) -> Result<Option<Self>, ConfigError> {
        if let Value::Bool(on) = value {
            return Ok(on.then(Self::default));
        }
        let mut tls = Self::default();
        for (key, value) in value.table("ssl", SSL)? {
            let text = value.text(key, SSL)?;
            match key.as_str() {
                "ca_file" => tls.ca_file = Some(text.into()),
                "cert_file" => tls.cert_file = Some(text.into()),
                "key_file" => tls.key_file = Some(text.into()),
                "key_password" => tls.key_password = Some(text.into()),
                _ => {
                    let known = ["ssl.ca_file", "ssl.cert_file", "ssl.key_file", "ssl.key_password"];
                    return Err(ConfigError::unknown(&format!("ssl.{key}"), known.into_iter()));
                }
            }
        }
        Ok(Some(tls))
    }
}

const SASL: &str =
    "a table with mechanism (\"plain\", \"scram_sha_256\", \"scram_sha_512\"), login and password";
const SSL: &str = "true, false, or a table with ca_file, cert_file, key_file, key_password";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;

    #[derive(Debug)]
    struct Fixed;

    #[async_trait]
    impl TokenProvider for Fixed {
        async fn token(&self) -> Result<Token, TokenError> {
            Ok(Token::new("hunter2", "me", 1))
        }
    }

    #[test]
    fn tokens_and_oauthbearer_belong_together() {
        let config = |sasl| KafkaConfig::new("a:1").sasl(sasl);
        assert!(config(Sasl::oauth_bearer(Fixed)).validate().is_ok());
        let bare = config(Sasl::new(SaslMechanism::OauthBearer, "", "")).validate().unwrap_err();
        assert!(bare.to_string().contains("token provider"), "{bare}");
        let mut both = Sasl::oauth_bearer(Fixed);
        both.mechanism = SaslMechanism::Plain;
        assert!(config(both).validate().is_err());
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new("hunter2", "me", 1);
        assert!(!format!("{token:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_can_name_all_mechanisms_but_the_one_that_needs_code() {
        for mechanism in SaslMechanism::ALL {
            let text = format!(
                r#"{{"endpoints": "a:1", "sasl": {{"mechanism": "{}", "login": "me", "password": "x"}}}}"#,
                mechanism.key()
            );
            let parsed = serde_json::from_str::<KafkaConfig>(&text);
            if mechanism == SaslMechanism::OauthBearer {
                assert!(parsed.unwrap_err().to_string().contains("Sasl::oauth_bearer"));
            } else {
                assert_eq!(parsed.unwrap().get_sasl().map(|sasl| sasl.mechanism), Some(mechanism));
            }
        }
    }
}
