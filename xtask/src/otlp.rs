//! `cargo xtask otlp`: the metrics of a scripted run, sent over OTLP to the OpenTelemetry collector.
//!
//! The collector is built from the Go modules pinned in `xtask/otlp`, with its OTLP receiver and an exporter that writes down
//! what was received. Each request has to add up by itself, and the last one has to say what the batcher says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::compilers::succeeds;
use crate::error::{Context, Error, Result};
use crate::print;
use crate::workspace::Workspace;

const PREFIX: &str = "prom_ex_kafka";
/// How long the collector may take to be there.
const START: Duration = Duration::from_secs(60);

/// What the batcher says of itself at the end.
#[derive(Debug, Deserialize)]
struct Own {
    accepted: f64,
    delivered: f64,
    dead_lettered: f64,
    retried: f64,
    rejected: f64,
}

pub(crate) fn run() -> Result<ExitCode> {
    if !succeeds("go", &["version"]) {
        return Err(Error::new(
            "there is no Go, which the OpenTelemetry collector is built with: https://go.dev/dl",
        ));
    }
    let workspace = Workspace::load()?;
    let folder = workspace.target.join("otlp");
    fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    let collector = build_collector(&workspace, &folder)?;
    let build = ["build", "--package", "kafka-batcher", "--features", "opentelemetry", "--example", "otlp"];
    let status = workspace.cargo().args(build).status().context(|| "cannot run cargo")?;
    if !status.success() {
        return Err(Error::new("the example `otlp` could not be built"));
    }
    let output = folder.join("received.jsonl");
    let mut collector = Collector::start(&collector, &output)?;
    let sent = Command::new(workspace.target.join("debug/examples/otlp"))
        .arg(format!("http://{}/v1/metrics", collector.address))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "cannot run the example `otlp`")?;
    if !sent.status.success() {
        return Err(Error::new(format!("the example `otlp` failed: {}", sent.status)));
    }
    let own: Own =
        serde_json::from_slice(&sent.stdout).context(|| "the example `otlp` printed no figures")?;
    collector.end()?;
    let received = fs::read_to_string(&output).context(|| format!("cannot read {}", output.display()))?;
    print(&check(&received, &own)?)?;
    Ok(ExitCode::SUCCESS)
}

fn build_collector(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let program = folder.join("collector");
    eprintln!("building the OpenTelemetry collector; the first time takes some minutes");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(workspace.root.join("xtask/otlp"))
        .stdin(Stdio::null())
        .status()
        .context(|| "cannot run go")?;
    if status.success() { Ok(program) } else { Err(Error::new("the collector could not be built")) }
}

/// A collector that is running. Killed when dropped.
struct Collector {
    child: Child,
    address: String,
}

