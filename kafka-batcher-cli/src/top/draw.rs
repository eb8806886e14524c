//! The picture: from what is to be seen to what is where, and in which colour.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Row, Sparkline, Table, Widget};

use super::reading::{LOCKED, REPLAYING, STATES};
use super::watch::{TopicView, View};
use crate::format::{age, bytes, count};

/// What is shown besides the figures.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Where they come from.
    pub(super) address: String,
    /// Seconds between two readings.
    pub(super) interval: f64,
    pub(super) paused: bool,
    /// There are keys.
    pub(super) keys: bool,
}

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    good: Style,
    warn: Style,
    bad: Style,
    faint: Style,
    strong: Style,
    accent: Style,
}

impl Palette {
    pub(super) fn colours() -> Self {
        let of = |colour| Style::new().fg(colour);
        Self {
            good: of(Color::Green),
            warn: of(Color::Yellow),
            bad: of(Color::Red).add_modifier(Modifier::BOLD),
            faint: of(Color::DarkGray),
            strong: Style::new().add_modifier(Modifier::BOLD),
            accent: of(Color::Cyan),
        }
    }

    /// No colours at all; what is bad is reversed.
    pub(super) fn plain() -> Self {
        let none = Style::new();
        Self {
            good: none,
            warn: none.add_modifier(Modifier::BOLD),
            bad: none.add_modifier(Modifier::REVERSED),
            faint: none,
            strong: none.add_modifier(Modifier::BOLD),
            accent: none,
        }
    }
}

/// Where the values of the lines at the top begin.
const NAMES: u16 = 9;
/// Longest bar.
const BAR: u16 = 30;
/// How long it is said that the process is another one.
const RESTARTED: std::time::Duration = std::time::Duration::from_secs(60);
/// The smallest height in which there is room for curves, and their own.
const ROOM_FOR_CURVES: u16 = 22;
const CURVES: u16 = 4;

/// Draws it all into this area.
pub(super) fn draw(view: &View, around: &Surroundings, palette: &Palette, area: Rect, buf: &mut Buffer) {
    let mut page = Page { palette, area, buf, next: area.y, end: area.bottom() };
    page.head(view, around);
    if around.keys {
        page.foot(around);
    }
    if view.reading.topics.is_empty() && view.reading.memory_max_bytes == 0.0 {
        return; // nothing has been read yet
    }
    page.kafka(view);
    page.memory(view);
    page.storage(view);
    page.replay(view);
    page.times(view);
    if area.height >= ROOM_FOR_CURVES {
        page.curves(view);
    }
    let errors = errors(&view.total, view, palette);
    // Topics that don't fit are counted; errors that don't fit would not be seen at all.
    let room = page.end.saturating_sub(page.next).saturating_sub(3);
    let kept = (errors.len() as u16).min(room);
    page.end -= kept;
    page.topics(view);
    if page.next < page.end {
        page.next += 1;
    }
    page.end += kept;
    errors.into_iter().for_each(|line| page.line(line));
}

/// An area that is filled from above.
struct Page<'a> {
    palette: &'a Palette,
    area: Rect,
    buf: &'a mut Buffer,
    /// The next line that is free, and the first behind those that are.
    next: u16,
    end: u16,
}

