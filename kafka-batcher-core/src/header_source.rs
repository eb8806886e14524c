//! The seam by which records get headers that the application does not write itself.

use crate::record::{HeaderRef, RecordRef};

/// The header of a W3C trace context: version, trace id, span id, flags.
///
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
pub const TRACEPARENT_HEADER: &str = "traceparent";
/// The header of a W3C trace context that carries what vendors add to it.
///
/// <https://www.w3.org/TR/trace-context/#tracestate-header>
pub const TRACESTATE_HEADER: &str = "tracestate";

/// Gives records headers as they are accepted: the trace context of whoever adds them, for example.
///
/// Called in the task that adds the event, on the hot path: it should be quick and not allocate. A panic in it hands the
/// event back. Headers count towards `max_batch_bytesize` and memory as those of the record do.
pub trait HeaderSource: Send + Sync {
    /// Calls `add` with the headers that are to stand behind those of `record`; once, and with none if there are none.
    ///
    /// It is borrowed, so that what is made up for one record can live on the stack. Only the first call counts; if there
    /// is none, the record gets no headers.
    fn with_headers(&self, topic: &str, record: &RecordRef<'_>, add: &mut dyn FnMut(&[HeaderRef<'_>]));
}
