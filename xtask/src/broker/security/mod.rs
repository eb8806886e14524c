//! A cluster that has to be talked into letting one in: TLS, mutual TLS, SASL, and rights.
//!
//! Keys, certificates, users and tokens are made for each cluster, under `target/`; [`mod@file`] says what tests are told of
//! them. [`listeners`] has the ways in, beside the plain one that nodes use among themselves.

mod certificates;
mod file;
pub(crate) mod listeners;
mod users;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::layout::{Cluster, Layout};
use super::node::Node;
use super::{admin, ready};
use crate::error::{Context, Error, Result};
use crate::files;
pub(crate) use listeners::Listener;
pub(crate) use users::Users;

/// Tests find the file by it.
pub(crate) const FILE: &str = "KAFKA_BATCHER_SECURITY";
/// Which of the file's rows tests are to use.
pub(crate) const ROW: &str = "KAFKA_BATCHER_SECURITY_ROW";

/// The secrets of a cluster, and where its files are.
pub(crate) struct Security {
    pub(crate) users: Users,
    folder: PathBuf,
}

impl Security {
    /// Those of the cluster that is there, or new ones.
    pub(crate) fn ensure(layout: &Layout) -> Result<Self> {
        let folder = layout.security();
        let users_file = folder.join("users.json");
        if users_file.exists() {
            return Self::load(layout);
        }
        files::create_private_dir(&folder)?;
        certificates::write(&folder)?;
        let users = Users::random()?;
        let text = serde_json::to_string(&users).context(|| "cannot write JSON")?;
        // Last: with it, all are there.
        files::write_private(&users_file, &text)?;
        Ok(Self { users, folder })
    }

    pub(crate) fn load(layout: &Layout) -> Result<Self> {
        let folder = layout.security();
        let file = folder.join("users.json");
        let users = serde_json::from_str(&files::read(&file)?);
        // Without what serde says, as that may quote the file.
        let users = users.map_err(|_| Error::new(format!("{} is damaged", file.display())))?;
        Ok(Self { users, folder })
    }

    /// Writes the file for tests, anew with each start, as the ports may be others.
    pub(crate) fn write_file(&self, layout: &Layout, cluster: &Cluster) -> Result<()> {
        files::write_private(&layout.security_file(), &file::render(cluster, &self.users, &self.folder)?)
    }
}

/// Sets the rights, once the cluster works; does nothing if they are.
pub(crate) fn prepare(nodes: &[&Node], deadline: Instant) -> Result<()> {
    let Some(node) = nodes.first() else { return Ok(()) };
    let known = super::metadata::fetch(node.port())?;
    if known.partitions.iter().any(|partition| partition.topic == users::FORBIDDEN) {
        return Ok(());
    }
    // As soon as there is a rule about a topic, what no rule allows is denied.
    let rules = [admin::Rule::AllowAllToEverybody, admin::Rule::DenyWriteTo(users::LIMITED)];
    admin::create_acls(node.port(), users::FORBIDDEN, &rules)?;
    // After the rules in the cluster's log: a node that knows the topic knows them.
    admin::create_topic(node.port(), users::FORBIDDEN)?;
    ready::wait_for_topic(nodes, users::FORBIDDEN, deadline)
}

/// The names of the rows in such a file, in order.
pub(crate) fn rows(file: &Path) -> Result<Vec<String>> {
    file::rows(&files::read(file)?).context(|| format!("cannot read {}", file.display()))
}

/// The rows of a cluster of ours.
pub(crate) fn known_rows() -> impl Iterator<Item = &'static str> {
    file::ROWS.iter().copied()
}
