//! The processes that Prometheus looks at.

use super::program::{Kind, Setup};

const fn produce(name: &'static str, options: &'static [&'static str], config: &'static str) -> Setup {
    Setup { name, kind: Kind::Produce { options, config } }
}

/// Nothing is special about it: it has to be silent while all is well.
pub(super) const MAIN: Setup = produce("main", &["--create-topic"], "");
/// Is killed in the middle of the outage, and its spool damaged before it is started again.
pub(super) const DOOMED: Setup = produce("doomed", &["--create-topic", "--spool-level", "os"], "");
/// Little room in the spool.
pub(super) const REJECT: Setup = produce(
    "reject",
    &["--create-topic", "--spool-level", "os", "--spool-quota", "16777216"],
    "on_storage_full = \"reject\"\n",
);
/// The same, and little in memory.
pub(super) const BLOCK: Setup = produce(
    "block",
    &["--create-topic", "--spool-level", "os", "--spool-quota", "16777216", "--memory-bytes", "4194304"],
    "on_storage_full = \"block\"\n",
);
/// A topic that takes small events only.
pub(super) const LETTERS: Setup = produce("letters", &["--spool-level", "os"], "");
/// An event waits six seconds for its batch to fill. With a batch from one partition or another each second, and not from
/// all of them every six.
pub(super) const SLOW: Setup = produce(
    "slow",
    &[
        "--create-topic",
        "--max-wait-time",
        "6000",
        "--partitions",
        "24",
        "--partition-strategy",
        "round_robin",
    ],
    "collect_by_partition = true\n",
);
/// A journal, on a disk that fails for a while: it notices at once.
pub(super) const DISK: Setup = produce("disk", &["--create-topic"], "durability = \"journal\"\n");
/// An application whose own partitioner panics.
pub(super) const OWN: Setup = Setup { name: "own", kind: Kind::OwnPartitioner };
/// A topic that somebody deletes.
pub(super) const STUCK: Setup = produce("stuck", &["--spool-level", "os"], "");
