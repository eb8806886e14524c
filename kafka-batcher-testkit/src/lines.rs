//! Log lines for tests to look at: whether a secret is in one of them, for example.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps the log lines of a program.
///
/// ```
/// use kafka_batcher_testkit::lines::Lines;
///
/// let lines = Lines::keep().expect("nobody else listens");
/// tracing::trace!(target: "example", password = "***", "logs in");
/// assert!(lines.text().contains("logs in") && !lines.text().contains("hunter2"));
/// ```
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<String>>);

impl Lines {
    /// Keeps those of all threads from now on, at all levels.
    ///
    /// # Errors
    /// When somebody else gets them already: one test of a program can have them.
    pub fn keep() -> Result<Self, tracing::subscriber::SetGlobalDefaultError> {
        let lines = Self::default();
        tracing::subscriber::set_global_default(lines.clone())?;
        Ok(lines)
    }

    /// What was said so far: a line each, of its target and fields.
    #[must_use]
    pub fn text(&self) -> String {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("bytes", &self.lock().len()).finish()
    }
}

/// Looks for secrets in a text, as they are and as they stand in Base64; gives the place of one, and up to 200 characters
/// before it, but nothing of it.
#[must_use]
pub fn leak(text: &str, secrets: &[String]) -> Option<String> {
    secrets.iter().enumerate().find_map(|(number, secret)| {
        let forms = std::iter::once(secret.clone()).chain(base64(secret.as_bytes()));
        let at = forms.filter(|form| !form.is_empty()).find_map(|form| text.find(&form))?;
        let start = text[..at].char_indices().rev().nth(199).map_or(0, |(start, _)| start);
        Some(format!("secret {number} stands behind {:?}", &text[start..at]))
    })
}

/// An error with all that it is made of, as text and as `Debug` shows it.
#[must_use]
pub fn whole(error: &(impl std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        text += &format!("{error} {error:?}\n");
        next = error.source();
    }
    text
}

/// The bytes as they stand in Base64 text, whatever stands before them; the edges, which depend on that, left out.
fn base64(bytes: &[u8]) -> Vec<String> {
    const ALPHABETS: [&[u8; 64]; 2] = [
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    ];
    let mut all = Vec::new();
    for alphabet in ALPHABETS {
        for skip in 0..3 {
            let whole = bytes.get(skip..).unwrap_or_default().chunks_exact(3);
            let digits = whole.flat_map(|three| {
                let number = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
                [18, 12, 6, 0].map(|shift| char::from(alphabet[(number >> shift & 63) as usize]))
            });
            all.push(digits.collect());
        }
    }
    all.retain(|text: &String| text.len() >= 8);
    all
}

struct Line<'a>(&'a mut String);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        // Writing to a text does not fail.
        write!(self.0, " {field}={value:?}").ok();
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut lines = self.lock();
        lines.push_str(event.metadata().target());
        event.record(&mut Line(&mut lines));
        lines.push('\n');
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_wherever_it_stands() {
        assert_eq!(base64(b"Many hands make light work.")[0], "TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsu");
        assert!("eE1hbnkgaGFuZHM=".contains(&base64(b"Many hands")[2]), "behind one other byte");
    }

    #[test]
    fn a_leak_is_found_and_not_shown() {
        let secrets = ["hunter22".to_owned(), "Many hands".to_owned()];
        assert_eq!(leak("nothing of it", &secrets), None);
        let found = leak("the password is hunter22!", &secrets).unwrap();
        assert!(found.contains("secret 0") && found.contains("the password is"), "{found}");
        assert!(!found.contains("hunter22"));
        assert!(leak("eE1hbnkgaGFuZHM=", &secrets).is_some());
    }
}