impl Page<'_> {
    fn line(&mut self, line: Line<'_>) {
        if self.next < self.end {
            self.buf.set_line(self.area.x, self.next, &line, self.area.width);
            self.next += 1;
        }
    }

    /// A line that begins with a name.
    fn named(&mut self, name: &str, mut spans: Vec<Span<'_>>) {
        let width = usize::from(NAMES);
        spans.insert(0, Span::styled(format!("{name:<width$}"), self.palette.strong));
        self.line(Line::from(spans));
    }

    fn head(&mut self, view: &View, around: &Surroundings) {
        let Palette { strong, faint, bad, warn, .. } = *self.palette;
        let mut spans = vec![
            Span::styled("kafka-batcher top", strong),
            Span::raw(format!("  {}  ", around.address)),
            Span::styled(format!("every {} s", around.interval), faint),
        ];
        if around.paused {
            spans.push(Span::styled("  paused", warn));
        }
        if view.restarted.is_some_and(|ago| ago < RESTARTED) {
            spans.push(Span::styled("  the process was restarted", warn));
        }
        self.line(Line::from(spans));
        if let Some((time, why)) = &view.trouble {
            let text = format!("no figures for {}: {why}; trying again", age(*time));
            self.line(Line::styled(text, bad));
        }
    }

    fn foot(&mut self, around: &Surroundings) {
        if self.end <= self.next + 1 {
            return;
        }
        self.end -= 1;
        let pause = if around.paused { "p go on" } else { "p pause" };
        let keys = Line::styled(format!("q quit   {pause}   + - interval"), self.palette.faint);
        self.buf.set_line(self.area.x, self.end, &keys, self.area.width);
    }

    fn kafka(&mut self, view: &View) {
        let Palette { good, bad, faint, .. } = *self.palette;
        let reading = &view.reading;
        let mut text = if reading.connected { "● reached" } else { "○ NOT REACHED" }.to_owned();
        if let Some(time) = view.link_for {
            text.push_str(&format!(" for {}", age(time)));
        }
        let style = if reading.connected { good } else { bad };
        let mut counts = format!("  connected {}", times(reading.connects));
        if reading.connect_failures > 0.0 {
            counts.push_str(&format!(", failed {}", times(reading.connect_failures)));
        }
        self.named("Kafka", vec![Span::styled(text, style), Span::styled(counts, faint)]);
    }

    /// A bar, as full as that, in the colour of how bad it is to be full.
    fn bar(&self, part: f64, style: Style) -> Vec<Span<'static>> {
        let width = usize::from(BAR.min(self.area.width / 4));
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let mut full = (part * width as f64).round() as usize;
        if part > 0.0 {
            full = full.clamp(width.min(1), width);
        }
        vec![
            Span::styled("█".repeat(full), style),
            Span::styled("░".repeat(width - full), self.palette.faint),
            Span::raw(format!(" {:>3.0}% ", part * 100.0)),
        ]
    }

    fn fullness(&self, part: f64) -> Style {
        match part {
            0.9.. => self.palette.bad,
            0.6.. => self.palette.warn,
            _ => self.palette.good,
        }
    }

    fn memory(&mut self, view: &View) {
        let reading = &view.reading;
        let part = reading.memory_bytes / reading.memory_max_bytes;
        let mut spans = self.bar(part, self.fullness(part));
        spans.push(Span::raw(format!(
            "{} of {}, {} events",
            size(reading.memory_bytes),
            size(reading.memory_max_bytes),
            whole(reading.memory_events)
        )));
        self.named("Memory", spans);
    }

    fn storage(&mut self, view: &View) {
        let storage = &view.reading.storage;
        let mut spans = Vec::new();
        if !storage.up {
            spans.push(Span::styled("FAILS  ", self.palette.bad));
        }
        if let Some(quota) = storage.quota {
            let part = storage.used / quota;
            spans.extend(self.bar(part, self.fullness(part)));
        }
        let mut text = size(storage.used);
        if let Some(quota) = storage.quota {
            text.push_str(&format!(" of {}", size(quota)));
        }
        text.push_str(&format!(", {} events", whole(view.total.now.stored)));
        if storage.oldest > 0.0 && view.total.now.stored > 0.0 {
            let oldest = std::time::Duration::try_from_secs_f64(storage.oldest).unwrap_or_default();
            text.push_str(&format!(", oldest {}", age(oldest)));
        }
        spans.push(Span::raw(text));
        if storage.lost > 0.0 {
            spans.push(Span::styled(format!("  {} LOST TO DAMAGE", whole(storage.lost)), self.palette.bad));
        }
        self.named("Spool", spans);
    }

    fn replay(&mut self, view: &View) {
        let Some(replay) = &view.replay else { return };
        let mut spans = self.bar(replay.done, self.palette.accent);
        let eta =
            replay.eta.map_or_else(|| "not getting less".to_owned(), |eta| format!("{} to go", age(eta)));
        spans.push(Span::raw(format!("{} left, −{}/s, {eta}", whole(replay.left), whole(replay.rate))));
        self.named("Replay", spans);
    }

    fn times(&mut self, view: &View) {
        let total = &view.total;
        let mut text = format!("p50 {}   p99 {}", time(total.p50), time(total.p99));
        if view.append.is_some() {
            text.push_str(&format!("   to the spool p99 {}", time(view.append)));
        }
        self.named("Latency", vec![Span::raw(text)]);
    }

    /// Accepted and delivered events a second, over the last readings and on one scale.
    fn curves(&mut self, view: &View) {
        let most = view.rates.iter().map(|(accepted, delivered)| *accepted.max(delivered)).max();
        let half = self.area.width / 2;
        let left = Rect { x: self.area.x, y: self.next, width: half, height: CURVES };
        let right = Rect { x: left.right(), width: self.area.width - half, ..left };
        let total = &view.total;
        let accepted = view.rates.iter().map(|(accepted, _)| *accepted);
        let delivered = view.rates.iter().map(|(_, delivered)| *delivered);
        let curves: [(&str, f64, Rect, Vec<u64>, Style); 2] = [
            ("accepted", total.accepted, left, accepted.collect(), self.palette.accent),
            ("delivered", total.delivered, right, delivered.collect(), self.palette.good),
        ];
        for (name, rate, area, points, style) in curves {
            let title = format!(" {name} {}/s ", whole(rate));
            let block = Block::new()
                .borders(Borders::TOP)
                .border_style(self.palette.faint)
                .title(Span::styled(title, style));
            // The newest of those that fit.
            let fits = points.len().saturating_sub(area.width.saturating_sub(1).into());
            Sparkline::default()
                .block(block)
                .data(&points[fits..])
                .max(most.unwrap_or(1).max(1))
                .style(style)
                .render(Rect { width: area.width.saturating_sub(1), ..area }, self.buf);
        }
        self.next += CURVES;
    }

    fn topics(&mut self, view: &View) {
        let area = Rect { y: self.next, height: self.end.saturating_sub(self.next), ..self.area };
        if area.height < 2 {
            return;
        }
        let mut rows: Vec<&TopicView> = view.topics.iter().collect();
        if rows.len() > 1 {
            rows.insert(0, &view.total);
        }
        let hidden = rows.len().saturating_sub(usize::from(area.height) - 1);
        if hidden > 0 {
            rows.truncate(rows.len() - hidden - 1);
        }
        let used = rows.len() + 1 + usize::from(hidden > 0);
        self.next += (used as u16).min(area.height);
        let columns = columns(area.width);
        let cells = |topic: &TopicView| {
            let texts = columns.iter().map(|column| (column.text)(topic, self.palette));
            Row::new(texts.collect::<Vec<_>>())
        };
        let head = columns
            .iter()
            .map(|column| Line::styled(column.name, self.palette.faint).alignment(column.side()));
        let table =
            Table::new(rows.iter().map(|topic| cells(topic)), columns.iter().map(|column| column.width))
                .header(Row::new(head.collect::<Vec<_>>()))
                .column_spacing(1);
        Widget::render(table, area, self.buf);
        if hidden > 0 {
            let more = Line::styled(format!("… and {} more topics", hidden + 1), self.palette.faint);
            self.buf.set_line(area.x, area.bottom() - 1, &more, area.width);
        }
    }
}

