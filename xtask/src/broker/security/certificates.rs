//! Keys and certificates of a secured cluster: an authority that clients trust, one that they do not, and what they signed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::error::{Context, Result};
use crate::files;

pub(crate) const AUTHORITY: &str = "authority.pem";
pub(crate) const OTHER_AUTHORITY: &str = "other-authority.pem";
/// Those of brokers are key and certificate in one file, which Kafka wants.
pub(crate) const BROKER: &str = "broker.pem";
pub(crate) const EXPIRED: &str = "expired.pem";
pub(crate) const OTHER_HOST: &str = "other-host.pem";
/// Those of clients are two.
pub(crate) const CLIENT: Pair = Pair { certificate: "client.pem", key: "client.key" };
/// Signed by the other authority, which brokers do not trust either.
pub(crate) const STRANGER: Pair = Pair { certificate: "stranger.pem", key: "stranger.key" };

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

/// Makes all of them, in this folder. Keys are for their owner's eyes only.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context(|| "the clock is before 1970")?;
    let valid = (now - DAY, now + 10 * YEAR);
    let past = (now - 30 * DAY, now - DAY);
    let here = &["localhost", "127.0.0.1", "::1"][..];

    let authority = Authority::new("kafka-batcher test authority", valid)?;
    let other = Authority::new("kafka-batcher other authority", valid)?;
    files::write(&folder.join(AUTHORITY), &authority.certificate)?;
    files::write(&folder.join(OTHER_AUTHORITY), &other.certificate)?;
    for (file, names, validity) in
        [(BROKER, here, valid), (EXPIRED, here, past), (OTHER_HOST, &["broker.example"][..], valid)]
    {
        let signed = authority.sign("broker", names, ExtendedKeyUsagePurpose::ServerAuth, validity)?;
        files::write_private(&folder.join(file), &(signed.key + &signed.certificate))?;
    }
    for (pair, authority) in [(CLIENT, &authority), (STRANGER, &other)] {
        let signed = authority.sign("client", &[], ExtendedKeyUsagePurpose::ClientAuth, valid)?;
        files::write(&folder.join(pair.certificate), &signed.certificate)?;
        files::write_private(&folder.join(pair.key), &signed.key)?;
    }
    Ok(())
}

/// From and until when, since the Unix epoch.
type Validity = (Duration, Duration);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Both as PEM.
struct Signed {
    key: String,
    certificate: String,
}

impl Authority {
    fn new(name: &str, validity: Validity) -> Result<Self> {
        let cannot = || "cannot make an authority";
        let key = KeyPair::generate().context(cannot)?;
        let mut params = params(name, &[], validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).context(cannot)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    fn sign(
        &self,
        name: &str,
        hosts: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<Signed> {
        let cannot = || format!("cannot make a certificate for {name}");
        let key = KeyPair::generate().context(cannot)?;
        let mut params = params(name, hosts, validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).context(cannot)?;
        Ok(Signed { key: key.serialize_pem(), certificate: certificate.pem() })
    }
}

fn params(name: &str, hosts: &[&str], (from, until): Validity) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).context(|| "a bad host name")?;
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from;
    params.not_after = epoch + until;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_their_users_want_and_keys_are_private() {
        let folder = std::env::temp_dir().join(format!("kafka-batcher-certificates-{}", std::process::id()));
        files::create_dir_all(&folder).unwrap();
        write(&folder).unwrap();
        let text = |file: &str| files::read(&folder.join(file)).unwrap();
        for file in [BROKER, EXPIRED, OTHER_HOST] {
            let text = text(file);
            assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{file}");
            assert_eq!(text.matches("-----BEGIN CERTIFICATE-----").count(), 1, "{file}");
        }
        assert!(!text(CLIENT.certificate).contains("PRIVATE") && text(CLIENT.key).contains("PRIVATE"));
        assert_ne!(text(AUTHORITY), text(OTHER_AUTHORITY));
        #[cfg(unix)]
        for file in [BROKER, EXPIRED, OTHER_HOST, CLIENT.key, STRANGER.key] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        files::remove_dir_all(&folder).unwrap();
    }
}
