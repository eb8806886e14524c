//! Connections: frames are read whole, looked at, and passed on byte by byte as the faults allow.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::faults::{Faults, Side, Step};
use super::protocol::{self, api};

/// Larger frames are no Kafka: a TLS handshake, read as a frame, is larger.
const LARGEST: u32 = 256 * 1024 * 1024;

/// Brokers by address, and the port at which each is reached through the proxy.
#[derive(Debug)]
pub(super) struct Routes {
    faults: Arc<Faults>,
    ports: Mutex<HashMap<String, u16>>,
    runtime: tokio::runtime::Handle,
}

impl Routes {
    pub(super) fn new(faults: Arc<Faults>, runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self { faults, ports: Mutex::default(), runtime })
    }

    /// The port of 127.0.0.1 at which `broker` ("host:port") is reached; listens there from now on.
    pub(super) fn port(self: &Arc<Self>, broker: &str) -> io::Result<u16> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(broker) {
            return Ok(*port);
        }
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let _in_the_runtime = self.runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        self.runtime.spawn(Arc::clone(self).listen(listener, broker.to_owned()));
        ports.insert(broker.to_owned(), port);
        Ok(port)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener, broker: String) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                // Out of file descriptors: they come back.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            match self.faults.accepted() {
                Some(generation) => {
                    let (this, broker) = (Arc::clone(&self), broker.clone());
                    self.runtime.spawn(async move { this.relay(client, &broker, generation).await });
                }
                None => reset(client),
            }
        }
    }

    async fn relay(self: Arc<Self>, mut client: TcpStream, broker: &str, generation: u64) {
        let relay = async {
            let Ok(mut upstream) = TcpStream::connect(broker).await else { return false };
            let nodelay = client.set_nodelay(true).and_then(|()| upstream.set_nodelay(true));
            if nodelay.is_err() {
                return false;
            }
            let asked = Mutex::default();
            let (client_reads, client_writes) = client.split();
            let (broker_reads, broker_writes) = upstream.split();
            tokio::select! {
                _ended = self.requests(client_reads, broker_writes, &asked, generation) => {}
                _ended = self.answers(broker_reads, client_writes, &asked, generation) => {}
                () = self.faults.outdated(generation) => {
                    reset(upstream);
                    return true;
                }
            }
            false
        };
        if relay.await {
            reset(client);
            // Only now, so that whoever waits for it sends nothing on a connection that is still there.
            self.faults.was_reset();
        }
    }

    async fn requests(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        asked: &Asked,
        generation: u64,
    ) -> io::Result<()> {
        while let Some(frame) = read_frame(&mut from).await? {
            let request = protocol::request(&frame);
            if let Some((key, version, correlation)) = request {
                asked.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, (key, version));
            }
            self.faults.saw_request(matches!(request, Some((api::PRODUCE, ..))));
            self.pass(&frame, &mut to, Side::Requests, generation).await?;
        }
        Ok(())
    }

    async fn answers(
        self: &Arc<Self>,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        asked: &Asked,
        generation: u64,
    ) -> io::Result<()> {
        while let Some(mut frame) = read_frame(&mut from).await? {
            let request = protocol::answered(&frame)
                .and_then(|id| asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
            if self.faults.swallows(matches!(request, Some((api::PRODUCE, _)))) {
                continue;
            }
            let unreadable = || io::Error::from(io::ErrorKind::InvalidData);
            match request {
                Some((api::METADATA, version)) => {
                    let route = |host: &str, port| self.port(&format!("{host}:{port}")).ok();
                    frame = protocol::reroute(&frame, version, route).ok_or_else(unreadable)?;
                }
                Some((api::API_VERSIONS, version)) => {
                    // One that lists no Produce needs no restriction.
                    protocol::restrict_versions(&mut frame, version).unwrap_or_default();
                }
                _ => {}
            }
            self.pass(&frame, &mut to, Side::Answers, generation).await?;
        }
        Ok(())
    }

    /// Writes as the faults allow; an error ends the connection.
    async fn pass(
        &self,
        mut bytes: &[u8],
        to: &mut WriteHalf<'_>,
        side: Side,
        generation: u64,
    ) -> io::Result<()> {
        let cut = || io::Error::from(io::ErrorKind::ConnectionAborted);
        while !bytes.is_empty() {
            let left = bytes.len();
            let step = self.faults.until(|faults| match faults.step(generation, side, left) {
                Step::Wait => None,
                step => Some(step),
            });
            let Step::Pass(len, pause) = step.await else { return Err(cut()) };
            let (now, later) = bytes.split_at(len.min(left));
            to.write_all(now).await?;
            self.faults.passed(side, now.len());
            bytes = later;
            if self.faults.cut_is_due(side)
                && let Step::Cut = self.faults.step(generation, side, left)
            {
                return Err(cut());
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}

/// What was asked on a connection, by correlation id: request and version.
type Asked = Mutex<HashMap<i32, (i16, i16)>>;

/// A frame with its length; `None` when the connection ended.
async fn read_frame(from: &mut ReadHalf<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; protocol::LENGTH];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u32::from_be_bytes(length);
    if len > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Not allocated at once: the length may be anything.
    let mut frame = length.to_vec();
    let read = from.take(u64::from(len)).read_to_end(&mut frame).await?;
    Ok((read == len as usize).then_some(frame))
}

/// Ends a connection with a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    #[expect(
        deprecated,
        reason = "blocks on drop only for a time above zero; its successor is new in tokio 1.49"
    )]
    let _an_orderly_end_will_do = stream.set_linger(Some(Duration::ZERO));
}
