//! `cargo xtask test-matrix`: the test suite, once for each choice of features that makes a difference, on the embedded
//! broker, and on request against real Kafka, in every way into it.
//!
//! [`rows`] and [`sets`] work out what there is to run, by way of [`features`] and [`needs`], and [`stages`] on which
//! brokers; [`mod@run`] runs it, [`libtest`] reads what came of it, and [`report`] shows it.

mod features;
pub(crate) mod libtest;
mod needs;
mod report;
mod rows;
mod run;
mod sets;
mod stages;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::broker::{self, Session};
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{compilers, print};
use sets::Extent;
use stages::Stage;

#[derive(Debug, Args)]
pub(crate) struct Matrix {
    /// What tests that want a broker are run against; several with commas [default: embedded]
    #[arg(long, value_enum, value_delimiter = ',')]
    broker: Vec<Brokers>,
    /// Nodes of the Kafka cluster; 1,3 for one after the other [default: 1]
    #[arg(long, value_delimiter = ',', value_parser = broker::parse_nodes)]
    nodes: Vec<u16>,
    /// Ways into real Kafka beside the plain one, which adapters have to know: all, none, or names such as
    /// tls,scram_sha_256 [default: all, or none with --quick]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    security: Vec<String>,
    /// Only rows whose name (PACKAGE FEATURES SECURITY, as --list shows them) contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only the default features of each crate
    #[arg(long)]
    quick: bool,
    /// The whole product: each feature and each pair, one node and three, every way in. Takes an hour or more
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Also build OpenSSL and Kerberos from source, for the rows that want it
    #[arg(long)]
    vendored: bool,
    /// Longest time a row may take before it is ended and has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 1200, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Say what would run, and run nothing
    #[arg(long)]
    list: bool,
    /// Write the results there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Brokers {
    /// librdkafka's mock cluster, within the tests; or the one that KAFKA_BATCHER_BOOTSTRAP names
    Embedded,
    /// Real Apache Kafka on loopback (`cargo xtask broker`), for the tests that want a broker and only these
    Kafka,
}

impl Matrix {
    fn extent(&self) -> Extent {
        match (self.quick, self.full) {
            (true, _) => Extent::Quick,
            (false, true) => Extent::Full,
            (false, false) => Extent::Usual,
        }
    }

    fn brokers(&self) -> Vec<Brokers> {
        match (&self.broker[..], self.full) {
            ([], true) => vec![Brokers::Embedded, Brokers::Kafka],
            ([], false) => vec![Brokers::Embedded],
            (chosen, _) => chosen.to_vec(),
        }
    }

    fn nodes(&self) -> Vec<u16> {
        match (&self.nodes[..], self.full) {
            ([], true) => vec![1, 3],
            ([], false) => vec![1],
            (chosen, _) => chosen.to_vec(),
        }
    }
}

pub(crate) fn run(options: &Matrix) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let stages = stages::plan(&workspace, options)?;
    if stages.iter().all(|stage| stage.rows.is_empty()) {
        return Err(Error::new("there is no such row; `cargo xtask test-matrix --list` shows them all"));
    }
    if options.list {
        print(&report::list(&stages))?;
        return Ok(ExitCode::SUCCESS);
    }
    compilers::check()?;
    let mut results = Vec::new();
    for Stage { nodes, label, rows } in stages {
        if rows.is_empty() {
            continue;
        }
        let is_secured = rows.iter().any(|row| row.security.is_some() && row.blocked.is_none());
        let session = match nodes {
            None => None,
            Some(nodes) if is_secured => Some(Session::begin_secured(nodes)?),
            Some(nodes) => Some(Session::begin(nodes)?),
        };
        let runner = run::Runner::new(&workspace, session.as_ref(), &label, options.vendored)?;
        results.extend(runner.timeout(Duration::from_secs(options.timeout)).run(rows)?);
    }
    let report = report::Report::new(&results);
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    print(&report.render())?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
