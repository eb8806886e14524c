//! lane
/// h
pub const SEQUENCE_HEADER: &str = "kafka-batcher-sequence";
