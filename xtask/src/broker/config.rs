//! The text of every configuration file.
//!
//! Paths in them are relative to the node's folder, which is its working directory: Java reads property files as
//! Latin-1, and Kafka splits `log.dirs` at commas, so the path of somebody's checkout had better not be in them.

use super::layout::Cluster;
use super::security::{Users, listeners};

/// `server.properties` of one node, broker and controller at once; with the users of a secured one.
pub(crate) fn server_properties(cluster: &Cluster, id: u16, users: Option<&Users>) -> String {
    let port = cluster.port(id);
    let controller_port = cluster.controller_port(id);
    let partitions = cluster.partitions;
    let replication = cluster.nodes.min(3);
    // One node may die without producers at `acks=all` noticing.
    let in_sync = if replication == 3 { 2 } else { 1 };
    // A killed node cannot register again before its old session has ended, and tries once in a heartbeat: at Kafka's
    // own 9 s and 2 s a restart would take 12 s. Three nodes starve each other more than one does, so they wait longer.
    let (session_ms, heartbeat_ms) = if cluster.nodes == 1 { (3000, 500) } else { (6000, 1000) };
    let voters: Vec<String> =
        cluster.ids().iter().map(|id| format!("{id}@127.0.0.1:{}", cluster.controller_port(*id))).collect();
    let voters = voters.join(",");
    let (more_listeners, more_advertised, more_protocols, security) = match users {
        None => Default::default(),
        Some(users) => (
            listeners::listeners(cluster, id),
            listeners::advertised(cluster, id),
            listeners::protocols(),
            listeners::properties(users, "../security"),
        ),
    };
    format!(
        "\
# Written by `cargo xtask broker up`; edits are lost.
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more_listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more_advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{more_protocols}
inter.broker.listener.name=PLAINTEXT
log.dirs=data
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms={heartbeat_ms}

# Topics are made on purpose, so that a misspelt name is an error.
auto.create.topics.enable=false
num.partitions={partitions}
default.replication.factor={replication}
min.insync.replicas={in_sync}

# Kafka's own topics; 50 partitions each, the default, would only take time.
offsets.topic.replication.factor={replication}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4

# Consumers in tests should not wait for others to join.
group.initial.rebalance.delay.ms=0
{security}"
    )
}

/// Logging of a node: to the file named by the system property `kafka-batcher.log`, bounded, as soak tests are long.
pub(crate) const NODE_LOG4J2: &str = "\
# Written by `cargo xtask broker up`; edits are lost.
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:kafka-batcher.log}
appender.file.filePattern = ${sys:kafka-batcher.log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 32MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
";

/// Logging of a command-line tool: warnings, to stderr, since stdout is what the tool has to say.
pub(crate) const TOOL_LOG4J2: &str = "\
# Written by `cargo xtask broker`; edits are lost.
status = error
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
";

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: u16) -> Cluster {
        Cluster { id: "AAAAAAAAAAAAAAAAAAAAAA".into(), nodes, base_port: 19092, partitions: 7, secure: false }
    }

    fn value<'a>(properties: &'a str, key: &str) -> &'a str {
        let mut pairs = properties.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| *name == key).expect(key).1
    }

    #[test]
    fn a_single_node_replicates_nothing() {
        let text = server_properties(&cluster(1), 1, None);
        assert_eq!(value(&text, "listeners"), "PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19192");
        assert_eq!(value(&text, "controller.quorum.voters"), "1@127.0.0.1:19192");
        assert_eq!(value(&text, "num.partitions"), "7");
        assert_eq!(value(&text, "auto.create.topics.enable"), "false");
        for key in ["default.replication.factor", "min.insync.replicas", "offsets.topic.replication.factor"] {
            assert_eq!(value(&text, key), "1", "{key}");
        }
    }

    #[test]
    fn three_nodes_replicate_to_all_and_need_two() {
        let text = server_properties(&cluster(3), 3, None);
        assert_eq!(value(&text, "node.id"), "3");
        assert_eq!(value(&text, "advertised.listeners"), "PLAINTEXT://127.0.0.1:19094");
        assert_eq!(
            value(&text, "controller.quorum.voters"),
            "1@127.0.0.1:19192,2@127.0.0.1:19193,3@127.0.0.1:19194"
        );
        assert_eq!(value(&text, "default.replication.factor"), "3");
        assert_eq!(value(&text, "min.insync.replicas"), "2");
        assert_eq!(value(&text, "offsets.topic.replication.factor"), "3");
    }

    #[test]
    fn a_secured_node_listens_in_more_ways() {
        let text = server_properties(&cluster(1), 1, Some(&Users::random().unwrap()));
        assert!(value(&text, "listeners").contains(",SASL://127.0.0.1:19312,"));
        assert!(value(&text, "advertised.listeners").contains(",TLS://localhost:19292,"));
        assert!(value(&text, "listener.security.protocol.map").ends_with(",OTHER_HOST:SSL"));
        assert_eq!(value(&text, "inter.broker.listener.name"), "PLAINTEXT");
    }

    #[test]
    fn no_key_is_set_twice() {
        let secure = Cluster { secure: true, ..cluster(3) };
        let text = server_properties(&secure, 1, Some(&Users::random().unwrap()));
        let mut keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
