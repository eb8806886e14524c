//! A TCP proxy in front of brokers, with faults on demand.
//!
//! Kafka's clients connect to the addresses that brokers give in their answers to Metadata requests, so a proxy that
//! only passes bytes on is left behind after the first answer. This one reads along: it gives each broker it hears of
//! a port of its own and puts that into the answer. Clients then know no way around it.
//!
//! ```text
//!   client ──── 127.0.0.1:p1 ┐                ┌─► broker 1
//!          ──── 127.0.0.1:p2 ┤ proxy: faults  ├─► broker 2
//!          ──── 127.0.0.1:p3 ┘                └─► broker 3
//! ```
//!
//! It can't read what is encrypted: it works on plaintext listeners, with or without SASL.
//!
//! ```no_run
//! use kafka_batcher_testkit::proxy::{FaultProxy, Side};
//!
//! let proxy = FaultProxy::start("localhost:9092")?;
//! println!("connect to {}", proxy.bootstrap());
//! proxy.cut_after(Side::Requests, 1234); // ends a connection in the middle of a request
//! proxy.stall(Side::Answers); // nothing comes back any more
//! proxy.heal();
//! println!("{:?}", proxy.counts());
//! # Ok::<(), std::io::Error>(())
//! ```

mod faults;
mod protocol;
mod relay;

use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use faults::Faults;
pub use faults::{Counts, Side, Swallow};
use relay::Routes;

/// A proxy in front of all brokers of a cluster; ends when dropped, and its connections with it.
///
/// Runs in a thread of its own. Its methods never block and may be called from anywhere. Faults hold for all
/// connections, those already made among them, until changed or [healed](Self::heal).
#[derive(Debug)]
pub struct FaultProxy {
    bootstrap: String,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy in front of the cluster at `bootstrap`: `host:port`, several separated by commas.
    ///
    /// The cluster need not be there yet.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn start(bootstrap: &str) -> io::Result<Self> {
        let faults = Arc::new(Faults::default());
        let (stop, stopped) = oneshot::channel();
        let (started, start) = mpsc::channel();
        let brokers: Vec<String> = bootstrap.split(',').map(|broker| broker.trim().to_owned()).collect();
        let shared = Arc::clone(&faults);
        let thread = thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let routes = Routes::new(shared, runtime.handle().clone());
            let ports: io::Result<Vec<u16>> = brokers.iter().map(|broker| routes.port(broker)).collect();
            drop(started.send(ports));
            // Ends when the handle is dropped; connections end with the runtime.
            runtime.block_on(async { drop(stopped.await) });
        })?;
        let ports = start.recv().map_err(|_| io::Error::other("the proxy's thread has ended"))??;
        let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Self { bootstrap: addresses.join(","), faults, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: `host:port`, several separated by commas.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Ends the connection through which the byte after the next `bytes` of this side would pass, counted over all
    /// connections. Happens once; 0 ends the connection that is used next.
    pub fn cut_after(&self, side: Side, bytes: u64) {
        self.faults.cut_after(side, Some(bytes));
    }

    /// Nothing more of this side passes; it is kept and passes later. Connections stay, and new ones are accepted.
    pub fn stall(&self, side: Side) {
        self.faults.stall(side, true);
    }

    /// What of this side was kept passes.
    pub fn resume(&self, side: Side) {
        self.faults.stall(side, false);
    }

    /// Answers are read and thrown away.
    pub fn swallow(&self, which: Swallow) {
        self.faults.swallow(which);
    }

    /// So many bytes a second may pass in each direction of each connection; `None` for no limit.
    pub fn throttle(&self, bytes_per_second: Option<NonZeroU32>) {
        self.faults.throttle(bytes_per_second);
    }

    /// Resets all connections there are (RST). What is sent on them from now on passes no more.
    pub fn reset(&self) {
        self.faults.reset();
    }

    /// Resets every new connection as soon as it is made. Those there are stay.
    pub fn refuse(&self) {
        self.faults.refuse(true);
    }

    /// Resets all connections and every new one: the brokers are gone.
    pub fn down(&self) {
        self.refuse();
        self.reset();
    }

    /// Ends all faults. Stalled bytes pass; connections that are gone stay gone.
    pub fn heal(&self) {
        self.faults.heal();
    }

    /// What has passed and was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.faults.counts()
    }

    /// Waits until `check` holds of the counts. Waits for ever if it never does: wrap it in a timeout.
    pub async fn wait_for(&self, mut check: impl FnMut(&Counts) -> bool) {
        self.faults.until(|faults| check(&faults.counts()).then_some(())).await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
