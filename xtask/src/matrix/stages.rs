//! The rows by the broker they run on: the embedded one, and each cluster of real Kafka.

use super::rows::{self, Row};
use super::sets::Extent;
use super::{Brokers, Matrix};
use crate::broker;
use crate::error::{Error, Result};
use crate::workspace::Workspace;

const ALL: &str = "all";
const NONE: &str = "none";

#[derive(Debug)]
pub(crate) struct Stage {
    /// Of real Kafka; none for the embedded broker.
    pub(crate) nodes: Option<u16>,
    /// What the table calls the broker.
    pub(crate) label: String,
    pub(crate) rows: Vec<Row>,
}

pub(crate) fn plan(workspace: &Workspace, options: &Matrix) -> Result<Vec<Stage>> {
    let extent = options.extent();
    let mut stages = Vec::new();
    for broker in options.brokers() {
        match broker {
            Brokers::Embedded => {
                stages.push(Stage { nodes: None, label: label(None), rows: rows::all(workspace, extent)? });
            }
            Brokers::Kafka => {
                for nodes in options.nodes() {
                    let mut rows = rows::on_kafka(rows::all(workspace, extent)?, extent);
                    rows.append(&mut secured(workspace, options)?);
                    stages.push(Stage { nodes: Some(nodes), label: label(Some(nodes)), rows });
                }
            }
        }
    }
    if !options.brokers().contains(&Brokers::Kafka) && asked(&options.security) {
        return Err(Error::new("the embedded broker has neither TLS nor SASL; add `--broker kafka`"));
    }
    let only = &options.only;
    for stage in &mut stages {
        stage.rows.retain(|row| only.is_empty() || only.iter().any(|text| row.name().contains(text)));
    }
    Ok(stages)
}

/// Whether secured rows were asked for in so many words.
fn asked(names: &[String]) -> bool {
    names.iter().any(|name| name != NONE)
}

fn secured(workspace: &Workspace, options: &Matrix) -> Result<Vec<Row>> {
    let default = if options.extent() == Extent::Quick { NONE } else { ALL }.to_owned();
    let names = if options.security.is_empty() { std::slice::from_ref(&default) } else { &options.security };
    let (known, blocked) = match broker::ways_in()? {
        Ok(ways) => (ways, None),
        // Whoever asks for it gets the error of the cluster; for others it is left out, and told.
        Err(why) => (broker::known_ways(), Some(why)),
    };
    let ways = choose(names, &known)?;
    if let Some(why) = blocked.as_ref().filter(|_| asked(&options.security) && !ways.is_empty()) {
        return Err(Error::new(why.clone()));
    }
    let mut rows = rows::secured(workspace, &ways)?;
    for row in &mut rows {
        row.blocked.clone_from(&blocked);
    }
    Ok(rows)
}

/// The ways in that these names stand for.
fn choose(names: &[String], known: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) =
        names.iter().find(|name| ![ALL, NONE].contains(&name.as_str()) && !known.contains(name))
    {
        return Err(Error::new(format!(
            "there is no way in called {unknown}, but {ALL}, {NONE}, {}",
            known.join(", ")
        )));
    }
    let is_chosen = |way: &&String| names.iter().any(|name| name == ALL || name == *way);
    Ok(known.iter().filter(is_chosen).cloned().collect())
}

fn label(nodes: Option<u16>) -> String {
    match (nodes, broker::own_cluster()) {
        (_, Some(_)) => "own".to_owned(),
        (Some(nodes), None) => format!("kafka x{nodes}"),
        (None, None) => "embedded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> std::result::Result<Vec<String>, String> {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        choose(&list(names), &list(&["tls", "sasl_plain"])).map_err(|error| error.to_string())
    }

    #[test]
    fn ways_in_are_chosen_by_name() {
        assert_eq!(chosen(&["all"]).unwrap(), ["tls", "sasl_plain"]);
        assert_eq!(chosen(&["none"]).unwrap(), Vec::<String>::new());
        assert_eq!(chosen(&["sasl_plain"]).unwrap(), ["sasl_plain"]);
        assert!(chosen(&["tsl"]).unwrap_err().ends_with("called tsl, but all, none, tls, sasl_plain"));
    }

    #[test]
    fn no_way_in_has_to_be_asked_for() {
        assert!(!asked(&[]) && !asked(&["none".to_owned()]) && asked(&["tls".to_owned()]));
    }
}
