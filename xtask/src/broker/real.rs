//! Tests on a cluster that runs; `cargo xtask test-matrix --broker kafka` has one.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::layout::Layout;
use super::leader::{self, Move, Which};
use super::node::Node;
use super::security::Listener;
use super::{CTL, Patience, admin, local_cluster, metadata, ready, some_running};

/// The layout, if the matrix has said that a cluster of ours runs.
fn cluster(test: &str) -> Option<Layout> {
    if std::env::var_os(CTL).is_none() {
        println!("SKIPPED {test}: {CTL} is not set");
        return None;
    }
    Some(Layout::find().unwrap())
}

#[test]
fn the_leader_moves_to_each_node_in_turn() {
    let Some(layout) = cluster("the_leader_moves_to_each_node_in_turn") else { return };
    let (cluster, nodes) = local_cluster(&layout).unwrap();
    let running: Vec<&Node> = some_running(&nodes).unwrap();
    let topic = format!("moves-{}", std::process::id());
    let deadline = Instant::now() + Duration::from_secs(60);
    admin::create_topic(running[0].port(), &topic).unwrap();
    ready::wait_for_topic(&running, &topic, deadline).unwrap();
    let which = || Which::new(&topic, 0);
    let next = || leader::move_to(&running, &Move::new(which(), None, Patience { timeout: 60 }), deadline);
    if cluster.nodes == 1 {
        assert!(next().unwrap_err().to_string().starts_with("no other node could lead"));
        return;
    }
    let before = leader::find(&running, &which()).unwrap();
    let mut seen: Vec<i32> = (0..3).map(|_| next().unwrap()).collect();
    assert_eq!(seen.last(), Some(&before), "round and back");
    for node in &running {
        assert_eq!(leader::find(&[node], &which()).unwrap(), before);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn a_secured_node_says_nothing_without_tls() {
    let test = "a_secured_node_says_nothing_without_tls";
    let Some(layout) = cluster(test) else { return };
    let (cluster, nodes) = local_cluster(&layout).unwrap();
    if !cluster.secure {
        println!("SKIPPED {test}: the cluster is not secured");
        return;
    }
    for node in &nodes {
        metadata::fetch(node.port()).unwrap();
        for listener in Listener::ALL {
            let port = cluster.listener_port(node.id, listener);
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            assert!(metadata::fetch(port).is_err(), "{listener:?}");
        }
    }
}
