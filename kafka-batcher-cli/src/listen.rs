//! `--listen`: metrics and health checks over HTTP.

use std::net::TcpListener;

use kafka_batcher::metrics::Options;
use kafka_batcher::metrics::prometheus::{Exporter, Server};
use kafka_batcher::{Builder, KafkaBatcher, KafkaConfig};

use crate::args::ListenArgs;
use crate::console::Console;

/// An address that is taken, before anything has begun.
#[derive(Debug)]
pub(crate) struct Listen {
    exporter: Exporter,
    listener: TcpListener,
}

impl Listen {
    /// Takes the address, if there is to be one.
    ///
    /// # Errors
    /// Why it can't be had, or what is wrong with the options.
    pub(crate) fn bind(args: &ListenArgs, config: &KafkaConfig) -> Result<Option<Self>, String> {
        let Some(address) = &args.address else { return Ok(None) };
        let options = Options::of(config).prefix(&args.prefix).partition_labels(!args.no_partition_labels);
        let exporter = Exporter::new(&options).map_err(|e| e.to_string())?;
        let listener = TcpListener::bind(address.as_str())
            .map_err(|e| format!("can't listen at {address}: {e}; --listen takes HOST:PORT"))?;
        Ok(Some(Self { exporter, listener }))
    }

    /// Has the batcher counted.
    pub(crate) fn counts(&self, builder: Builder) -> Builder {
        builder.telemetry(self.exporter.telemetry())
    }

    /// Answers from now on until the server is dropped, and says where.
    ///
    /// # Errors
    /// Why it can't.
    pub(crate) fn serve(self, batcher: &KafkaBatcher, console: &Console) -> Result<Server, String> {
        let server = self
            .exporter
            .serve_bound(self.listener, batcher.observer())
            .map_err(|e| format!("can't listen: {e}"))?;
        console.note(format_args!("metrics and health checks at http://{}", server.address()));
        Ok(server)
    }
}
