//! Handles of metrics, with their labels.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use crate::options::Options;

/// Where handles come from.
#[derive(Clone)]
pub(crate) struct Source {
    /// The application's global one if there is none.
    recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    pub(crate) options: Options,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("options", &self.options).finish_non_exhaustive()
    }
}

const METADATA: Metadata<'static> = Metadata::new("kafka_batcher", Level::INFO, None);

impl Source {
    pub(crate) fn new(recorder: Option<Arc<dyn Recorder + Send + Sync>>, options: Options) -> Self {
        Self { recorder, options }
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.recorder {
            Some(recorder) => work(recorder),
            None => metrics::with_recorder(work),
        }
    }

    fn key(&self, name: &str, labels: Vec<Label>) -> Key {
        Key::from_parts(format!("{}_{name}", self.options.prefix), labels)
    }

    pub(crate) fn counter(&self, name: &str, labels: Vec<Label>) -> Counter {
        self.with(|recorder| recorder.register_counter(&self.key(name, labels), &METADATA))
    }

    pub(crate) fn gauge(&self, name: &str, labels: Vec<Label>) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&self.key(name, labels), &METADATA))
    }

    pub(crate) fn histogram(&self, name: &str, labels: Vec<Label>) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&self.key(name, labels), &METADATA))
    }

    /// The labels of a topic.
    pub(crate) fn topic(&self, topic: &str) -> Vec<Label> {
        let alias = self.options.aliases.get(topic).map_or(topic, String::as_str);
        vec![Label::new("topic", topic.to_owned()), Label::new("topic_alias", alias.to_owned())]
    }

    /// The labels of a partition, or of its topic if that is all that is wanted.
    pub(crate) fn partition(&self, topic: &str, partition: Option<u32>) -> Vec<Label> {
        let mut labels = self.topic(topic);
        if self.options.partition_labels {
            let partition = partition.map_or_else(|| "none".to_owned(), |partition| partition.to_string());
            labels.push(Label::new("partition", partition));
        }
        labels
    }
}

/// The labels, and one more.
pub(crate) fn and(mut labels: Vec<Label>, name: &'static str, value: &'static str) -> Vec<Label> {
    labels.push(Label::new(name, value));
    labels
}
