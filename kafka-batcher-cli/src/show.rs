//! Shows how it goes while events flow, and says when Kafka goes away and comes back.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use kafka_batcher::KafkaBatcher;

use crate::console::Console;
use crate::feed::SoFar;
use crate::format::counted;
use crate::progress::{Line, Snapshot, Speedometer};

/// Time between two updates of the bar.
pub(crate) const BAR_PROGRESS: Duration = Duration::from_millis(100);
/// Time between two progress lines where there is no terminal.
pub(crate) const PLAIN_PROGRESS: Duration = Duration::from_secs(5);

/// What the progress display needs to know.
pub(crate) struct Shown<'a> {
    pub(crate) so_far: &'a Cell<SoFar>,
    pub(crate) console: &'a Console,
    pub(crate) start: Instant,
    pub(crate) interval: Option<Duration>,
    /// There is a spool.
    pub(crate) stores: bool,
    /// All events go through it, and it is no news when it is empty.
    pub(crate) journal: bool,
}

/// Shows how it goes, for ever, and says when Kafka goes away and comes back.
pub(crate) async fn show_progress(batcher: &KafkaBatcher, shown: Shown<'_>) -> Infallible {
    let Shown { so_far, console, start, interval, stores, journal } = shown;
    let mut speed = Speedometer::new(start);
    let mut connected = true;
    let mut away = false;
    // The most that was stored since nothing was.
    let mut kept = 0;
    let mut ticks = tokio::time::interval(BAR_PROGRESS);
    let mut shown = start;
    loop {
        ticks.tick().await;
        let stats = batcher.stats();
        if stats.connected != connected {
            connected = stats.connected;
            console.note(match (connected, stores) {
                (true, _) => "Kafka is back: what was kept is being sent",
                (false, false) => "Kafka is not to be reached: events are kept in memory until it is back",
                (false, true) => "Kafka is not to be reached: events are kept in the spool until it is back",
            });
            away |= !connected;
        }
        if stats.stored == 0 && kept > 0 {
            // With a journal all events are stored for a moment, and it is news only behind an outage.
            if std::mem::take(&mut away) || !journal {
                console
                    .note(format_args!("everything that was kept is in Kafka: {}", counted(kept, "event")));
            }
            kept = 0;
        }
        kept = kept.max(stats.stored);
        let SoFar { bytes, events, bad } = so_far.get();
        let now = Instant::now();
        let line = Line {
            bytes_per_second: speed.read(now, bytes),
            now: Snapshot {
                events,
                in_memory: stats.in_memory,
                stored: stats.stored,
                delivered: stats.delivered,
                errors: bad + stats.failures + stats.dead_lettered + stats.lost,
            },
        };
        match interval {
            Some(BAR_PROGRESS) => console.update_bar(bytes, &line),
            Some(interval) if now.duration_since(shown) >= interval => {
                shown = now;
                console.note(line);
            }
            _ => {}
        }
    }
}
