//! Certificates and keys, for rustls.

use std::path::Path;
use std::sync::Arc;

use kafka_batcher_core::config::Tls;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::SetupError;

/// Reads the files. With rustls's own provider of cryptography, whatever the application has chosen for the process.
pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, SetupError> {
    let refused = |error: rustls::Error| SetupError::Tls { reason: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots(tls.ca_file.as_deref())?);
    let config = match (&tls.cert_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("ssl.cert_file", certificate)?;
            let key = private_key(key, tls.key_password.is_some())?;
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
        (one, _) => {
            let (has, lacks) = if one.is_some() { ("cert", "key") } else { ("key", "cert") };
            return Err(SetupError::Tls { reason: format!("ssl.{has}_file without ssl.{lacks}_file") });
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates("ssl.ca_file", path)? {
            roots.add(certificate).map_err(|error| unfit("ssl.ca_file", path, error))?;
        }
        return Ok(roots);
    }
    let system = rustls_native_certs::load_native_certs();
    let (_, _) = roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        let why: Vec<_> = system.errors.iter().map(ToString::to_string).collect();
        let reason = format!("the system has no certificates to trust; set ssl.ca_file {}", why.join(", "));
        return Err(SetupError::Tls { reason });
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unfit(key, path, error))?;
    if certificates.is_empty() {
        return Err(unfit(key, path, "there is no certificate in it"));
    }
    Ok(certificates)
}

fn private_key(path: &Path, has_password: bool) -> Result<PrivateKeyDer<'static>, SetupError> {
    const KEY: &str = "ssl.key_file";
    const DECRYPT: &str =
        "encrypted keys are not supported by the rskafka backend; decrypt it: openssl pkcs8 -in … -out …";
    let text = std::fs::read(path).map_err(|error| unfit(KEY, path, error))?;
    // "ENCRYPTED PRIVATE KEY", or the older "Proc-Type: 4,ENCRYPTED".
    if text.windows(b"ENCRYPTED".len()).any(|part| part == b"ENCRYPTED") {
        return Err(unfit(KEY, path, DECRYPT));
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| unfit(KEY, path, error))?;
    if has_password {
        return Err(unfit(KEY, path, "it is not encrypted, but ssl.key_password is set"));
    }
    Ok(key)
}

fn unfit(key: &'static str, path: &Path, reason: impl ToString) -> SetupError {
    SetupError::File { key, path: path.to_owned(), reason: reason.to_string() }
}
