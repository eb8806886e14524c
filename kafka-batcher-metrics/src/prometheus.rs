//! The Prometheus exporter, and the HTTP endpoint it is scraped at.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use kafka_batcher_core::{Health, Observe};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use crate::names;
use crate::options::{Options, OptionsError};
use crate::readiness;
use crate::telemetry::Recorded;

/// Connections served at once; more wait.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const HEADERS_TIME: Duration = Duration::from_secs(10);
/// How long everything about one connection may take.
const CONNECTION_TIME: Duration = Duration::from_secs(120);

/// A recorder of its own, whose metrics are given out in Prometheus' text format.
#[derive(Clone)]
pub struct Exporter {
    recorded: Recorded,
    handle: PrometheusHandle,
    /// One scrape at a time, so that no other changes its figures halfway.
    scrape: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An exporter with nothing in it yet.
    ///
    /// # Errors
    /// [`OptionsError`] names the option that makes no sense.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        let mut builder = PrometheusBuilder::new();
        for (name, bounds) in options.buckets()? {
            let name = Matcher::Full(name);
            builder = builder.set_buckets_for_metric(name, bounds).map_err(|_| OptionsError::Buckets)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let upkept = handle.clone();
        let recorded = Recorded::with_upkeep(recorder, options, move || upkept.run_upkeep())?;
        Ok(Self { recorded, handle, scrape: Arc::default() })
    }

    /// What records into it: for `Builder::telemetry`, and for [consumers](Recorded::consumer).
    #[must_use]
    pub fn telemetry(&self) -> Recorded {
        self.recorded.clone()
    }

    /// The metrics now, in Prometheus' text format; all that come from a snapshot come from the same one.
    pub async fn render(&self, observer: &dyn Observe) -> String {
        let _one_at_a_time = self.scrape.lock().await;
        match observer.snapshot().await {
            Some(snapshot) => self.recorded.publish(&snapshot),
            None => self.recorded.publish_end(),
        }
        self.handle.run_upkeep();
        let options = &self.recorded.inner.source.options;
        let counted =
            ["producer", "consumer"].map(|who| format!("{}_{who}_{}", options.prefix, names::MESSAGES));
        with_count(&self.handle.render(), &counted)
    }

    /// Serves these until the server is dropped:
    ///
    /// * `/metrics`
    /// * `/healthz`: 200 as long as the batcher lives, whatever Kafka and storage are at; 503 when it has ended
    /// * `/readyz`: 200 while events of all topics are accepted without being refused or held up
    ///   ([`Health::is_ready`]), otherwise 503. The body says why, and what each topic is at; as JSON with `/readyz?format=json`
    ///
    /// Port 0 is any that is free. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address can't be listened at.
    pub async fn serve(&self, address: SocketAddr, observer: impl Observe + 'static) -> io::Result<Server> {
        self.serve_bound(std::net::TcpListener::bind(address)?, observer)
    }

    /// As [`serve`](Self::serve), at an address that is bound already: so that nothing has begun yet when it can't be.
    ///
    /// # Errors
    /// When the listener is of no use.
    pub fn serve_bound(
        &self,
        listener: std::net::TcpListener,
        observer: impl Observe + 'static,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (exporter, observer) = (self.clone(), Arc::new(observer) as Arc<dyn Observe>);
        let task = tokio::spawn(accept(listener, exporter, observer)).abort_handle();
        Ok(Server { address, task })
    }
}

/// The text with the number of observations of these histograms under its right name.
///
/// The exporter leaves out a suffix that a name ends with already: of `…_messages_count` it calls the number `…_messages_count`
/// and not `…_messages_count_count`, and for Prometheus the histogram has none then.
fn with_count(text: &str, histograms: &[String]) -> String {
    let mut mended = String::with_capacity(text.len() + 256);
    for line in text.split_inclusive('\n') {
        let after = histograms.iter().find_map(|name| Some((name, line.strip_prefix(name.as_str())?)));
        match after.filter(|(_, rest)| rest.starts_with(['{', ' '])) {
            Some((name, rest)) => mended.extend([name, "_count", rest]),
            None => mended.push_str(line),
        }
    }
    mended
}

/// An endpoint that is being served; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the endpoint ends when this is dropped"]
pub struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, exporter: Exporter, observer: Arc<dyn Observe>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No file descriptors, or a client that was gone at once: neither lasts.
                tracing::debug!(target: "kafka_batcher", %error, "the metrics endpoint could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (exporter, observer) = (exporter.clone(), Arc::clone(&observer));
        connections.spawn(async move {
            let service = service_fn(|request| {
                let (exporter, observer) = (exporter.clone(), Arc::clone(&observer));
                async move { Ok::<_, Infallible>(answer(&request, &exporter, &*observer).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_TIME)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever hangs up or takes too long is not served; that harms nobody else.
            drop(tokio::time::timeout(CONNECTION_TIME, connection).await);
            drop(permit);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    exporter: &Exporter,
    observer: &dyn Observe,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, exporter.render(observer).await),
        "/healthz" if observer.is_alive().await => text(StatusCode::OK, "alive\n".to_owned()),
        "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "ended\n".to_owned()),
        "/readyz" => readiness(observer.snapshot().await.map(|snapshot| snapshot.health()), request.uri()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

/// Whether events are taken, and why not; `None` for a batcher that has ended.
fn readiness(health: Option<Health>, uri: &Uri) -> Response<Full<Bytes>> {
    let is_ready = health.as_ref().is_some_and(Health::is_ready);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "format=json")) {
        let mut response = text(status, format!("{}\n", readiness::json(health.as_ref())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    } else {
        text(status, readiness::text(health.as_ref()))
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka_batcher_core::{LaneId, Snapshot, Telemetry};

    use super::*;

    #[derive(Debug)]
    struct Nothing;

    #[async_trait::async_trait]
    impl Observe for Nothing {
        async fn snapshot(&self) -> Option<Snapshot> {
            None
        }
    }

    #[tokio::test]
    async fn a_histogram_whose_name_ends_with_count_has_a_count() {
        let exporter = Exporter::new(&Options::default()).unwrap();
        exporter.telemetry().delivered(&LaneId::partition("t", 0), 7, 100, Duration::from_millis(1), None);
        let text = exporter.render(&Nothing).await;
        let name = "kafka_batcher_producer_batch_messages_count";
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("{name}_count{{")) && line.ends_with(" 1")),
            "{lines:?}"
        );
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{name}{{"))), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("_bucket{")).count(), 10, "{lines:?}");
        assert!(text.contains("kafka_batcher_producer_duration_seconds_count{"));
    }
}
