//! Logging in.

use std::sync::Arc;

use kafka_batcher_core::Denial;
use kafka_batcher_core::config::{Sasl, SaslMechanism};
use rskafka::client::{Credentials, OauthBearerCredentials, OauthCallback, SaslConfig};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use crate::engine::Task;
use crate::trouble::Trouble;

/// What rskafka is to do to log in. Tokens are asked for on the runtime `home`, the application's.
pub(crate) fn config(sasl: &Sasl, home: &Handle) -> Result<SaslConfig, Trouble> {
    let credentials = || Credentials::new(sasl.login.clone(), sasl.password.expose_secret().to_owned());
    match (sasl.mechanism, &sasl.tokens) {
        (SaslMechanism::Plain, _) => Ok(SaslConfig::Plain(credentials())),
        (SaslMechanism::ScramSha256, _) => Ok(SaslConfig::ScramSha256(credentials())),
        (SaslMechanism::ScramSha512, _) => Ok(SaslConfig::ScramSha512(credentials())),
        (SaslMechanism::OauthBearer, Some(provider)) => {
            let (provider, home) = (Arc::clone(provider), home.clone());
            let callback: OauthCallback = Arc::new(move || {
                let provider = Arc::clone(&provider);
                let asked = Task::spawned(home.spawn(async move { provider.token().await }));
                Box::pin(async move {
                    let token =
                        asked.await.map_err(|_| "the token provider panicked, or its runtime ended")??;
                    Ok(token.value.expose_secret().to_owned())
                })
            });
            // The token names the user; asking for another one is refused.
            let bearer_kvs = Vec::new();
            Ok(SaslConfig::Oauthbearer(OauthBearerCredentials { callback, authz_id: None, bearer_kvs }))
        }
        (mechanism, _) => {
            let text = format!("{} is not known to this version", mechanism.as_str());
            Err(Trouble::denied(Denial::Mechanism, &text))
        }
    }
}
