//! Bringing a cluster up: working out which, starting what is missing of it, and waiting for it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use super::layout::{self, Cluster, Layout};
use super::node::Node;
use super::process::{Signal, State};
use super::security::{self, Security, Users};
use super::{BOOTSTRAP, Up, config, java, maven, nodes_of, own_cluster, own_security, ready};
use crate::error::{Context, Error, Result};
use crate::{files, print};

/// Clears the ports of another cluster, controllers included, after a few steps.
const PORT_STEP: usize = 10;
const PORT_TRIES: usize = 100;

pub(crate) fn up(layout: &Layout, options: &Up) -> Result<ExitCode> {
    let bootstrap = match own_cluster() {
        Some(bootstrap) => {
            match own_security() {
                None if options.secure => {
                    return Err(Error::new(format!(
                        "{BOOTSTRAP} is set, and {} is not: nothing is known of that cluster's security",
                        security::FILE
                    )));
                }
                None => {}
                Some(file) => print(&format!("{}={}\n", security::FILE, file.display()))?,
            }
            eprintln!("{BOOTSTRAP} is set: using the cluster at {bootstrap}, and starting none");
            bootstrap
        }
        None => {
            let cluster = bring_up(layout, options)?.cluster;
            if cluster.secure {
                print(&format!("{}={}\n", security::FILE, layout.security_file().display()))?;
            }
            cluster.bootstrap()
        }
    };
    print(&format!("{BOOTSTRAP}={bootstrap}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A cluster all of whose nodes run and work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) cluster: Cluster,
    /// Whether a node of it ran before.
    pub(crate) was_alive: bool,
}

/// Starts what is missing, and waits until the cluster works.
pub(crate) fn bring_up(layout: &Layout, options: &Up) -> Result<Running> {
    let began = Instant::now();
    let deadline = options.patience.deadline();
    let _lock = layout.lock()?;
    let recorded = layout.load_cluster()?;
    let alive = recorded
        .as_ref()
        .is_some_and(|cluster| nodes_of(layout, cluster).iter().any(|node| node.look().state != State::Dead));
    let cluster = shape(recorded.as_ref(), alive, options, free_base_port)?;
    let nodes = nodes_of(layout, &cluster);

    for node in nodes.iter().filter(|node| node.look().state == State::Stopped) {
        eprintln!("node {} was stopped, and goes on", node.id);
        node.signal(Signal::Cont)?;
    }
    let missing: Vec<&Node> = nodes.iter().filter(|node| node.look().state == State::Dead).collect();
    if missing.is_empty() {
        ready::wait(&nodes.iter().collect::<Vec<_>>(), deadline)?;
        eprintln!("already up: {}", describe(&cluster));
    } else {
        start(layout, &cluster, &missing, alive)?;
        if let Err(error) = ready::wait(&nodes.iter().collect::<Vec<_>>(), deadline) {
            // Half a cluster would only be in the way of the next attempt.
            for node in missing.iter().filter(|node| node.look().state != State::Dead) {
                node.signal(Signal::Kill)?;
            }
            return Err(error);
        }
        if cluster.secure {
            security::prepare(&nodes.iter().collect::<Vec<_>>(), deadline)?;
        }
        eprintln!("up after {:.1} s: {}", began.elapsed().as_secs_f64(), describe(&cluster));
    }
    Ok(Running { cluster, was_alive: alive })
}

/// What `up` is to bring up: what was asked for, and for the rest what there is. Refuses what would need `down` first.
fn shape(
    recorded: Option<&Cluster>,
    alive: bool,
    options: &Up,
    free_base_port: fn(u16) -> u16,
) -> Result<Cluster> {
    let Some(recorded) = recorded else {
        let nodes = options.nodes.unwrap_or(1);
        return Ok(Cluster {
            id: layout::random_cluster_id(),
            nodes,
            base_port: options.base_port.unwrap_or_else(|| free_base_port(nodes)),
            partitions: options.partitions.unwrap_or(layout::DEFAULT_PARTITIONS),
            secure: options.secure,
        });
    };
    let wanted = Cluster {
        id: recorded.id.clone(),
        nodes: options.nodes.unwrap_or(recorded.nodes),
        base_port: options.base_port.unwrap_or(recorded.base_port),
        partitions: options.partitions.unwrap_or(recorded.partitions),
        secure: options.secure || recorded.secure,
    };
    // Kept data may move to other ports, but a node more or less is another quorum, and users are made with the data.
    if wanted.nodes != recorded.nodes || wanted.secure != recorded.secure || (alive && wanted != *recorded) {
        let what = if alive { "running" } else { "here, with its data" };
        return Err(Error::new(format!(
            "another cluster is {what}: {}. Remove it first with `cargo xtask broker down`",
            describe(recorded)
        )));
    }
    Ok(wanted)
}

/// The usual ports, or others if a cluster of another checkout has them.
fn free_base_port(nodes: u16) -> u16 {
    let is_free = |base_port: &u16| {
        let cluster =
            Cluster { id: String::new(), nodes, base_port: *base_port, partitions: 0, secure: true };
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        cluster.ids().iter().flat_map(|id| cluster.ports(*id)).all(free)
    };
    let mut candidates =
        (layout::DEFAULT_BASE_PORT..layout::MAX_BASE_PORT).step_by(PORT_STEP).take(PORT_TRIES);
    // If there is none, the start of the nodes says which port is in the way.
    candidates.find(is_free).unwrap_or(layout::DEFAULT_BASE_PORT)
}

fn describe(cluster: &Cluster) -> String {
    let Cluster { nodes, base_port, partitions, secure, .. } = cluster;
    let s = if *nodes == 1 { "" } else { "s" };
    let secured = if *secure { "secured, " } else { "" };
    format!("{secured}{nodes} node{s} from port {base_port}, {partitions} partitions by default")
}

/// Starts these nodes of the cluster, on their data if they have any.
pub(crate) fn start(layout: &Layout, cluster: &Cluster, nodes: &[&Node], others_alive: bool) -> Result<()> {
    let java = java::find()?;
    maven::ensure_jars(layout)?;
    for node in nodes {
        node.check_ports()?;
    }
    let (new, kept): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| !node.is_formatted());
    if !others_alive && kept.is_empty() {
        files::remove_dir_all(&layout.logs())?;
    }
    files::create_dir_all(&layout.logs())?;
    files::write(&layout.root().join("log4j2-node.properties"), config::NODE_LOG4J2)?;
    layout.save_cluster(cluster)?;
    let security = if cluster.secure { Some(Security::ensure(layout)?) } else { None };
    if let Some(security) = &security {
        security.write_file(layout, cluster)?;
    }
    let users = security.as_ref().map(|security| &security.users);
    for node in nodes {
        node.write_config(cluster, users)?;
    }
    format(&java, cluster, users, &new)?;
    // A single node is also what benchmarks run against; three have to share the machine with the tests.
    let heap = if cluster.nodes == 1 { "384m" } else { "320m" };
    for node in nodes {
        node.start(&java, heap)?;
    }
    Ok(())
}

/// All at once: most of the time is the start of a JVM.
fn format(java: &Path, cluster: &Cluster, users: Option<&Users>, nodes: &[&Node]) -> Result<()> {
    let mut children = Vec::new();
    for node in nodes {
        children.push((node, node.format(java, cluster, users)));
    }
    // Every child that did start is waited for, whatever became of the others.
    let mut outcome = Ok(());
    for (node, child) in children {
        let status =
            child.and_then(|mut child| child.wait().context(|| "cannot wait for the formatting tool"));
        outcome = outcome.and(match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let words = node.last_words();
                Err(Error::new(format!("formatting the data of node {} failed ({status}){words}", node.id)))
            }
            Err(error) => Err(error),
        });
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Patience;

    const TIMEOUT: Patience = Patience { timeout: 1 };

    fn usual(_nodes: u16) -> u16 {
        19092
    }

    fn recorded() -> Cluster {
        Cluster {
            id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
            nodes: 3,
            base_port: 29092,
            partitions: 7,
            secure: false,
        }
    }

    fn options(nodes: Option<u16>, base_port: Option<u16>) -> Up {
        Up { nodes, partitions: None, base_port, secure: false, patience: TIMEOUT }
    }

    #[test]
    fn a_new_cluster_has_the_defaults() {
        let cluster = shape(None, false, &options(None, None), usual).unwrap();
        assert_eq!((cluster.nodes, cluster.base_port, cluster.partitions), (1, 19092, 4));
    }

    #[test]
    fn a_taken_port_is_left_alone() {
        let base_port = free_base_port(3);
        // Or else somebody has just taken it, which is as good.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, base_port + 2));
        assert_ne!(free_base_port(3), base_port);
        drop(taken);
    }

    #[test]
    fn what_is_not_asked_for_stays_as_it_was() {
        assert_eq!(shape(Some(&recorded()), true, &options(None, None), usual).unwrap(), recorded());
        assert_eq!(shape(Some(&recorded()), true, &options(Some(3), None), usual).unwrap(), recorded());
    }

    #[test]
    fn a_running_cluster_is_not_reshaped_but_kept_data_may_move() {
        let error = shape(Some(&recorded()), true, &options(Some(1), None), usual).unwrap_err().to_string();
        assert!(error.contains("3 nodes from port 29092") && error.contains("broker down"), "{error}");
        assert!(shape(Some(&recorded()), true, &options(None, Some(39092)), usual).is_err());
        assert!(shape(Some(&recorded()), false, &options(Some(1), None), usual).is_err());
        let moved = shape(Some(&recorded()), false, &options(None, Some(39092)), usual).unwrap();
        assert_eq!(moved, Cluster { base_port: 39092, ..recorded() });
    }

    #[test]
    fn a_cluster_is_not_secured_later_and_stays_secured() {
        let secured = || Up { secure: true, ..options(None, None) };
        assert!(shape(None, false, &secured(), usual).unwrap().secure);
        for alive in [true, false] {
            assert!(shape(Some(&recorded()), alive, &secured(), usual).is_err());
            let recorded = Cluster { secure: true, ..recorded() };
            assert!(shape(Some(&recorded), alive, &options(None, None), usual).unwrap().secure);
        }
    }
}