/// A column of the table of topics.
struct Column {
    name: &'static str,
    width: Constraint,
    text: fn(&TopicView, &Palette) -> Line<'static>,
}

impl Column {
    /// Figures stand at the right.
    fn side(&self) -> ratatui::layout::Alignment {
        match self.width {
            Constraint::Min(_) => ratatui::layout::Alignment::Left,
            _ => ratatui::layout::Alignment::Right,
        }
    }
}

/// Those for which there is room, the most important first; each has its place.
fn columns(width: u16) -> Vec<Column> {
    /// Its place from the left, and its own width.
    type Choice = (u8, u16, &'static str, fn(&TopicView, &Palette) -> Line<'static>);
    let by_weight: [Choice; 11] = [
        (0, 12, "TOPIC", |topic, palette| Line::styled(topic.name.clone(), palette.strong)),
        (1, 22, "LANES", lanes),
        (3, 11, "DELIVERED/s", |topic, _| figure(whole(topic.delivered))),
        (2, 10, "ACCEPTED/s", |topic, _| figure(whole(topic.accepted))),
        (8, 11, "STORED", |topic, palette| {
            coloured(whole(topic.now.stored), topic.now.stored > 0.0, palette.warn)
        }),
        (6, 9, "FAILED/s", |topic, palette| coloured(whole(topic.failed), topic.failed > 0.0, palette.bad)),
        (7, 9, "IN MEMORY", |topic, _| figure(whole(topic.now.in_memory))),
        (10, 8, "p99", |topic, _| figure(time(topic.p99))),
        (5, 10, "REJECTED/s", |topic, palette| {
            coloured(whole(topic.rejected), topic.rejected > 0.0, palette.bad)
        }),
        (9, 8, "p50", |topic, _| figure(time(topic.p50))),
        (4, 7, "MB/s", |topic, _| figure(format!("{:.1}", topic.delivered_bytes / 1e6))),
    ];
    let mut left = width;
    let mut columns: Vec<(u8, Column)> = Vec::new();
    for (place, width, name, text) in by_weight {
        if left < width + 1 && place > 0 {
            break;
        }
        left = left.saturating_sub(width + 1);
        let width = if place < 2 { Constraint::Min(width) } else { Constraint::Length(width) };
        columns.push((place, Column { name, width, text }));
    }
    columns.sort_by_key(|(place, _)| *place);
    columns.into_iter().map(|(_, column)| column).collect()
}

