//! Where everything lives: the files under `target/kafka`, and the record of the cluster that is there.
//!
//! ```text
//! target/kafka/
//!   jars/  jars.pom            resolved by Maven, and the pom they were resolved for
//!   cluster.conf  lock         what `up` made; held by commands that start or remove nodes
//!   log4j2-*.properties
//!   logs/node-1.log  .out      the node's log; its stdout and stderr (JVM errors)
//!   security/  security.json  keys, certificates and users of a secured cluster; what tests are told of them
//!   node-1/server.properties  kafka.pid  data/
//! ```

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::security::Listener;
use crate::error::{Context, Error, Result};
use crate::files::{create_dir_all, remove_dir_all, write};

/// Controllers listen this far above the clients' ports.
const CONTROLLER_OFFSET: u16 = 100;
/// And the listeners of a secured node this far, one ten above the other.
const SECURE_OFFSET: u16 = 200;

pub(crate) const DEFAULT_BASE_PORT: u16 = 19092;
pub(crate) const DEFAULT_PARTITIONS: u32 = 4;
/// Leaves room for the other ports above it.
pub(crate) const MAX_BASE_PORT: u16 = u16::MAX - 2 * SECURE_OFFSET;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    pom: PathBuf,
}

impl Layout {
    pub(crate) fn find() -> Result<Self> {
        let manifest = manifest();
        let workspace = manifest
            .parent()
            .ok_or_else(|| Error::new(format!("{} has no parent folder", manifest.display())))?
            .to_path_buf();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let target =
            std::path::absolute(&target).context(|| "cannot make the target folder's path absolute")?;
        Ok(Self { root: target.join("kafka"), pom: manifest.join("kafka").join("pom.xml") })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn pom(&self) -> &Path {
        &self.pom
    }

    pub(crate) fn jars(&self) -> PathBuf {
        self.root.join("jars")
    }

    pub(crate) fn jars_stamp(&self) -> PathBuf {
        self.root.join("jars.pom")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn node_dir(&self, id: u16) -> PathBuf {
        self.root.join(format!("node-{id}"))
    }

    pub(crate) fn node_log(&self, id: u16) -> PathBuf {
        self.logs().join(format!("node-{id}.log"))
    }

    pub(crate) fn node_output(&self, id: u16) -> PathBuf {
        self.logs().join(format!("node-{id}.out"))
    }

    pub(crate) fn security(&self) -> PathBuf {
        self.root.join("security")
    }

    /// What tests are told of a secured cluster.
    pub(crate) fn security_file(&self) -> PathBuf {
        self.security().join("security.json")
    }

    fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.conf")
    }

    /// Waits for other `cargo xtask broker` commands that start or remove nodes; held until dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        create_dir_all(&self.root)?;
        let path = self.root.join("lock");
        let file = File::create(&path).context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another `cargo xtask broker` to finish");
            file.lock().context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    pub(crate) fn load_cluster(&self) -> Result<Option<Cluster>> {
        let path = self.cluster_file();
        match fs::read_to_string(&path) {
            Ok(text) => Cluster::parse(&text).context(|| format!("cannot read {}", path.display())).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn save_cluster(&self, cluster: &Cluster) -> Result<()> {
        create_dir_all(&self.root)?;
        write(&self.cluster_file(), &cluster.render())
    }

    /// Removes data, configuration and the record of the cluster. The jars stay, and so do the logs, for whoever asks
    /// afterwards why a test failed; the next cluster starts with empty ones.
    pub(crate) fn remove_cluster(&self) -> Result<()> {
        let entries = fs::read_dir(&self.root).context(|| format!("cannot list {}", self.root.display()))?;
        for entry in entries {
            let entry = entry.context(|| format!("cannot list {}", self.root.display()))?;
            if entry.file_name().to_string_lossy().starts_with("node-") {
                remove_dir_all(&entry.path())?;
            }
        }
        remove_dir_all(&self.security())?;
        // Last, so that a removal that failed half way can be repeated.
        match fs::remove_file(self.cluster_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(|| format!("cannot remove {}", self.cluster_file().display()))
            }
            _ => Ok(()),
        }
    }
}

/// The folder of this crate, which holds the pom.
fn manifest() -> PathBuf {
    // Cargo sets it for `cargo xtask`, but for a test that calls this program it names the folder of the test's crate.
    // The compiled-in one serves there, and where the program is run by hand.
    let from_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    from_cargo
        .filter(|manifest| manifest.join("kafka").join("pom.xml").is_file())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// The shape of a cluster, from which every port, path and configuration follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Kafka's cluster id: 16 bytes in base64url. New for each set of data, as clients may remember it.
    pub(crate) id: String,
    pub(crate) nodes: u16,
    pub(crate) base_port: u16,
    pub(crate) partitions: u32,
    /// With listeners that want TLS and credentials, beside the plain one.
    pub(crate) secure: bool,
}

impl Cluster {
    /// Node ids count from 1, as people do.
    pub(crate) fn ids(&self) -> Vec<u16> {
        (1..=self.nodes).collect()
    }

    pub(crate) fn port(&self, id: u16) -> u16 {
        self.base_port + id - 1
    }

    pub(crate) fn controller_port(&self, id: u16) -> u16 {
        self.port(id) + CONTROLLER_OFFSET
    }

    pub(crate) fn listener_port(&self, id: u16, listener: Listener) -> u16 {
        self.port(id) + SECURE_OFFSET + 10 * listener.index()
    }

    /// All ports that a node listens on, that for clients first.
    pub(crate) fn ports(&self, id: u16) -> Vec<u16> {
        let mut ports = vec![self.port(id), self.controller_port(id)];
        if self.secure {
            ports.extend(Listener::ALL.into_iter().map(|listener| self.listener_port(id, listener)));
        }
        ports
    }

    pub(crate) fn bootstrap(&self) -> String {
        let addresses: Vec<String> =
            self.ids().iter().map(|id| format!("127.0.0.1:{}", self.port(*id))).collect();
        addresses.join(",")
    }

    fn render(&self) -> String {
        let Self { id, nodes, base_port, partitions, secure } = self;
        format!("id={id}\nnodes={nodes}\nbase_port={base_port}\npartitions={partitions}\nsecure={secure}\n")
    }

    fn parse(text: &str) -> Result<Self> {
        fn parsed<T: std::str::FromStr>(text: &str, key: &str) -> Result<T> {
            let value = field(text, key)?;
            value.parse().map_err(|_| Error::new(format!("`{key}={value}` is not in range")))
        }
        fn field<'a>(text: &'a str, key: &str) -> Result<&'a str> {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            let found = pairs.find(|(name, _)| *name == key);
            found.map(|(_, value)| value).ok_or_else(|| Error::new(format!("`{key}` is missing")))
        }
        let cluster = Self {
            id: field(text, "id")?.to_owned(),
            nodes: parsed(text, "nodes")?,
            base_port: parsed(text, "base_port")?,
            partitions: parsed(text, "partitions")?,
            // Not in what older versions wrote.
            secure: field(text, "secure").is_ok_and(|secure| secure == "true"),
        };
        if !matches!(cluster.nodes, 1 | 3) || cluster.base_port > MAX_BASE_PORT {
            return Err(Error::new(format!("{} nodes from port {}", cluster.nodes, cluster.base_port)));
        }
        Ok(cluster)
    }
}

