//! The listeners that a secured node has beside the plain ones.

use super::certificates::{AUTHORITY, BROKER, EXPIRED, OTHER_HOST};
use super::users::Users;
use crate::broker::layout::Cluster;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    Tls,
    /// Wants a certificate of the client.
    MutualTls,
    /// TLS, and a user and a password or a token.
    Sasl,
    /// The broker's certificate has expired.
    Expired,
    /// The broker's certificate is another host's.
    OtherHost,
}

impl Listener {
    pub(crate) const ALL: [Self; 5] =
        [Self::Tls, Self::MutualTls, Self::Sasl, Self::Expired, Self::OtherHost];

    fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::MutualTls => "MUTUAL_TLS",
            Self::Sasl => "SASL",
            Self::Expired => "EXPIRED",
            Self::OtherHost => "OTHER_HOST",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Self::Sasl => "SASL_SSL",
            _ => "SSL",
        }
    }

    /// File of the node's key and certificate.
    fn keystore(self) -> &'static str {
        match self {
            Self::Expired => EXPIRED,
            Self::OtherHost => OTHER_HOST,
            _ => BROKER,
        }
    }

    pub(crate) fn index(self) -> u16 {
        match self {
            Self::Tls => 0,
            Self::MutualTls => 1,
            Self::Sasl => 2,
            Self::Expired => 3,
            Self::OtherHost => 4,
        }
    }

    /// By name, as certificates are for names.
    pub(crate) fn endpoints(self, cluster: &Cluster) -> String {
        let addresses: Vec<String> = cluster
            .ids()
            .iter()
            .map(|id| format!("localhost:{}", cluster.listener_port(*id, self)))
            .collect();
        addresses.join(",")
    }
}

/// More of these for `listeners`.
pub(crate) fn listeners(cluster: &Cluster, id: u16) -> String {
    each(|listener| format!(",{}://127.0.0.1:{}", listener.name(), cluster.listener_port(id, listener)))
}

/// And for `advertised.listeners`.
pub(crate) fn advertised(cluster: &Cluster, id: u16) -> String {
    each(|listener| format!(",{}://localhost:{}", listener.name(), cluster.listener_port(id, listener)))
}

/// And for `listener.security.protocol.map`.
pub(crate) fn protocols() -> String {
    each(|listener| format!(",{}:{}", listener.name(), listener.protocol()))
}

/// The rest of a secured node's settings.
pub(crate) fn properties(users: &Users, folder: &str) -> String {
    const MODULES: &str = "org.apache.kafka.common.security";
    let mut text = format!(
        "
# Who comes in without a name, as other nodes and tests on the plain listener do, may do everything.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true

ssl.truststore.type=PEM
ssl.truststore.location={folder}/{AUTHORITY}
listener.name.mutual_tls.ssl.client.auth=required

listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required {};
listener.name.sasl.scram-sha-256.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;
# Without a validator of its own Kafka takes tokens that nobody has signed.
listener.name.sasl.oauthbearer.sasl.jaas.config={MODULES}.oauthbearer.OAuthBearerLoginModule required;
",
        users.jaas_options()
    );
    for listener in Listener::ALL {
        let prefix = format!("listener.name.{}.ssl.keystore", listener.name().to_lowercase());
        text.push_str(&format!("{prefix}.type=PEM\n{prefix}.location={folder}/{}\n", listener.keystore()));
    }
    text
}

fn each(of: impl Fn(Listener) -> String) -> String {
    Listener::ALL.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_listeners_share_a_port() {
        let cluster = Cluster { id: String::new(), nodes: 3, base_port: 19092, partitions: 4, secure: true };
        let mut ports: Vec<u16> = cluster.ids().iter().flat_map(|id| cluster.ports(*id)).collect();
        assert_eq!(ports.len(), 21, "two plain ones and five on each node");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 21);
        assert_eq!(
            Listener::MutualTls.endpoints(&cluster),
            "localhost:19302,localhost:19303,localhost:19304"
        );
    }

    #[test]
    fn each_listener_has_a_keystore_and_a_protocol() {
        let text = properties(&Users::random().unwrap(), "../security");
        assert!(text.contains("listener.name.expired.ssl.keystore.location=../security/expired.pem\n"));
        assert!(text.contains("listener.name.tls.ssl.keystore.location=../security/broker.pem\n"));
        assert_eq!(protocols(), ",TLS:SSL,MUTUAL_TLS:SSL,SASL:SASL_SSL,EXPIRED:SSL,OTHER_HOST:SSL");
    }
}
