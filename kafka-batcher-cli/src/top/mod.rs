//! `kafka-batcher top`: what a running batcher is doing, live in the terminal.
//!
//! ```text
//!   GET /metrics ──▶ text ──▶ reading ──▶ watch ──▶ draw ──▶ screen
//!      http         samples   figures     rates,    picture  terminal,
//!                                         times              keys
//! ```
//!
//! From `text` to `draw` nothing knows the time, the network or the terminal.

mod draw;
mod http;
mod reading;
mod screen;
mod text;
mod watch;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::time::Instant;

use self::draw::{Palette, Surroundings, draw};
use self::http::Target;
use self::reading::Reading;
use self::screen::{Key, Screen};
use self::watch::Watch;
use crate::console::Console;
use crate::report::{NOT_DELIVERED, OK, UNUSABLE};
use crate::signals::Stop;
use crate::{Failure, args};

/// The times between two readings that `+` and `-` go through.
const INTERVALS: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// What is printed where there is no terminal.
const PLAIN_WIDTH: u16 = 132;
const PLAIN_HEIGHT: u16 = 60;

/// Watch a running batcher: connection, memory, spool, topics with their rates and lanes, errors
///
/// It reads the metrics of `produce --listen`, or of any application that serves those of this library.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit code:
  0    it was left with q or Ctrl-C, or --once has printed what there was
  1    --once: there was nothing to be read
  2    the options can't be used")]
pub(crate) struct TopArgs {
    /// Where it listens; a URL if its metrics are somewhere else than at /metrics
    #[arg(value_name = "HOST:PORT|URL", default_value = "127.0.0.1:9464")]
    address: String,

    /// Time between two readings
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// What the names of its metrics begin with [default: found out]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,

    /// Print once how things are, with the rates of one interval, and end; so it is without a terminal
    #[arg(long)]
    once: bool,
}

/// Not so short that it would keep the process busy.
fn interval(text: &str) -> Result<Duration, String> {
    args::seconds(text)
        .ok()
        .filter(|time| (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(time))
        .ok_or_else(|| "not a number of seconds from 0.1 to 3600".to_owned())
}

/// Runs the command and gives the exit code.
pub(crate) async fn top(args: &TopArgs, console: &Console) -> Result<u8, Failure> {
    let target = Target::parse(&args.address).map_err(|e| Failure::new(UNUSABLE, e))?;
    if args.once || !std::io::stdout().is_terminal() {
        return once(args, &target, console).await;
    }
    live(args, &target).await
}

/// The figures now.
async fn read(target: &Target, prefix: Option<&str>) -> Result<Reading, String> {
    let page = target.get().await?;
    let samples = text::parse(&page).map_err(|line| format!("line {line} of the answer is no metric"))?;
    let none = || "there are no metrics of a batcher there".to_owned();
    let prefix = match prefix {
        Some(prefix) => prefix.to_owned(),
        None => reading::prefix(&samples).map_err(|several| match several.as_slice() {
            [] => none(),
            several => {
                format!("there are several batchers there: choose with --prefix {}", several.join(", "))
            }
        })?,
    };
    Reading::of(&samples, &prefix).ok_or_else(none)
}

async fn once(args: &TopArgs, target: &Target, console: &Console) -> Result<u8, Failure> {
    let start = Instant::now();
    let mut watch = Watch::default();
    for wait in [Duration::ZERO, args.interval] {
        tokio::time::sleep(wait).await;
        let reading = read(target, args.prefix.as_deref()).await;
        let reading = reading.map_err(|e| Failure::new(NOT_DELIVERED, format!("{}: {e}", target.name())))?;
        watch.take(start.elapsed(), Ok(reading));
    }
    let around = Surroundings {
        address: target.name(),
        interval: args.interval.as_secs_f64(),
        paused: false,
        keys: false,
    };
    let area = Rect::new(0, 0, PLAIN_WIDTH, PLAIN_HEIGHT);
    let mut picture = Buffer::empty(area);
    draw(&watch.view(start.elapsed()), &around, &Palette::plain(), area, &mut picture);
    let rows = (0..area.height).map(|y| {
        let row: String = (0..area.width).map(|x| picture[(x, y)].symbol()).collect();
        row.trim_end().to_owned()
    });
    let rows: Vec<String> = rows.filter(|row| !row.is_empty()).collect();
    console.result(rows.join("\n"));
    Ok(OK)
}

async fn live(args: &TopArgs, target: &Target) -> Result<u8, Failure> {
    let failed = |e: std::io::Error| Failure::new(NOT_DELIVERED, format!("the terminal can't be used: {e}"));
    // Ctrl-C is a key here; any other way to end it leaves the terminal as it was, too.
    let stop = Stop::listen(|_| ratatui::restore()).map_err(failed)?;
    let palette = if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        Palette::plain()
    } else {
        Palette::colours()
    };
    let mut screen = Screen::open().map_err(failed)?;
    let start = Instant::now();
    let mut watch = Watch::default();
    let mut around = Surroundings {
        address: target.name(),
        interval: args.interval.as_secs_f64(),
        paused: false,
        keys: true,
    };
    let mut due = start;
    let mut asked = None;
    loop {
        let view = watch.view(start.elapsed());
        screen
            .draw(|frame| draw(&view, &around, &palette, frame.area(), frame.buffer_mut()))
            .map_err(failed)?;
        if asked.is_none() && !around.paused && Instant::now() >= due {
            due = Instant::now() + Duration::from_secs_f64(around.interval);
            asked = Some(Box::pin(read(target, args.prefix.as_deref())));
        }
        tokio::select! {
            result = async {
                match &mut asked {
                    Some(asked) => asked.await,
                    None => std::future::pending().await,
                }
            } => {
                asked = None;
                watch.take(start.elapsed(), result);
            }
            () = tokio::time::sleep_until(due), if asked.is_none() && !around.paused => {}
            key = screen.key() => match key {
                Key::Quit => return Ok(OK),
                Key::Pause => around.paused = !around.paused,
                Key::Slower => around.interval = step(around.interval, true),
                Key::Faster => {
                    around.interval = step(around.interval, false);
                    due = due.min(Instant::now() + Duration::from_secs_f64(around.interval));
                }
                Key::Redraw => {}
            },
            signal = stop.asked() => return Ok(signal.exit_code()),
        }
    }
}

/// The next interval in this direction.
fn step(now: f64, longer: bool) -> f64 {
    let next = if longer {
        INTERVALS.iter().find(|interval| **interval > now)
    } else {
        INTERVALS.iter().rev().find(|interval| **interval < now)
    };
    next.copied().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_goes_through_round_figures_and_has_ends() {
        assert_eq!((step(1.0, true), step(1.0, false)), (2.0, 0.5));
        assert_eq!((step(3.0, true), step(3.0, false)), (5.0, 2.0));
        assert_eq!((step(60.0, true), step(0.25, false), step(0.1, false)), (60.0, 0.25, 0.1));
        assert!(interval("0.1").is_ok() && interval("3600").is_ok());
        for bad in ["0", "0.05", "3601", "x"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
