//! `cargo xtask test-matrix`: the test suite, once for each choice of features that makes a difference, and on request
//! against real Kafka.
//!
//! [`rows`] works out what there is to run, by way of [`features`] and [`needs`]; [`mod@run`] runs it, [`libtest`] reads what
//! came of it, and [`report`] shows it.

mod features;
pub(crate) mod libtest;
mod needs;
mod report;
mod rows;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::broker::{self, Session};
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use crate::{compilers, print};
use features::Choice;
use rows::{Row, What};

#[derive(Debug, Args)]
pub(crate) struct Matrix {
    /// What tests that want a broker are run against
    #[arg(long, value_enum, default_value_t = Brokers::Embedded)]
    broker: Brokers,
    /// Nodes of the Kafka cluster
    #[arg(long, default_value_t = 1, value_parser = broker::parse_nodes)]
    nodes: u16,
    /// Only rows whose name (PACKAGE FEATURES, as --list shows them) contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only the default features of each crate
    #[arg(long)]
    quick: bool,
    /// Also build OpenSSL and Kerberos from source, for the rows that want it
    #[arg(long)]
    vendored: bool,
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

pub(crate) fn run(options: &Matrix) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let kafka = options.broker == Brokers::Kafka;
    let rows: Vec<Row> = rows::all(&workspace)?
        .into_iter()
        // With them it is the same client that talks to Kafka, compiled another way.
        .filter(|row| !kafka || !matches!(row.choice, Choice::With(_)))
        .filter(|row| !kafka || (row.what == What::Test && row.wants_broker))
        .filter(|row| !options.quick || row.choice == Choice::Default)
        .filter(|row| options.only.is_empty() || options.only.iter().any(|text| row.name().contains(text)))
        .collect();
    if rows.is_empty() {
        return Err(Error::new("there is no such row; `cargo xtask test-matrix --list` shows them all"));
    }
    if options.list {
        print(&report::list(&rows, &label(kafka.then_some(options.nodes))))?;
        return Ok(ExitCode::SUCCESS);
    }
    compilers::check()?;
    let session = if kafka { Some(Session::begin(options.nodes)?) } else { None };
    let label = label(session.as_ref().and_then(Session::nodes));

    let runner = run::Runner::new(&workspace, session.as_ref(), &label, options.vendored)?;
    let results = runner.run(rows)?;
    drop(session);
    let report = report::Report::new(&results);
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    print(&report.render())?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the table calls the broker of tests that want one.
fn label(nodes: Option<u16>) -> String {
    match (nodes, broker::own_cluster()) {
        (_, Some(_)) => "own".to_owned(),
        (Some(nodes), None) => format!("kafka x{nodes}"),
        (None, None) => "embedded".to_owned(),
    }
}
