//! A Prometheus of our own: its own data, its own port, and a scrape a second.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::http;
use crate::error::{Context, Error, Result};
use crate::files;

const START: Duration = Duration::from_secs(60);

/// An instance and an alert; the instance is empty where the alert is of none.
pub(super) type Alert = (String, String);

#[derive(Debug)]
pub(super) struct Prometheus {
    child: Child,
    pub(super) address: String,
    folder: PathBuf,
    targets: BTreeMap<String, String>,
}

/// A series of the answer to a query: its labels, and its values with their times.
#[derive(Debug, Deserialize)]
pub(super) struct Series {
    pub(super) metric: BTreeMap<String, String>,
    /// Of a query over a time.
    #[serde(default)]
    pub(super) values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

impl Prometheus {
    /// Starts it with these rules, and waits until it answers.
    pub(super) fn start(folder: &Path, rules: &str) -> Result<Self> {
        files::create_dir_all(folder)?;
        files::write(&folder.join("rules.yml"), rules)?;
        files::write(&folder.join("targets.json"), "[]")?;
        files::write(&folder.join("prometheus.yml"), CONFIG)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.context(|| "no port is free")?.to_string();
        let log = File::create(folder.join("prometheus.log")).context(|| "cannot write prometheus.log")?;
        let child = Command::new("prometheus")
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context(|| "cannot run `prometheus`")?;
        let mut prometheus = Self { child, address, folder: folder.to_owned(), targets: BTreeMap::new() };
        let deadline = Instant::now() + START;
        while let Err(error) = http::get(&prometheus.address, "/-/ready") {
            let ended = prometheus.child.try_wait().context(|| "cannot wait for prometheus")?.is_some();
            if ended || Instant::now() > deadline {
                let said = files::read_lossy(&folder.join("prometheus.log"))?;
                return Err(Error::new(format!("prometheus does not start: {error}\n{said}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }

    /// Has it scrape this address as this instance from now on, or not any more.
    pub(super) fn target(&mut self, instance: &str, address: Option<&str>) -> Result<()> {
        match address {
            Some(address) => self.targets.insert(instance.to_owned(), address.to_owned()),
            None => self.targets.remove(instance),
        };
        let groups: Vec<_> = self
            .targets
            .iter()
            .map(|(instance, address)| serde_json::json!({"targets": [address], "labels": {"instance": instance}}))
            .collect();
        // It may look at any moment.
        let (new, file) = (self.folder.join("targets.new"), self.folder.join("targets.json"));
        files::write(&new, &serde_json::Value::from(groups).to_string())?;
        fs::rename(&new, &file).context(|| format!("cannot write {}", file.display()))
    }

    /// What it says now.
    pub(super) fn ask(&self, expr: &str) -> Result<Vec<Series>> {
        self.api(&format!("query?query={}", http::encoded(expr)))
    }

    /// What it said each second from then to then, in seconds since 1970.
    pub(super) fn ask_over(&self, expr: &str, from: f64, to: f64) -> Result<Vec<Series>> {
        let expr = http::encoded(expr);
        self.api(&format!("query_range?query={expr}&start={from:.3}&end={to:.3}&step=1"))
    }

    fn api(&self, query: &str) -> Result<Vec<Series>> {
        let text = http::get(&self.address, &format!("/api/v1/{query}"))?;
        let answer: Answer = serde_json::from_str(&text).context(|| "cannot read what Prometheus says")?;
        Ok(answer.data.result)
    }

    /// The alerts that are firing.
    pub(super) fn firing(&self) -> Result<BTreeSet<Alert>> {
        Ok(self.ask(FIRING)?.iter().map(alert).collect())
    }

    /// The alerts that were firing, and when.
    pub(super) fn fired(&self, from: f64, to: f64) -> Result<Vec<(Alert, Vec<f64>)>> {
        let series = self.ask_over(FIRING, from, to)?;
        Ok(series.iter().map(|one| (alert(one), one.values.iter().map(|(at, _)| *at).collect())).collect())
    }
}

const FIRING: &str = r#"ALERTS{alertstate="firing"}"#;

fn alert(series: &Series) -> Alert {
    let label = |name| series.metric.get(name).cloned().unwrap_or_default();
    (label("instance"), label("alertname"))
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nobody needs what it would write at an orderly end.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

const CONFIG: &str = "\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files:
  - rules.yml
scrape_configs:
  - job_name: kafka-batcher
    file_sd_configs:
      - files: [targets.json]
        refresh_interval: 1s
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"ALERTS","alertname":"A","instance":"main"},"values":[[1.5,"1"],[2.5,"1"]]},
            {"metric":{"alertname":"B"},"value":[1.5,"1"]}]}}"#;
        let answer: Answer = serde_json::from_str(text).unwrap();
        let alerts: Vec<_> = answer.data.result.iter().map(alert).collect();
        assert_eq!(alerts, [("main".to_owned(), "A".to_owned()), (String::new(), "B".to_owned())]);
        assert_eq!(answer.data.result[0].values[1], (2.5, "1".to_owned()));
    }
}
