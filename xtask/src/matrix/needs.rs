//! What features need beyond Rust, a C compiler and make, and whether it is here.

use std::path::Path;

use super::features::Resolved;
use crate::compilers::{runs, succeeds};

/// Something a build may need, in the order of how hard it is to come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// OpenSSL's headers and library.
    OpenSsl,
    /// Those of Cyrus SASL.
    Sasl,
    /// Perl, which OpenSSL is built with, and minutes.
    Vendored,
}

/// The crate that compiles librdkafka.
pub(crate) const LIBRARY: &str = "rdkafka";

/// Features of librdkafka's crate that need something. The others compile what they need along, in seconds.
const NEEDS: &[(&str, &[Need])] = &[
    ("ssl", &[Need::OpenSsl]),
    ("sasl", &[Need::OpenSsl, Need::Sasl]),
    ("gssapi", &[Need::OpenSsl, Need::Sasl]),
    ("ssl-vendored", &[Need::Vendored]),
    ("gssapi-vendored", &[Need::Vendored]),
];

/// What all of these features together need.
pub(crate) fn of(resolved: &Resolved) -> Vec<Need> {
    let mut needs: Vec<Need> = NEEDS
        .iter()
        .filter(|(feature, _)| resolved.foreign().any(|found| found == (LIBRARY, *feature)))
        .flat_map(|(_, needs)| needs.iter().copied())
        .collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// Why something with these needs can't be built here, if it can't.
pub(crate) fn missing(needs: &[Need], vendored: bool) -> Option<String> {
    needs
        .iter()
        .find_map(|need| match need {
            Need::OpenSsl if !has_openssl() => {
                Some("needs OpenSSL's headers (Debian: pkg-config libssl-dev; Fedora: openssl-devel)")
            }
            Need::Sasl if !has_sasl() => {
                Some("needs Cyrus SASL's headers (Debian: libsasl2-dev; Fedora: cyrus-sasl-devel)")
            }
            Need::Vendored if !vendored => {
                Some("builds OpenSSL and Kerberos from source, which takes minutes: `--vendored` asks for it")
            }
            Need::Vendored if !runs("perl") => Some("needs perl, to build OpenSSL"),
            _ => None,
        })
        .map(str::to_owned)
}

fn has_openssl() -> bool {
    is_set("OPENSSL_DIR")
        || (is_set("OPENSSL_LIB_DIR") && is_set("OPENSSL_INCLUDE_DIR"))
        || pkg_config("openssl")
        // Where the build looks on macOS.
        || ["/opt/homebrew/opt/openssl@3", "/usr/local/opt/openssl@3"].iter().any(|path| Path::new(path).exists())
}

fn has_sasl() -> bool {
    is_set("SASL2_DIR")
        || (is_set("SASL2_LIB_DIR") && is_set("SASL2_INCLUDE_DIR"))
        || cfg!(target_os = "macos")
        || ["/usr/include", "/usr/local/include"]
            .iter()
            .any(|path| Path::new(path).join("sasl/sasl.h").exists())
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn pkg_config(library: &str) -> bool {
    succeeds("pkg-config", &["--exists", library])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::features::{Choice, resolve};
    use crate::workspace::tests::example;

    #[test]
    fn needs_follow_from_librdkafkas_features() {
        let workspace = example();
        let package = workspace.package("kafka-batcher-rdkafka").unwrap();
        let needs = |features: &[&str]| {
            let choice = Choice::Only(features.iter().map(|&feature| feature.to_owned()).collect());
            of(&resolve(&workspace, package, &choice, false))
        };
        assert_eq!(needs(&["zstd", "libz"]), []);
        assert_eq!(needs(&["ssl", "zstd"]), [Need::OpenSsl]);
    }

    #[test]
    fn what_needs_nothing_can_be_built() {
        assert_eq!(missing(&[], false), None);
        assert!(missing(&[Need::Vendored], false).unwrap().contains("--vendored"));
    }
}