/// A random cluster id. The standard library's only source of randomness is its hasher's keys, which is enough here.
pub(crate) fn random_cluster_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    encode_id((u128::from(random()) << 64) | u128::from(random()))
}

fn encode_id(bits: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // A leading `-` would be an option to Kafka's tools, and all zeros is a reserved id.
    let bits = (bits >> 1) | (1 << 120);
    // 21 digits of 6 bits, then the 2 bits that are left.
    let digit = |place: u32| if place < 21 { bits >> (122 - 6 * place) } else { bits << 4 } & 63;
    (0..22).map(|place| char::from(ALPHABET[digit(place) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster {
            id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
            nodes: 3,
            base_port: 19092,
            partitions: 4,
            secure: true,
        }
    }

    #[test]
    fn the_record_of_a_cluster_reads_back() {
        assert_eq!(Cluster::parse(&cluster().render()).unwrap(), cluster());
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_the_field() {
        let missing = Cluster::parse("id=x\nnodes=3\nbase_port=19092\n").unwrap_err();
        assert_eq!(missing.to_string(), "`partitions` is missing");
        let range = Cluster::parse("id=x\nnodes=3\nbase_port=190920\npartitions=4\n").unwrap_err();
        assert_eq!(range.to_string(), "`base_port=190920` is not in range");
        assert!(Cluster::parse("id=x\nnodes=2\nbase_port=19092\npartitions=4\n").is_err());
    }

    #[test]
    fn ports_and_bootstrap_follow_from_the_base_port() {
        assert_eq!(cluster().port(3), 19094);
        assert_eq!(cluster().controller_port(1), 19192);
        assert_eq!(cluster().bootstrap(), "127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094");
        let highest = Cluster { base_port: MAX_BASE_PORT, ..cluster() };
        assert!(highest.ports(3).iter().all(|port| *port >= highest.port(3)), "no overflow");
    }

    #[test]
    fn a_cluster_id_is_22_digits_and_no_option() {
        for bits in [0, 1, u128::MAX, u128::MAX << 1] {
            let id = encode_id(bits);
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
        }
        assert_ne!(random_cluster_id(), random_cluster_id());
    }
}
