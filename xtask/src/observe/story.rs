//! What happens in a run, in phases, and which alerts belong to each.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::prometheus::{Alert, Prometheus};
use crate::error::{Error, Result};
use crate::table::{Table, count};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Instances with their alerts.
pub(super) type Fires = &'static [(&'static str, &'static [&'static str])];

fn alerts(of: Fires) -> BTreeSet<Alert> {
    of.iter()
        .flat_map(|(instance, alerts)| {
            alerts.iter().map(|alert| ((*instance).to_owned(), (*alert).to_owned()))
        })
        .collect()
}

#[derive(Debug)]
struct Phase {
    name: &'static str,
    began: f64,
    /// Those that may fire in it, be it that they have to or that they are still firing or follow from it, too.
    allowed: BTreeSet<Alert>,
}

#[derive(Debug)]
pub(super) struct Story {
    pub(super) began: f64,
    phases: Vec<Phase>,
    /// In which phase an alert had to fire, and how many seconds after its condition was made it did.
    fired: BTreeMap<Alert, (&'static str, f64)>,
}

impl Story {
    pub(super) fn new() -> Self {
        Self { began: now(), phases: Vec::new(), fired: BTreeMap::new() }
    }

    /// A phase begins: something is about to be done to Kafka or a process. What may fire in it beside what has to.
    pub(super) fn phase(&mut self, name: &'static str, may: Fires) {
        eprintln!("{:5.1} s: {name}", now() - self.began);
        self.phases.push(Phase { name, began: now(), allowed: alerts(may) });
    }

    /// May fire in this phase, too.
    pub(super) fn may(&mut self, fires: Fires) {
        if let Some(phase) = self.phases.last_mut() {
            phase.allowed.extend(alerts(fires));
        }
    }

    /// Waits until all of these fire, whose condition has been made in this phase.
    pub(super) fn until(&mut self, prometheus: &Prometheus, fires: Fires, patience: Duration) -> Result<()> {
        let wanted = alerts(fires);
        let Some(phase) = self.phases.last_mut() else { return Err(Error::new("no phase has begun")) };
        phase.allowed.extend(wanted.iter().cloned());
        let deadline = Instant::now() + patience;
        loop {
            let firing = prometheus.firing()?;
            for alert in wanted.intersection(&firing) {
                self.fired.entry(alert.clone()).or_insert_with(|| (phase.name, now() - phase.began));
            }
            let missing: Vec<_> = wanted.iter().filter(|alert| !self.fired.contains_key(*alert)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!(
                    "{}: not firing within {} s: {}",
                    phase.name,
                    patience.as_secs(),
                    listed(missing)
                )));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until none fires any more but these.
    pub(super) fn until_quiet(&self, prometheus: &Prometheus, but: Fires, patience: Duration) -> Result<()> {
        let but = alerts(but);
        let deadline = Instant::now() + patience;
        loop {
            let firing = prometheus.firing()?;
            let left: Vec<_> = firing.difference(&but).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!(
                    "still firing after {} s: {}",
                    patience.as_secs(),
                    listed(left)
                )));
            }
            thread::sleep(LOOK);
        }
    }

    /// What fired where it does not belong.
    pub(super) fn complaints(&self, fired: &[(Alert, Vec<f64>)]) -> Vec<String> {
        let mut complaints = BTreeSet::new();
        for (alert, times) in fired {
            for at in times {
                let phase = self.phases.iter().rev().find(|phase| phase.began <= *at);
                if let Some(phase) = phase
                    && !phase.allowed.contains(alert)
                {
                    complaints.insert(format!("{}: {} fired and should not", phase.name, listed([alert])));
                }
            }
        }
        complaints.into_iter().collect()
    }

    /// Those of the rules whose condition nothing has made.
    pub(super) fn unfired(&self, all: &[String]) -> Vec<String> {
        let fired: BTreeSet<_> = self.fired.keys().map(|(_, name)| name).collect();
        let unfired = all.iter().filter(|name| !fired.contains(name));
        unfired.map(|name| format!("{name}: nothing has made it fire")).collect()
    }

    /// Alerts, with the instances and after how long they fired.
    pub(super) fn table(&self, all: &[String]) -> String {
        let mut table = Table::new(&["alert", "fired in", "after", "instances"]);
        for alert in all {
            let fired: Vec<_> = self.fired.iter().filter(|((_, name), _)| name == alert).collect();
            let Some((_, (phase, _))) = fired.first() else {
                table.row(&[alert, "-", "-", "-"]);
                continue;
            };
            let first = fired.iter().map(|(_, (_, after))| *after).fold(f64::INFINITY, f64::min);
            let instances: Vec<_> = fired.iter().map(|((instance, _), _)| instance.as_str()).collect();
            table.row(&[alert, phase, &format!("{first:.1} s"), &instances.join(" ")]);
        }
        table.render()
    }

    /// How many had to fire and did, on how many instances.
    pub(super) fn summary(&self) -> String {
        let names: BTreeSet<_> = self.fired.keys().map(|(_, name)| name).collect();
        format!("{} fired when they had to ({} in all)", count(names.len() as u64, "alert"), self.fired.len())
    }
}

fn listed<'a>(alerts: impl IntoIterator<Item = &'a Alert>) -> String {
    let texts: Vec<_> = alerts
        .into_iter()
        .map(
            |(instance, name)| {
                if instance.is_empty() { name.clone() } else { format!("{name} of {instance}") }
            },
        )
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(instance: &str, name: &str) -> Alert {
        (instance.to_owned(), name.to_owned())
    }

    #[test]
    fn an_alert_belongs_to_a_phase_or_is_complained_about() {
        let phase = |name, began, may| Phase { name, began, allowed: alerts(may) };
        let story = Story {
            began: 10.0,
            phases: vec![phase("healthy", 10.0, &[]), phase("outage", 20.0, &[("a", &["Down"])])],
            fired: BTreeMap::new(),
        };
        assert_eq!(story.complaints(&[(alert("a", "Down"), vec![20.0, 25.0])]), Vec::<String>::new());
        assert_eq!(
            story.complaints(&[
                (alert("a", "Down"), vec![19.0, 20.0]),
                (alert("b", "Down"), vec![21.0, 22.0])
            ]),
            ["healthy: Down of a fired and should not", "outage: Down of b fired and should not"]
        );
    }

    #[test]
    fn an_alert_that_nothing_made_fire_is_named() {
        let fired =
            BTreeMap::from([(alert("a", "Down"), ("outage", 3.25)), (alert("b", "Down"), ("outage", 2.0))]);
        let story = Story { began: 0.0, phases: Vec::new(), fired };
        let all = ["Down".to_owned(), "Panics".to_owned()];
        assert_eq!(story.unfired(&all), ["Panics: nothing has made it fire"]);
        let table = story.table(&all);
        assert!(table.contains("Down    outage    2.0 s  a b"), "{table}");
        assert!(table.contains("Panics  -"), "{table}");
        assert_eq!(story.summary(), "1 alert fired when they had to (2 in all)");
    }
}
