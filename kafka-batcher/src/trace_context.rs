//! The trace context of whoever adds an event, in the headers of its record.

use std::io::Write;

use kafka_batcher_core::record::HeaderRef;
use kafka_batcher_core::{HeaderSource, RecordRef, TRACEPARENT_HEADER, TRACESTATE_HEADER};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};

/// Puts the trace context of whoever adds an event into its record: the headers `traceparent` and, if there is a state,
/// `tracestate` of [W3C Trace Context](https://www.w3.org/TR/trace-context/). A consumer goes on with the trace from
/// there, with the propagator of its OpenTelemetry library.
///
/// The context is OpenTelemetry's current one (crate `opentelemetry` 0.33). With `tracing`, a layer of
/// `tracing-opentelemetry` 0.34 sees to it that it is that of the current span, as long as its
/// `with_context_activation` stays on. A record that has a `traceparent` keeps that and gets none, and so does one that
/// is added outside of any trace. Each header counts towards the size of the record: 68 bytes for `traceparent`.
///
/// ```
/// use kafka_batcher::{KafkaBatcher, TraceContext};
///
/// let builder = KafkaBatcher::builder().header_source(TraceContext::new());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TraceContext;

impl TraceContext {
    /// For all topics.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Length of a `traceparent` of version 00.
const LEN: usize = 55;

impl HeaderSource for TraceContext {
    fn with_headers(&self, _topic: &str, record: &RecordRef<'_>, add: &mut dyn FnMut(&[HeaderRef<'_>])) {
        let has_one = || record.headers.iter().any(|header| header.name == TRACEPARENT_HEADER);
        let current = Context::map_current(|context| {
            let span = context.span();
            let current = span.span_context();
            let wanted = current.is_valid() && !has_one();
            wanted.then(|| (traceparent(current), current.trace_state().header()))
        });
        // Not while the context is borrowed: what follows is the application's code, too.
        match &current {
            None => add(&[]),
            Some((parent, state)) => {
                let parent = HeaderRef { name: TRACEPARENT_HEADER, value: Some(parent) };
                let state = HeaderRef { name: TRACESTATE_HEADER, value: Some(state.as_bytes()) };
                let all = [parent, state];
                add(if state.value == Some(b"") { &all[..1] } else { &all });
            }
        }
    }
}

fn traceparent(context: &SpanContext) -> [u8; LEN] {
    let mut text = [b'0'; LEN];
    let (trace, span) = (context.trace_id(), context.span_id());
    // It fits: the length is that of what is written.
    write!(&mut text[..], "00-{trace}-{span}-{:02x}", context.trace_flags().to_u8()).ok();
    text
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn context(state: TraceState) -> Context {
        let trace = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
        let span = SpanId::from_hex("b7ad6b7169203331").unwrap();
        Context::new().with_remote_span_context(SpanContext::new(
            trace,
            span,
            TraceFlags::SAMPLED,
            true,
            state,
        ))
    }

    fn headers(record: &kafka_batcher_core::Record) -> Vec<String> {
        let mut seen = Vec::new();
        TraceContext.with_headers("t", &record.as_ref(), &mut |headers| {
            seen.extend(headers.iter().map(|header| {
                format!("{}: {}", header.name, String::from_utf8_lossy(header.value.unwrap()))
            }));
        });
        seen
    }

    #[test]
    fn the_context_is_written_as_the_specification_says() {
        let record = kafka_batcher_core::Record::new("v");
        assert_eq!(headers(&record), [""; 0], "no trace, no header");
        let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        {
            let _in_trace = context(TraceState::default()).attach();
            assert_eq!(headers(&record), [parent]);
            let has_one = record.clone().with_header("traceparent", "its own");
            assert_eq!(headers(&has_one), [""; 0]);
        }
        let _in_trace = context(TraceState::from_key_value([("vendor", "1")]).unwrap()).attach();
        assert_eq!(headers(&record), [parent, "tracestate: vendor=1"]);
    }
}