impl Collector {
    fn start(program: &Path, output: &Path) -> Result<Self> {
        // Free a moment ago, at least.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.context(|| "no port is free")?.to_string();
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"{address}\"}}}}}}}}, exporters: {{stdout: {{}}}}, \
             service: {{pipelines: {{metrics: {{receivers: [otlp], exporters: [stdout]}}}}}}}}"
        );
        let output = File::create(output).context(|| format!("cannot write {}", output.display()))?;
        let child = Command::new(program)
            .arg(format!("--config={config}"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::inherit())
            .spawn()
            .context(|| "cannot run the collector")?;
        let mut collector = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(&collector.address).is_err() {
            if let Some(status) = collector.child.try_wait().context(|| "cannot wait for the collector")? {
                return Err(Error::new(format!("the collector ended: {status}")));
            }
            if began.elapsed() > START {
                return Err(Error::new(format!("the collector does not listen at {}", collector.address)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(collector)
    }

    /// It answers requests only when they are written down: nothing is left to wait for.
    fn end(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).context(|| "cannot end the collector")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end().unwrap_or_default();
    }
}

/// Every request adds up, and the last one says what the batcher says.
fn check(received: &str, own: &Own) -> Result<String> {
    let mut last = BTreeMap::new();
    let mut requests = 0;
    for line in received.lines() {
        let request: Value = serde_json::from_str(line).context(|| "the collector wrote no JSON")?;
        last = read(&request);
        let of = |name: &str| last.get(&format!("{PREFIX}_{name}")).map_or(0.0, |metric: &Metric| metric.sum);
        let came = of("events_accepted_total") + of("events_found_total");
        let went = of("events_delivered_total") + of("events_dead_lettered_total") + of("events_lost_total");
        let here = of("events_stored") + of("events_in_memory");
        if came != went + here {
            return Err(Error::new(format!("request {requests}: {came} came, {went} went, {here} are here")));
        }
        requests += 1;
    }
    if requests < 5 {
        return Err(Error::new(format!("only {requests} requests were received")));
    }
    for (name, expected) in [
        ("events_accepted_total", own.accepted),
        ("events_delivered_total", own.delivered),
        ("events_dead_lettered_total", own.dead_lettered),
        ("events_retried_total", own.retried),
        ("rejected_events_total", own.rejected),
        ("oversized_events_total", own.rejected),
        ("producer_batch_messages_count", own.delivered),
    ] {
        let sum = last.get(&format!("{PREFIX}_{name}")).map(|metric| metric.sum);
        if sum != Some(expected) {
            return Err(Error::new(format!("{name} was received as {sum:?}, and is {expected}")));
        }
    }
    let duration = last.get(&format!("{PREFIX}_producer_duration_seconds"));
    let bounds = duration.map(|metric| metric.bounds.clone()).unwrap_or_default();
    if bounds != [0.001, 0.002, 0.003, 0.004, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1] {
        return Err(Error::new(format!(
            "producer_duration_seconds was received with the buckets {bounds:?}"
        )));
    }
    let labels = duration.map(|metric| metric.labels.join(",")).unwrap_or_default();
    if labels != "partition,topic,topic_alias" {
        return Err(Error::new(format!("producer_duration_seconds was received with the labels {labels}")));
    }
    Ok(format!(
        "{requests} requests received, each adds up; {} metrics, the last figures are the batcher's: {own:?}\n",
        last.len()
    ))
}

#[derive(Debug, Default)]
struct Metric {
    /// Over all series.
    sum: f64,
    bounds: Vec<f64>,
    labels: Vec<String>,
}

/// What a request says of each metric.
fn read(request: &Value) -> BTreeMap<String, Metric> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for resource in list(request, "resourceMetrics") {
        for scope in list(&resource, "scopeMetrics") {
            for metric in list(&scope, "metrics") {
                let entry =
                    metrics.entry(metric["name"].as_str().unwrap_or_default().to_owned()).or_default();
                let data = ["sum", "gauge", "histogram"].map(|kind| list(&metric[kind], "dataPoints"));
                for point in data.into_iter().flatten() {
                    let value = ["asInt", "asDouble", "sum"].iter().find_map(|key| number(&point[key]));
                    entry.sum += value.unwrap_or_default();
                    entry.bounds = list(&point, "explicitBounds").iter().filter_map(number).collect();
                    entry.labels = list(&point, "attributes")
                        .iter()
                        .filter_map(|attribute| attribute["key"].as_str().map(str::to_owned))
                        .collect();
                    entry.labels.sort();
                }
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(delivered: u32) -> String {
        let sum = |name: &str, value: u32| {
            format!(
                r#"{{"name":"{PREFIX}_{name}","sum":{{"dataPoints":[{{"asInt":"{value}","attributes":[{{"key":"topic"}}]}}]}}}}"#
            )
        };
        let metrics = [sum("events_accepted_total", 7), sum("events_delivered_total", delivered)].join(",");
        format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#)
    }

    #[test]
    fn a_request_that_does_not_add_up_is_found() {
        let own = Own { accepted: 7.0, delivered: 7.0, dead_lettered: 0.0, retried: 0.0, rejected: 0.0 };
        let said = |lines: &[String]| check(&lines.join("\n"), &own).unwrap_err().to_string();
        assert!(said(&[line(7), line(6)]).contains("7 came, 6 went"));
        assert!(said(&[line(7)]).contains("only 1"));
        let all = vec![line(7); 5];
        assert!(said(&all).contains("events_dead_lettered_total"), "{}", said(&all));
    }
}