fn figure(text: String) -> Line<'static> {
    Line::from(text).right_aligned()
}

fn coloured(text: String, is_so: bool, style: Style) -> Line<'static> {
    let line = figure(text);
    if is_so { line.style(style) } else { line }
}

/// How many lanes are at what.
fn lanes(topic: &TopicView, palette: &Palette) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (at, lanes) in topic.now.lanes.iter().enumerate().filter(|(_, lanes)| **lanes > 0.0) {
        let style = match at {
            LOCKED => palette.bad,
            REPLAYING => palette.accent,
            _ => palette.good,
        };
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        let word = if at == REPLAYING { "replay" } else { STATES[at] };
        spans.push(Span::styled(format!("{} {word}", whole(*lanes)), style));
    }
    Line::from(spans)
}

/// What went wrong since the start, and what of it is new.
fn errors(total: &TopicView, view: &View, palette: &Palette) -> Vec<Line<'static>> {
    let names = usize::from(NAMES) + 5;
    let by_kind = |name: &str,
                   all: &std::collections::BTreeMap<String, f64>,
                   new: &std::collections::BTreeMap<String, f64>| {
        let mut spans = vec![Span::styled(format!("{name:<names$}"), palette.strong)];
        let some = all.iter().filter(|(_, count)| **count > 0.0);
        for (kind, number) in some {
            let new = new.get(kind).copied().unwrap_or_default();
            let (text, style) = if new > 0.0 {
                (format!("{kind} {} (+{})  ", whole(*number), whole(new)), palette.bad)
            } else {
                (format!("{kind} {}  ", whole(*number)), palette.warn)
            };
            spans.push(Span::styled(text, style));
        }
        if spans.len() == 1 {
            spans.push(Span::styled("none", palette.faint));
        }
        Line::from(spans)
    };
    let mut others = vec![Span::styled(format!("{:<names$}", "Since start"), palette.strong)];
    for (name, number, style) in [
        ("lost", total.now.lost, palette.bad),
        ("maybe duplicated", total.now.maybe_duplicated, palette.warn),
        ("panics", view.reading.panics, palette.bad),
    ] {
        let style = if number > 0.0 { style } else { palette.faint };
        others.push(Span::styled(format!("{name} {}  ", whole(number)), style));
    }
    vec![
        by_kind("Failed calls", &total.now.failures, &total.new_failures),
        by_kind("Handed back", &total.now.rejected, &total.new_rejected),
        by_kind("Dead letters", &total.now.dead, &total.new_dead),
        Line::from(others),
    ]
}

