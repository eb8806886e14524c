//! The peer that is the limit: a bare loop over `rd_kafka_produceva` that does nothing with the answers but count.
#![expect(unsafe_code, reason = "the point is to have nothing between the loop and librdkafka")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "a measuring rod, not a library")]

use std::error::Error;
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, Producer};

use super::{Figures, Load, Meter};

/// A pointer that goes to another thread.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

/// Sends the load: one thread hands over, one counts reports.
pub(crate) fn run(load: &Load) -> Result<Figures, Box<dyn Error>> {
    let producer: BaseProducer = load.client().create()?;
    let rk = producer.client().native_ptr();
    let name = CString::new(load.topic.as_str())?;
    let topic = unsafe { rd::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut()) };
    let queue = Shared(unsafe { rd::rd_kafka_queue_get_main(rk) });
    // A batch's records lie one behind the other, as they do in the batcher.
    let buffer = vec![b'x'; load.size * load.batch as usize];
    let left: Vec<AtomicU32> = (0..load.lanes).map(|_| AtomicU32::new(0)).collect();
    let stop = AtomicBool::new(false);
    let failed = AtomicU32::new(0);
    let figures = std::thread::scope(|scope| {
        let (lanes, failures, end) = (&left, &failed, &stop);
        scope.spawn(move || count(queue, lanes, failures, end));
        hand_over(rk, topic, 0, &buffer, load, &left);
        wait(&left[..1]);
        let meter = Meter::start();
        let mut events = 0;
        while meter.elapsed() < load.time && failed.load(Ordering::Relaxed) == 0 {
            let mut idle = true;
            for (partition, lane) in left.iter().enumerate() {
                if lane.load(Ordering::Acquire) == 0 {
                    hand_over(rk, topic, partition as i32, &buffer, load, &left);
                    events += u64::from(load.batch);
                    idle = false;
                }
            }
            if idle {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        wait(&left);
        let figures = meter.stop(events);
        stop.store(true, Ordering::Relaxed);
        figures
    });
    unsafe {
        rd::rd_kafka_queue_destroy(queue.get());
        rd::rd_kafka_topic_destroy(topic);
    }
    if failed.into_inner() > 0 { Err("records failed".into()) } else { Ok(figures) }
}

fn wait(lanes: &[AtomicU32]) {
    while lanes.iter().any(|lane| lane.load(Ordering::Acquire) > 0) {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn hand_over(
    rk: *mut rd::rd_kafka_t,
    topic: *mut rd::rd_kafka_topic_t,
    partition: i32,
    buffer: &[u8],
    load: &Load,
    left: &[AtomicU32],
) {
    use rd::rd_kafka_vtype_t as V;
    type U = rd::rd_kafka_vu_s__bindgen_ty_1;
    left[partition as usize].store(load.batch, Ordering::Release);
    let vu = |vtype, u| rd::rd_kafka_vu_t { vtype, u };
    let mem = |ptr: *const u8, size| U {
        mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: ptr as *mut _, size },
    };
    let mut vus = [
        vu(V::RD_KAFKA_VTYPE_RKT, U { rkt: topic }),
        vu(V::RD_KAFKA_VTYPE_PARTITION, U { i32_: partition }),
        vu(V::RD_KAFKA_VTYPE_VALUE, mem(ptr::null(), 0)),
        vu(V::RD_KAFKA_VTYPE_TIMESTAMP, U { i64_: 1 }),
        vu(V::RD_KAFKA_VTYPE_OPAQUE, U { ptr: ptr::without_provenance_mut(partition as usize) }),
    ];
    for record in buffer.chunks_exact(load.size) {
        vus[2].u = mem(record.as_ptr(), record.len());
        let error = unsafe { rd::rd_kafka_produceva(rk, vus.as_ptr(), vus.len()) };
        assert!(error.is_null(), "a record was refused");
    }
}

fn count(queue: Shared<rd::rd_kafka_queue_t>, left: &[AtomicU32], failed: &AtomicU32, stop: &AtomicBool) {
    let mut messages = vec![ptr::null(); 1024];
    while !stop.load(Ordering::Relaxed) {
        unsafe {
            let event = rd::rd_kafka_queue_poll(queue.get(), 100);
            if event.is_null() {
                continue;
            }
            if rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_DR {
                loop {
                    let n = rd::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                    if n == 0 {
                        break;
                    }
                    for message in &messages[..n] {
                        left[(**message)._private.addr()].fetch_sub(1, Ordering::Release);
                        if (**message).err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
            rd::rd_kafka_event_destroy(event);
        }
    }
}
