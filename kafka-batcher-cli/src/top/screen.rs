//! The terminal: taken over for as long as a [`Screen`] lives, and given back however that ends.

use std::io;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// What somebody at the terminal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Pause,
    Slower,
    Faster,
    /// The window has another size.
    Redraw,
}

impl Key {
    fn of(event: &Event) -> Option<Self> {
        let key = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Resize(..) => return Some(Self::Redraw),
            _ => return None,
        };
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Self::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Self::Quit),
            KeyCode::Char('p' | ' ') => Some(Self::Pause),
            KeyCode::Char('+' | '=') => Some(Self::Slower),
            KeyCode::Char('-') => Some(Self::Faster),
            _ => None,
        }
    }
}

/// The terminal, taken over.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::UnboundedReceiver<Key>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it is told.
    ///
    /// # Errors
    /// Why it can't; the terminal is then as it was.
    pub(super) fn open() -> io::Result<Self> {
        let (sender, keys) = mpsc::unbounded_channel();
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let screen = Self { terminal, keys };
        // It ends with the program: nothing wakes it but a key.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while let Ok(event) = event::read() {
                if Key::of(&event).is_some_and(|key| sender.send(key).is_err()) {
                    return;
                }
            }
        })?;
        Ok(screen)
    }

    /// Shows a picture.
    ///
    /// # Errors
    /// When the terminal can't be written to.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }

    /// The next key; never, once the terminal gives none any more.
    pub(super) async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_do_what_the_last_line_says() {
        let key = |code, modifiers| Key::of(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |c| key(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!((plain('q'), plain('p')), (Some(Key::Quit), Some(Key::Pause)));
        assert_eq!((plain('+'), plain('-')), (Some(Key::Slower), Some(Key::Faster)));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(plain('c'), None);
        assert_eq!(Key::of(&Event::Resize(1, 1)), Some(Key::Redraw));
    }
}
