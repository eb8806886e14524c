//! `kafka-batcher top`: at a running `produce --listen`, with and without a terminal.

#![cfg(all(unix, feature = "metrics"))]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::{Running, TOPIC, broker, run, until, value};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

/// `produce` with so many events delivered.
fn producing(bootstrap: &str, events: usize) -> Running {
    let mut running = Running::start(&["produce", "-t", TOPIC, "-b", bootstrap, "--listen", "127.0.0.1:0"]);
    running.write(&"x\n".repeat(events));
    let delivered = r#"kafka_batcher_events_delivered_total{topic="flights",topic_alias="flights"}"#;
    let address = running.address();
    until("all are delivered", || value(&address, delivered) == Some(events as f64));
    running
}

#[test]
fn without_a_terminal_it_prints_how_things_are_and_ends() {
    let broker = broker(4);
    let running = producing(&broker.bootstrap(), 3);
    for more in [&[][..], &["--once"], &["--prefix", "kafka_batcher"]] {
        let ended = run(&[&["top", &running.address(), "--interval", "0.1"], more].concat(), "");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let lines: Vec<_> = ended.stdout.lines().collect();
        assert_eq!(lines[0], format!("kafka-batcher top  http://{}  every 0.1 s", running.address()));
        assert_eq!(lines[1], "Kafka    ● reached  connected once");
        let topic = lines.iter().find(|line| line.starts_with("flights ")).unwrap();
        assert!(topic.contains("4 live"), "{ended:?}");
        assert!(ended.stdout.contains("\nFailed calls  none\n"), "{ended:?}");
        assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    }
    let other = run(&["top", &running.address(), "--prefix", "other"], "");
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("there are no metrics of a batcher there"), "{other:?}");
}

#[test]
fn what_can_t_be_read_or_used_is_said() {
    let (_bound, nobody) = common::nobody();
    let page = |body: &'static str| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
            write!(stream, "HTTP/1.1 {body}").unwrap();
        });
        address
    };
    for (address, code, message) in [
        (nobody, 1, "refused"),
        (page("404 Not Found\r\nContent-Length: 0\r\n\r\n"), 1, "/metrics is answered with 404 Not Found"),
        (page("200 OK\r\nContent-Length: 6\r\n\r\n<html>"), 1, "line 1 of the answer is no metric"),
        (page("200 OK\r\nContent-Length: 4\r\n\r\nup 1"), 1, "there are no metrics of a batcher there"),
        (page("nonsense"), 1, "no HTTP there"),
        ("https://localhost:1".to_owned(), 2, "only http is spoken here"),
        ("localhost".to_owned(), 2, "no HOST:PORT"),
    ] {
        let ended = run(&["top", &address], "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.stderr.contains(message), "{message}: {ended:?}");
    }
}

/// The program in a terminal.
struct Terminal {
    child: Child,
    master: OwnedFd,
    slave: OwnedFd,
    before: Termios,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(args: &[&str], colours: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let slave = OwnedFd::from(open);
        let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let side = || Stdio::from(slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_kafka-batcher"))
            .args(args)
            .env("NO_COLOR", if colours { "" } else { "1" })
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (to, mut from) = (Arc::clone(&written), std::fs::File::from(master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It fails once nobody has the other side any more.
            while let Ok(read) = from.read(&mut piece) {
                to.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { child, master, slave, before, written }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn shows(&self, what: &str) {
        until(what, || self.shown().contains(what));
    }

    fn types(&self, keys: &str) {
        std::fs::File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit code, and whether the terminal is as it was.
    fn end(mut self) -> Option<i32> {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap();
        let after = tcgetattr(&self.slave).unwrap();
        assert_eq!(format!("{after:?}"), format!("{:?}", self.before));
        assert!(after.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
        // Back from the alternate screen, with a cursor.
        self.shows("\u{1b}[?1049l");
        until("the cursor is back", || {
            let shown = self.shown();
            shown.rfind("\u{1b}[?25h") > shown.rfind("\u{1b}[?25l")
        });
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn in_a_terminal_it_is_live_heeds_keys_and_leaves_the_terminal_as_it_was() {
    let broker = broker(4);
    let mut running = producing(&broker.bootstrap(), 3);
    let address = running.address();
    let terminal = Terminal::start(&["top", &address, "--interval", "0.1"], true);
    terminal.shows("4 live");
    assert!(terminal.shown().contains("\u{1b}[38;5;2"), "colours");
    terminal.types("p");
    terminal.shows("paused");
    terminal.types("p+");
    // Of 0.1 and 0.25, what is drawn anew.
    terminal.shows("25 s");
    running.close_stdin();
    assert_eq!(running.end().code, Some(0));
    terminal.shows("no figures for");
    // Another process at the same place is found again.
    let again = ["produce", "-t", TOPIC, "-b", &broker.bootstrap(), "--listen", &address];
    let again = Running::start(&again);
    again.says("http://");
    terminal.shows("was restarted");
    terminal.types("q");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn however_it_is_ended_the_terminal_is_as_it_was() {
    let (_bound, nobody) = common::nobody();
    for (keys, signal, code) in
        [("\u{3}", None, Some(0)), ("", Some("TERM"), Some(143)), ("", Some("HUP"), Some(143))]
    {
        let terminal = Terminal::start(&["top", &nobody], false);
        terminal.shows("trying again");
        assert!(!terminal.shown().contains("\u{1b}[38;5;"), "no colours");
        terminal.types(keys);
        if let Some(signal) = signal {
            let id = terminal.child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        }
        assert_eq!(terminal.end(), code, "{keys:?} {signal:?}");
    }
}
