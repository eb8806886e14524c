//! Who may come in, with passwords and tokens that are random for each cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// May do everything.
pub(crate) const USER: &str = "alice";
/// May not write to [`FORBIDDEN`].
pub(crate) const LIMITED: &str = "mallory";
pub(crate) const FORBIDDEN: &str = "forbidden";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Secrets; hence no `Debug`. A user has another password for each mechanism, so that none passes for another.
#[derive(Serialize, Deserialize, PartialEq)]
pub(crate) struct Users {
    pub(crate) plain: String,
    pub(crate) scram_sha_256: String,
    pub(crate) scram_sha_512: String,
    /// Of [`LIMITED`], with PLAIN.
    pub(crate) limited: String,
    /// Nobody's.
    pub(crate) wrong: String,
    pub(crate) token: String,
    /// One that has expired, and says so only inside.
    pub(crate) bad_token: String,
    /// When `token` expires: milliseconds since the Unix epoch.
    pub(crate) expires_at: u64,
}

impl Users {
    pub(crate) fn random() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context(|| "the clock is before 1970")?;
        let expires = now + 365 * DAY;
        Ok(Self {
            plain: password()?,
            scram_sha_256: password()?,
            scram_sha_512: password()?,
            limited: password()?,
            wrong: password()?,
            token: token(now - DAY, expires)?,
            bad_token: token(now - 3 * DAY, now - 2 * DAY)?,
            expires_at: expires.as_secs() * 1000,
        })
    }

    /// For `PlainLoginModule`, which has its users in the configuration.
    pub(crate) fn jaas_options(&self) -> String {
        format!("user_{USER}=\"{}\" user_{LIMITED}=\"{}\"", self.plain, self.limited)
    }

    /// For `StorageTool format`, as SCRAM's users are in the cluster's own log.
    pub(crate) fn scram_arguments(&self) -> Vec<String> {
        [("SCRAM-SHA-256", &self.scram_sha_256), ("SCRAM-SHA-512", &self.scram_sha_512)]
            .into_iter()
            .flat_map(|(mechanism, password)| {
                ["--add-scram".to_owned(), format!("{mechanism}=[name={USER},password={password}]")]
            })
            .collect()
    }

    pub(crate) fn secrets(&self) -> [&str; 7] {
        [
            &self.plain,
            &self.scram_sha_256,
            &self.scram_sha_512,
            &self.limited,
            &self.wrong,
            &self.token,
            &self.bad_token,
        ]
    }
}

/// Letters and digits only: it stands in files of several syntaxes.
fn password() -> Result<String> {
    let mut bytes = [0_u8; 18];
    getrandom::fill(&mut bytes).context(|| "there is no randomness")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes).replace('-', "x").replace('_', "y"))
}

/// An unsecured JWS (RFC 7515, A.5) that names [`USER`]. With a random part, lest a test that looks for it finds another's.
fn token(issued: Duration, expires: Duration) -> Result<String> {
    let claims = serde_json::json!({
        "sub": USER, "iat": issued.as_secs(), "exp": expires.as_secs(), "jti": password()?,
    });
    let part = |json: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    Ok(format!("{}.{}.", part(&serde_json::json!({"alg": "none"})), part(&claims)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_plain_and_never_the_same() {
        let (one, other) = (Users::random().unwrap(), Users::random().unwrap());
        let mut all: Vec<&str> = one.secrets().into_iter().chain(other.secrets()).collect();
        assert!(all.iter().all(|secret| secret.len() >= 24));
        assert!(
            one.secrets()[..5].iter().all(|password| password.chars().all(|c| c.is_ascii_alphanumeric()))
        );
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 14);
    }

    #[test]
    fn a_token_is_three_parts_of_which_the_last_is_empty() {
        let token = token(Duration::from_secs(1), Duration::from_secs(2)).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!((parts.len(), parts[2]), (3, ""));
        let claims = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["sub"], &claims["exp"]), (&"alice".into(), &2.into()));
    }

    #[test]
    fn users_survive_a_restart() {
        let users = Users::random().unwrap();
        let text = serde_json::to_string(&users).unwrap();
        assert!(serde_json::from_str::<Users>(&text).unwrap() == users);
    }
}
