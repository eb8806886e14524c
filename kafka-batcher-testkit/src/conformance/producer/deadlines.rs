//! Calls end in time, and say truly whether something was written.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use kafka_batcher_core::{ErrorKind, Failed, Persistence};
use tokio::net::TcpSocket;

use super::ProducerFixture;
use super::rig::{LONG, Rig, SHORT, batch, error, failure, numbered, numbers, shown, shown_failure, within};
use crate::conformance::{Outcome, Skip};
use crate::proxy::{Side, Swallow};

/// A task that waits so long for its turn is kept from it by a call, and not by a busy machine.
const BLOCKED: Duration = Duration::from_millis(1500);

/// Nobody listens: every call ends in time, and nothing was written.
pub async fn a_refused_port_ends_in_time(fixture: &dyn ProducerFixture) -> Outcome {
    let nobody = nobody()?;
    unreachable(fixture, &address(nobody.local_addr())?).await
}

/// Somebody accepts connections and never says a word: every call ends in time, and nothing was written.
pub async fn a_black_hole_ends_in_time(fixture: &dyn ProducerFixture) -> Outcome {
    let hole = listen()?;
    unreachable(fixture, &address(hole.local_addr())?).await
}

async fn unreachable(fixture: &dyn ProducerFixture, address: &str) -> Outcome {
    let rig = Rig::at(fixture, fixture.config_at(address)?, 1, SHORT, |topic| topic).await?;
    // Before connect, too: nothing says that it was called.
    let records = numbers(0, 10);
    let sent = failure(rig.try_produce(0, batch(records.clone()), SHORT).await, "to nobody");
    assert_never_left(&sent);
    let producer = &rig.producer;
    let connected = error(within(SHORT, "connect", producer.connect(SHORT)).await, "to nobody");
    assert_eq!(connected.kind(), ErrorKind::Transient, "{}", shown(Some(connected)));
    let counted = within(SHORT, "partition_count", producer.partition_count(rig.name(), SHORT)).await;
    let counted = error(counted, "asking nobody");
    assert_eq!(counted.kind(), ErrorKind::Transient, "{}", shown(Some(counted)));
    let created =
        error(within(SHORT, "create_topic", producer.create_topic(&rig.topic, SHORT)).await, "by nobody");
    assert_eq!(created.kind(), ErrorKind::Transient, "{}", shown(Some(created)));
    let sent = failure(rig.try_produce(0, batch(records.clone()), SHORT).await, "to nobody");
    assert_never_left(&sent);
    rig.assert_true(0, 0, &records, &sent).await;
    within(SHORT, "close", producer.close(SHORT)).await;
    Ok(())
}

fn assert_never_left(sent: &kafka_batcher_core::ProduceFailure) {
    let shown = shown_failure(sent);
    assert_eq!(sent.error.kind(), ErrorKind::Transient, "{shown}");
    assert_eq!((sent.persistence, &sent.failed), (Persistence::NotPersisted, &Failed::All), "{shown}");
}

/// The batch is written and the answer lost: the call ends in time and says that nobody knows.
pub async fn a_swallowed_answer_leaves_it_open_what_was_written(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    proxy.swallow(Swallow::Produce);
    let records = numbers(1, 10);
    let sent = failure(rig.try_produce(0, batch(records), SHORT).await, "and the answer was lost");
    assert!(proxy.counts().swallowed > 0, "no answer was swallowed: {:?}", proxy.counts());
    let shown = shown_failure(&sent);
    assert_eq!(sent.error.kind(), ErrorKind::Transient, "{shown}");
    assert_eq!(sent.persistence, Persistence::MaybePersisted, "it is in the log: {shown}");
    // At least what the first request of the batch held: a client that makes several of it may have waited for the answer.
    let read = rig.read(0).await;
    assert!(read.len() > 1, "it was written: {}", read.len());
    Ok(())
}

/// Requests are stuck on their way: the call ends in time, and what it says of them stays true when they get through.
pub async fn stalled_requests_end_in_time_and_are_tagged_rightly(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    proxy.stall(Side::Requests);
    let records = numbers(1, 10);
    let sent = failure(rig.try_produce(0, batch(records.clone()), SHORT).await, "and nothing got through");
    assert_eq!(sent.error.kind(), ErrorKind::Transient, "{}", shown_failure(&sent));
    proxy.resume(Side::Requests);
    rig.assert_true(0, 1, &records, &sent).await;
    Ok(())
}

/// A broker that took connections and answers no more holds up no other call either.
pub async fn a_hung_broker_holds_up_no_metadata_call(fixture: &dyn ProducerFixture) -> Outcome {
    let (rig, proxy) = proxied(fixture, SHORT).await?;
    proxy.stall(Side::Answers);
    let producer = &rig.producer;
    let connected = error(within(SHORT, "connect", producer.connect(SHORT)).await, "to a hung broker");
    assert_eq!(connected.kind(), ErrorKind::Transient, "{}", shown(Some(connected)));
    let counted = within(SHORT, "partition_count", producer.partition_count(rig.name(), SHORT)).await;
    let counted = error(counted, "asking a hung broker");
    assert_eq!(counted.kind(), ErrorKind::Transient, "{}", shown(Some(counted)));
    let created = within(SHORT, "create_topic", producer.create_topic(&rig.topic, SHORT)).await;
    let created = error(created, "by a hung broker");
    assert_eq!(created.kind(), ErrorKind::Transient, "{}", shown(Some(created)));
    proxy.heal();
    rig.connect().await;
    rig.produce(0, numbered(1, 1)).await;
    Ok(())
}