fn whole(number: f64) -> String {
    count(number.round() as u64)
}

fn size(number: f64) -> String {
    bytes(number as u64)
}

fn times(number: f64) -> String {
    if number == 1.0 { "once".to_owned() } else { format!("{} times", whole(number)) }
}

/// A time in the unit that suits; the second is true when it may be more.
fn time(seconds: Option<(f64, bool)>) -> String {
    let Some((seconds, more)) = seconds else { return "–".to_owned() };
    let more = if more { ">" } else { "" };
    match seconds {
        1.0.. => format!("{more}{seconds:.1} s"),
        0.01.. => format!("{more}{:.0} ms", seconds * 1e3),
        _ => format!("{more}{:.1} ms", seconds * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::reading::{Reading, prefix};
    use super::super::text::parse;
    use super::super::watch::Watch;
    use super::*;

    fn page(delivered: u64, stored: u64, connected: u8, lanes: &str, more: &str) -> Reading {
        let labels = r#"{topic="flights",topic_alias="planes"}"#;
        let page = format!(
            r#"
kafka_batcher_connected {connected}
kafka_batcher_connects_total 2
kafka_batcher_memory_bytes 16777216
kafka_batcher_memory_max_bytes 67108864
kafka_batcher_memory_events 80000
kafka_batcher_storage_up 1
kafka_batcher_storage_used_bytes 700000000
kafka_batcher_storage_quota_bytes 1000000000
kafka_batcher_storage_oldest_seconds 83
kafka_batcher_events_accepted_total{labels} {}
kafka_batcher_events_delivered_total{labels} {delivered}
kafka_batcher_events_stored{labels} {stored}
kafka_batcher_lanes{{topic="flights",state="{lanes}"}} 12
kafka_batcher_latency_seconds_bucket{{topic="flights",le="0.005"}} {delivered}
kafka_batcher_latency_seconds_bucket{{topic="flights",le="+Inf"}} {delivered}
{more}"#,
            delivered + stored
        );
        let samples = parse(&page).unwrap();
        Reading::of(&samples, &prefix(&samples).unwrap()).unwrap()
    }

    fn around() -> Surroundings {
        Surroundings { address: "http://127.0.0.1:9464".to_owned(), interval: 1.0, paused: false, keys: true }
    }

    fn drawn(view: &View, around: &Surroundings, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let palette = Palette::colours();
        terminal.draw(|frame| draw(view, around, &palette, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    fn outage() -> Watch {
        let failures = |calls| {
            format!(
                r#"
kafka_batcher_produce_failures_total{{topic="flights",kind="transient"}} {calls}
kafka_batcher_produce_failed_events_total{{topic="flights",kind="transient"}} {calls}000"#
            )
        };
        let mut watch = Watch::default();
        watch.take(Duration::from_secs(0), Ok(page(1_000_000, 0, 1, "live", &failures(0))));
        watch.take(Duration::from_secs(2), Ok(page(1_060_000, 0, 1, "live", &failures(0))));
        watch.take(Duration::from_secs(4), Ok(page(1_070_000, 50_000, 0, "locked", &failures(3))));
        watch
    }

    #[test]
    fn an_outage_is_seen() {
        let view = outage().view(Duration::from_secs(7));
        let expected = [
            "kafka-batcher top  http://127.0.0.1:9464  every 1 s",
            "Kafka    ○ NOT REACHED for 3 s  connected 2 times",
            "Memory   ████████░░░░░░░░░░░░░░░░░░░░░░  25% 16.8 MB of 67.1 MB, 80,000 events",
            "Spool    █████████████████████░░░░░░░░░  70% 700.0 MB of 1.00 GB, 50,000 events, oldest 1 min 23 s",
            "Latency  p50 2.5 ms   p99 5.0 ms",
            "TOPIC             LANES                  ACCEPTED/s DELIVERED/s    MB/s REJECTED/s  FAILED/s IN MEMORY      STORED      p50      p99",
            "flights           12 locked                  30,000       5,000     0.0          0     1,500         0      50,000   2.5 ms   5.0 ms",
            "",
            "Failed calls  transient 3 (+3)",
            "Handed back   none",
            "Dead letters  none",
            "Since start   lost 0  maybe duplicated 0  panics 0",
            "",
            "q quit   p pause   + - interval",
        ];
        let lines = drawn(&view, &around(), 132, 14);
        assert_eq!(lines, expected, "{lines:#?}");
    }

    #[test]
    fn in_a_narrow_terminal_the_most_important_columns_are_left() {
        let view = outage().view(Duration::from_secs(7));
        let table = |width| -> Vec<String> {
            let lines = drawn(&view, &around(), width, 13);
            let at = lines.iter().position(|line| line.starts_with("TOPIC")).unwrap();
            lines[at..at + 2].to_vec()
        };
        assert_eq!(
            table(80),
            [
                "TOPIC                  LANES                  ACCEPTED/s DELIVERED/s      STORED",
                "flights                12 locked                  30,000       5,000      50,000"
            ]
        );
        assert_eq!(table(40), ["TOPIC             LANES", "flights           12 locked"]);
        let lines = drawn(&view, &around(), 40, 13);
        assert_eq!(lines[1], "Kafka    ○ NOT REACHED for 3 s  connecte");
        assert_eq!(lines[2], "Memory   ███░░░░░░░  25% 16.8 MB of 67.1");
    }

    #[test]
    fn no_size_is_too_small_or_too_large_and_the_last_line_has_the_keys() {
        let view = outage().view(Duration::from_secs(7));
        for (width, height) in [(0, 0), (1, 1), (2, 50), (500, 3), (9, 9), (300, 100), (u16::MAX / 64, 20)] {
            let lines = drawn(&view, &around(), width, height);
            if width > 30 && height > 1 {
                assert_eq!(lines[usize::from(height) - 1], "q quit   p pause   + - interval");
            }
        }
        let errors = drawn(&view, &around(), 80, 12);
        assert_eq!(errors[8], "Failed calls  transient 3 (+3)", "errors give way last: {errors:#?}");
    }

    #[test]
    fn curves_show_where_delivery_ends_once_there_is_room() {
        let lines = drawn(&outage().view(Duration::from_secs(7)), &around(), 80, 24);
        assert_eq!(
            lines[5],
            " accepted 30,000/s ────────────────────  delivered 5,000/s ────────────────────"
        );
        assert_eq!(lines[8], "██                                      █▄");
    }

    #[test]
    fn a_replay_and_all_else_that_changes_is_told() {
        let stored = |events, lanes| page(1_000_000 - events, events, 1, lanes, "");
        let mut watch = Watch::default();
        watch.take(Duration::from_secs(0), Ok(stored(100_000, "locked")));
        watch.take(Duration::from_secs(5), Ok(stored(60_000, "replaying")));
        let replay = &drawn(&watch.view(Duration::from_secs(5)), &around(), 100, 20)[4];
        assert_eq!(replay, "Replay   ██████████░░░░░░░░░░░░░░░  40% 60,000 left, −8,000/s, 7 s to go");

        watch.take(Duration::from_secs(6), Ok(page(5, 0, 1, "live", "")));
        watch.take(Duration::from_secs(7), Err("Connection refused".to_owned()));
        let paused = Surroundings { paused: true, ..around() };
        let lines = drawn(&watch.view(Duration::from_secs(70)), &paused, 100, 20);
        assert_eq!(lines[1], "no figures for 1 min 3 s: Connection refused; trying again");
        assert_eq!((lines[0].contains("paused"), lines[0].contains("restarted")), (true, false));
        assert_eq!(lines[19], "q quit   p go on   + - interval");
        let lines = drawn(&watch.view(Duration::from_secs(8)), &around(), 100, 20);
        assert!(lines[0].ends_with("every 1 s  the process was restarted"), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with("Replay")), "{lines:#?}");
    }

    #[test]
    fn before_the_first_answer_there_is_only_what_went_wrong() {
        let mut watch = Watch::default();
        assert_eq!(drawn(&watch.view(Duration::ZERO), &around(), 60, 5)[1..4], ["", "", ""]);
        watch.take(Duration::ZERO, Err("no answer within 5 s".to_owned()));
        let lines = drawn(&watch.view(Duration::ZERO), &around(), 60, 5);
        assert_eq!(lines[1], "no figures for 0 s: no answer within 5 s; trying again");
    }

    #[test]
    fn storage_that_fails_or_has_no_limit_is_told_as_it_is() {
        let mut reading = page(1, 1, 1, "live", "kafka_batcher_storage_lost_events_total 3");
        reading.storage.quota = None;
        let spool = |reading: Reading| {
            let mut watch = Watch::default();
            watch.take(Duration::ZERO, Ok(reading));
            drawn(&watch.view(Duration::ZERO), &around(), 100, 20)[3].clone()
        };
        assert_eq!(
            spool(reading.clone()),
            "Spool    700.0 MB, 1 events, oldest 1 min 23 s  3 LOST TO DAMAGE"
        );
        reading.storage.up = false;
        assert_eq!(spool(reading), "Spool    FAILS  700.0 MB, 1 events, oldest 1 min 23 s  3 LOST TO DAMAGE");
    }

    #[test]
    fn topics_without_room_are_counted_and_the_sum_comes_first() {
        let mut reading = page(10, 0, 1, "live", "");
        for number in 0..20 {
            let topic = reading.topics["flights"].clone();
            reading.topics.insert(format!("topic{number:02}"), topic);
        }
        let mut watch = Watch::default();
        watch.take(Duration::ZERO, Ok(reading));
        let lines = drawn(&watch.view(Duration::ZERO), &around(), 80, 20);
        assert!(lines[6].starts_with("all "), "{lines:#?}");
        assert!(lines[7].starts_with("flights "), "{lines:#?}");
        assert_eq!(lines[14], "… and 14 more topics", "{lines:#?}");
        assert!(lines[15].starts_with("Failed calls"), "{lines:#?}");
    }

    #[test]
    fn without_colours_there_are_none() {
        let view = outage().view(Duration::from_secs(7));
        let area = Rect::new(0, 0, 132, 40);
        let mut buffer = Buffer::empty(area);
        draw(&view, &around(), &Palette::plain(), area, &mut buffer);
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        let mut coloured = Buffer::empty(area);
        draw(&view, &around(), &Palette::colours(), area, &mut coloured);
        assert!(coloured.content().iter().any(|cell| cell.fg == Color::Red));
    }
}
