//! What tests are told of a secured cluster: one JSON file.
//!
//! ```text
//! plaintext   the same cluster without security, to create topics and to read back
//! rows        ways in: each is a `KafkaConfig` in its own file format, or has a `token` in place of `sasl`
//! refused     what must be refused; `expect` is the reason (`Denial::as_str`)
//! secrets     all that must appear in no log, error or `Debug`
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::certificates::{AUTHORITY, CLIENT, OTHER_AUTHORITY, Pair, STRANGER};
use super::listeners::Listener;
use super::users::{FORBIDDEN, LIMITED, USER, Users};
use crate::broker::layout::Cluster;
use crate::error::{Context, Error, Result};
use crate::files;

/// From the simplest one on.
pub(crate) const ROWS: &[&str] =
    &["tls", "mutual_tls", "sasl_plain", "scram_sha_256", "scram_sha_512", "oauthbearer"];

/// The file's text.
pub(crate) fn render(cluster: &Cluster, users: &Users, folder: &Path) -> Result<String> {
    let path = |file: &str| folder.join(file).display().to_string();
    let ca = || json!({"ca_file": path(AUTHORITY)});
    let with = |pair: Pair| {
        json!({
            "ca_file": path(AUTHORITY), "cert_file": path(pair.certificate), "key_file": path(pair.key)
        })
    };
    let tls = |listener: Listener, ssl: Value| json!({"endpoints": listener.endpoints(cluster), "ssl": ssl});
    let sasl = |mechanism: &str, login: &str, password: &str| {
        let mut row = tls(Listener::Sasl, ca());
        row["sasl"] = json!({"mechanism": mechanism, "login": login, "password": password});
        row
    };
    let oauth = |token: &str| {
        let mut row = tls(Listener::Sasl, ca());
        row["token"] = json!({"value": token, "principal": USER, "expires_at": users.expires_at});
        row
    };

    let rows = json!({
        "tls": tls(Listener::Tls, ca()),
        "mutual_tls": tls(Listener::MutualTls, with(CLIENT)),
        "sasl_plain": sasl("plain", USER, &users.plain),
        "scram_sha_256": sasl("scram_sha_256", USER, &users.scram_sha_256),
        "scram_sha_512": sasl("scram_sha_512", USER, &users.scram_sha_512),
        "oauthbearer": oauth(&users.token),
    });

    let mut refused = BTreeMap::new();
    let mut refuse = |name: &'static str, mut row: Value, why: &str| {
        row["expect"] = why.into();
        refused.insert(name, row);
    };
    let wrong = &users.wrong;
    refuse("wrong_password", sasl("plain", USER, wrong), "credentials");
    refuse("wrong_password_scram_sha_256", sasl("scram_sha_256", USER, wrong), "credentials");
    refuse("wrong_password_scram_sha_512", sasl("scram_sha_512", USER, wrong), "credentials");
    refuse("unknown_user", sasl("plain", "nobody", wrong), "credentials");
    refuse("unknown_user_scram_sha_256", sasl("scram_sha_256", "nobody", wrong), "credentials");
    refuse("bad_token", oauth(&users.bad_token), "credentials");
    refuse("expired_certificate", tls(Listener::Expired, ca()), "certificate_expired");
    let other_authority = json!({"ca_file": path(OTHER_AUTHORITY)});
    refuse("unknown_authority", tls(Listener::Tls, other_authority), "unknown_authority");
    refuse("wrong_host_name", tls(Listener::OtherHost, ca()), "host_name");
    refuse("no_client_certificate", tls(Listener::MutualTls, ca()), "client_certificate");
    refuse("unknown_client_certificate", tls(Listener::MutualTls, with(STRANGER)), "client_certificate");
    let mut limited = sasl("plain", LIMITED, &users.limited);
    limited["topic"] = FORBIDDEN.into();
    refuse("no_acl", limited, "not_authorized");

    let mut secrets: Vec<String> = users.secrets().map(str::to_owned).into();
    for pair in [CLIENT, STRANGER] {
        secrets.push(heart(&files::read(&folder.join(pair.key))?)?);
    }
    let file = json!({
        "plaintext": cluster.bootstrap(), "rows": rows, "refused": refused, "secrets": secrets,
    });
    Ok(serde_json::to_string_pretty(&file).context(|| "cannot write JSON")? + "\n")
}

/// A line of a key that no other key has.
fn heart(pem: &str) -> Result<String> {
    let line = pem.lines().find(|line| !line.starts_with('-')).map(str::to_owned);
    line.ok_or_else(|| Error::new("a key without a content"))
}

/// The names of the rows: those that are known in their order, then others.
pub(crate) fn rows(text: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        rows: BTreeMap<String, serde::de::IgnoredAny>,
    }
    // What serde says may quote the file.
    let file: File = serde_json::from_str(text).map_err(|_| Error::new("it is not such a file"))?;
    let (mut known, others): (Vec<String>, Vec<String>) =
        file.rows.into_keys().partition(|row| ROWS.contains(&row.as_str()));
    known.sort_by_key(|row| ROWS.iter().position(|known| known == row));
    known.extend(others);
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::super::certificates;
    use super::*;

    fn rendered(folder: &str) -> (Value, String) {
        let folder = std::env::temp_dir().join(format!("kafka-batcher-{folder}-{}", std::process::id()));
        files::create_dir_all(&folder).unwrap();
        certificates::write(&folder).unwrap();
        let cluster = Cluster { id: String::new(), nodes: 1, base_port: 19092, partitions: 4, secure: true };
        let text = render(&cluster, &Users::random().unwrap(), &folder).unwrap();
        files::remove_dir_all(&folder).unwrap();
        (serde_json::from_str(&text).unwrap(), text)
    }

    #[test]
    fn every_row_is_there_and_every_refusal_has_its_reason() {
        let (file, text) = rendered("file");
        assert_eq!(rows(&text).unwrap(), ROWS);
        assert_eq!(file["plaintext"], "127.0.0.1:19092");
        assert_eq!(file["rows"]["mutual_tls"]["endpoints"], "localhost:19302");
        assert_eq!(file["rows"]["scram_sha_512"]["sasl"]["mechanism"], "scram_sha_512");
        assert_eq!(file["rows"]["oauthbearer"]["sasl"], Value::Null, "a token in its place");
        for (name, row) in file["refused"].as_object().unwrap() {
            assert!(row["expect"].is_string() && row["endpoints"].is_string(), "{name}");
        }
        assert_eq!(file["refused"]["no_acl"]["topic"], FORBIDDEN);
    }

    #[test]
    fn every_password_and_token_is_among_the_secrets() {
        let (file, _) = rendered("secrets");
        let secrets: Vec<&str> =
            file["secrets"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        for row in
            [&file["rows"], &file["refused"]].into_iter().flat_map(|rows| rows.as_object().unwrap().values())
        {
            for secret in
                [&row["sasl"]["password"], &row["token"]["value"]].into_iter().filter_map(Value::as_str)
            {
                assert!(secrets.contains(&secret));
            }
        }
        assert!(secrets.iter().all(|secret| secret.len() >= 24), "or else it may be found by chance");
    }

    #[test]
    fn what_is_wrong_with_a_file_does_not_quote_it() {
        let error = rows("{\"rows\": \"hunter2\"}").unwrap_err().to_string();
        assert_eq!(error, "it is not such a file");
    }
}
