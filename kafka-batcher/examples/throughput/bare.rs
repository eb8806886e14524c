//! The least there can be: a loop over `rd_kafka_produceva` that copies nothing, and a thread that counts the answers.
#![expect(unsafe_code, reason = "the point is to have nothing between the loop and librdkafka")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "a measuring rod, not a library")]

use std::error::Error;
use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, Producer};

use super::{Load, Meter};

/// The client's queue of answers, on its way to the thread that counts them.
struct Queue(*mut rd::rd_kafka_queue_t);

unsafe impl Send for Queue {}

pub(super) fn run(load: &Load) -> Result<(Duration, Duration), Box<dyn Error>> {
    let producer: BaseProducer = load.client().create()?;
    let rk = producer.client().native_ptr();
    let name = CString::new(load.topic.as_str())?;
    let topic = unsafe { rd::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut()) };
    let value = vec![b'x'; load.size];
    let send = |events: u64| -> Result<(), Box<dyn Error>> {
        let queue = Queue(unsafe { rd::rd_kafka_queue_get_main(rk) });
        let failed = std::thread::scope(|scope| {
            let counter = scope.spawn(move || count(&queue, events));
            for event in 0..events {
                hand_over(rk, topic, load.partition(event), &value);
            }
            counter.join()
        });
        match failed {
            Ok(0) => Ok(()),
            Ok(failed) => Err(format!("{failed} records failed").into()),
            Err(_) => Err("the counting thread panicked".into()),
        }
    };
    send(1)?;
    let meter = Meter::start();
    send(load.events)?;
    let result = meter.stop();
    unsafe { rd::rd_kafka_topic_destroy(topic) };
    Ok(result)
}

fn hand_over(rk: *mut rd::rd_kafka_t, topic: *mut rd::rd_kafka_topic_t, partition: i32, value: &[u8]) {
    use rd::rd_kafka_vtype_t as V;
    type U = rd::rd_kafka_vu_s__bindgen_ty_1;
    let vu = |vtype, u| rd::rd_kafka_vu_t { vtype, u };
    let value =
        rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: value.as_ptr() as *mut _, size: value.len() };
    let vus = [
        vu(V::RD_KAFKA_VTYPE_RKT, U { rkt: topic }),
        vu(V::RD_KAFKA_VTYPE_PARTITION, U { i32_: partition }),
        vu(V::RD_KAFKA_VTYPE_VALUE, U { mem: value }),
        vu(V::RD_KAFKA_VTYPE_TIMESTAMP, U { i64_: 1 }),
    ];
    let error = unsafe { rd::rd_kafka_produceva(rk, vus.as_ptr(), vus.len()) };
    assert!(error.is_null(), "a record was refused");
}

/// Counts `events` answers; gives how many were failures.
fn count(queue: &Queue, events: u64) -> u64 {
    let (mut left, mut failed) = (events, 0);
    let mut messages = vec![ptr::null(); 1024];
    while left > 0 {
        unsafe {
            let event = rd::rd_kafka_queue_poll(queue.0, 100);
            if event.is_null() {
                continue;
            }
            while rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_DR {
                let n = rd::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                if n == 0 {
                    break;
                }
                left -= n as u64;
                let bad = |m: &*const rd::rd_kafka_message_t| {
                    (**m).err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
                };
                failed += messages[..n].iter().filter(|m| bad(m)).count() as u64;
            }
            rd::rd_kafka_event_destroy(event);
        }
    }
    unsafe { rd::rd_kafka_queue_destroy(queue.0) };
    failed
}
