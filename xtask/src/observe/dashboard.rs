//! What the dashboard asks for.

use serde_json::Value;

use super::shorter;
use crate::error::{Context, Error, Result};

/// One query of a panel, of a variable or of the annotations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// The panel.
    pub(super) of: String,
    pub(super) expr: String,
}

/// All queries, with the variables replaced by all there is, and durations as short as the alerts'.
pub(super) fn queries(json: &str) -> Result<Vec<Query>> {
    let dashboard: Value = serde_json::from_str(json).context(|| "the dashboard is no JSON")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    let mut add = |of: &Value, expr: &Value| {
        if let (Some(of), Some(expr)) = (of.as_str(), expr.as_str()) {
            queries.push(Query { of: of.to_owned(), expr: substituted(expr) });
        }
    };
    for panel in list(&dashboard["panels"]) {
        list(&panel["targets"]).iter().for_each(|target| add(&panel["title"], &target["expr"]));
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        add(&annotation["name"], &annotation["expr"]);
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let values = variable["definition"].as_str().and_then(|text| text.strip_prefix("label_values("));
        if let Some((selector, label)) = values.and_then(|text| text.strip_suffix(')')?.rsplit_once(", ")) {
            add(&variable["name"], &format!("count by ({label}) ({selector})").into());
        }
    }
    if let Some(query) = queries.iter().find(|query| query.expr.contains('$')) {
        return Err(Error::new(format!("{}: a variable is left in {}", query.of, query.expr)));
    }
    Ok(queries)
}

fn substituted(expr: &str) -> String {
    let expr = expr.replace("$__rate_interval", "10s").replace("$instance", ".+").replace("$topic", ".+");
    shorter::durations(&expr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_annotations_and_variables_ask() {
        let json = r#"{
            "panels": [{"title": "row"}, {"title": "a", "targets": [{"expr": "rate(x{instance=~\"$instance\"}[$__rate_interval])"}, {"expr": "deriv(y[15m])"}]}],
            "annotations": {"list": [{"name": "alerts", "expr": "ALERTS"}]},
            "templating": {"list": [{"name": "topic", "definition": "label_values(z{instance=~\"$instance\"}, topic)"}]}
        }"#;
        let found: Vec<_> = queries(json).unwrap().into_iter().map(|query| (query.of, query.expr)).collect();
        let expected = [
            ("a", "rate(x{instance=~\".+\"}[10s])"),
            ("a", "deriv(y[15s])"),
            ("alerts", "ALERTS"),
            ("topic", "count by (topic) (z{instance=~\".+\"})"),
        ];
        assert_eq!(found, expected.map(|(of, expr)| (of.to_owned(), expr.to_owned())));
    }

    #[test]
    fn a_variable_nobody_knows_is_an_error() {
        let json = r#"{"panels": [{"title": "a", "targets": [{"expr": "x{job=\"$job\"}"}]}]}"#;
        assert!(queries(json).unwrap_err().to_string().contains("a variable is left"));
    }
}
