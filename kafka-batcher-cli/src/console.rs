//! What the person at the terminal sees: messages, and a progress display that does not get into their way.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::Line;

/// Writes messages to standard error and the final report to standard output. A closed terminal is no error.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bar: ProgressBar,
    quiet: bool,
    has_bar: Arc<AtomicBool>,
}

impl Console {
    /// With `quiet`, only errors are written.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), quiet, has_bar: Arc::new(AtomicBool::new(false)) }
    }

    /// Shows a bar of `size` bytes, or a spinner when that is not known; `false` when standard error is no terminal.
    pub(crate) fn show_bar(&mut self, size: Option<u64>) -> bool {
        let bar = match size {
            Some(size) => ProgressBar::new(size),
            None => ProgressBar::new_spinner(),
        };
        if bar.is_hidden() {
            return false;
        }
        let template = match size {
            Some(_) => "{bar:32} {percent:>3}% of {decimal_total_bytes}, {elapsed}, {prefix}\n{wide_msg}",
            None => "{spinner} {decimal_bytes}, {elapsed}, {prefix}\n{wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        self.bar = bar;
        self.has_bar.store(true, Relaxed);
        true
    }

    /// Updates the bar.
    pub(crate) fn update_bar(&self, position: u64, line: &Line) {
        self.bar.set_position(position);
        self.bar.set_prefix(line.speed());
        self.bar.set_message(line.counts());
    }

    /// Takes the bar away.
    pub(crate) fn clear_bar(&self) {
        if self.has_bar.swap(false, Relaxed) {
            self.bar.finish_and_clear();
        }
    }

    /// Something worth knowing.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.line(&text);
        }
    }

    /// Something that is wrong.
    pub(crate) fn error(&self, text: impl Display) {
        self.line(&text);
    }

    fn line(&self, text: &dyn Display) {
        self.bar.suspend(|| drop(writeln!(std::io::stderr(), "kafka-batcher: {text}")));
    }

    /// A line, or several, of the result.
    pub(crate) fn result(&self, text: impl Display) {
        self.clear_bar();
        let mut out = std::io::stdout().lock();
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}