/// No time at all, and next to none.
pub async fn the_shortest_timeouts_hold(fixture: &dyn ProducerFixture) -> Outcome {
    let rig = Rig::new(fixture, 3).await?;
    // Each has a partition of its own: what is in doubt may be written while the next is looked for.
    for (partition, millis) in (0..).zip([0, 1, 5]) {
        let timeout = Duration::from_millis(millis);
        rig.produce(partition, numbered(0, 1)).await;
        let records = numbers(1000, 3000);
        match rig.try_produce(partition, batch(records.clone()), timeout).await {
            Ok(_) => assert_eq!(rig.read(partition).await.len(), 1 + records.len()),
            Err(sent) => {
                assert_eq!(sent.error.kind(), ErrorKind::Transient, "{}", shown_failure(&sent));
                rig.assert_true(partition, 1, &records, &sent).await;
            }
        }
        drop(within(timeout, "connect", rig.producer.connect(timeout)).await);
        drop(within(timeout, "partition_count", rig.producer.partition_count(rig.name(), timeout)).await);
    }
    // It is none the worse for it.
    rig.connect().await;
    rig.produce(0, numbered(1, 1)).await;
    // And where there is no answer.
    let (rig, proxy) = match proxied(fixture, LONG).await {
        Ok(proxied) => proxied,
        Err(_no_network) => return Ok(()),
    };
    proxy.stall(Side::Answers);
    for millis in [0, 1, 50] {
        let timeout = Duration::from_millis(millis);
        let sent = failure(rig.try_produce(0, numbered(1, 3000), timeout).await, "and no answer came");
        assert_eq!(sent.error.kind(), ErrorKind::Transient, "{}", shown_failure(&sent));
        error(within(timeout, "connect", rig.producer.connect(timeout)).await, "and no answer came");
        let counted = rig.producer.partition_count(rig.name(), timeout);
        error(within(timeout, "partition_count", counted).await, "and no answer came");
    }
    Ok(())
}

/// While a call waits for somebody who never answers, other tasks of the same thread run.
pub async fn waiting_does_not_block_the_executor(fixture: &dyn ProducerFixture) -> Outcome {
    let hole = listen()?;
    let rig =
        Rig::at(fixture, fixture.config_at(&address(hole.local_addr())?)?, 1, SHORT, |topic| topic).await?;
    let (producer, request) = (std::sync::Arc::clone(&rig.producer), rig.request(0, numbered(0, 10)));
    let (done, ticks) = tokio::sync::oneshot::channel();
    // A runtime with one thread, where a call that blocks is noticed.
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let counted = runtime.block_on(async {
            let mut gaps = Gaps::new();
            tokio::select! {
                _answer = async {
                    drop(producer.connect(SHORT).await);
                    drop(producer.produce(&request, SHORT).await);
                } => {}
                () = gaps.watch() => {}
            }
            gaps
        });
        let _nobody_waits_any_more = done.send((counted.ticks, counted.longest));
        runtime.shutdown_background();
    });
    let answer = tokio::time::timeout(LONG, ticks).await;
    #[expect(clippy::panic, reason = "that is how a case fails")]
    let Ok(Ok((ticks, longest))) = answer else { panic!("the calls did not end") };
    assert!(longest < BLOCKED, "other tasks had to wait {longest:?}, with {ticks} turns");
    Ok(())
}

/// How long a task had to wait for its turn.
struct Gaps {
    ticks: u32,
    longest: Duration,
    last: Instant,
}

impl Gaps {
    fn new() -> Self {
        Self { ticks: 0, longest: Duration::ZERO, last: Instant::now() }
    }

    async fn watch(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.longest = self.longest.max(self.last.elapsed());
            self.last = Instant::now();
            self.ticks += 1;
        }
    }
}

/// A rig that reaches the broker through a proxy, connected, with one record delivered.
pub(super) async fn proxied(
    fixture: &dyn ProducerFixture,
    produce_timeout: Duration,
) -> Result<(Rig<'_>, crate::proxy::FaultProxy), Skip> {
    fixture.ready()?;
    let proxy = fixture.proxy()?;
    let config = fixture.config_at(proxy.bootstrap())?;
    let rig = Rig::at(fixture, config, 1, produce_timeout, |topic| topic).await?;
    rig.connect().await;
    rig.produce(0, numbered(0, 1)).await;
    Ok((rig, proxy))
}

/// Bound and not listening: connections are refused, and nobody else gets the port meanwhile.
pub(super) fn nobody() -> Result<TcpSocket, Skip> {
    let socket = TcpSocket::new_v4().map_err(no_port)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(no_port)?;
    Ok(socket)
}

/// Connections are accepted by the system, and nobody looks at them.
pub(super) fn listen() -> Result<TcpListener, Skip> {
    TcpListener::bind("127.0.0.1:0").map_err(no_port)
}

pub(super) fn address(bound: io::Result<SocketAddr>) -> Result<String, Skip> {
    Ok(bound.map_err(no_port)?.to_string())
}

fn no_port(error: io::Error) -> Skip {
    Skip::new(format!("no port can be had: {error}"))
}
