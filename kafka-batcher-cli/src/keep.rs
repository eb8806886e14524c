//! Where events are until Kafka has them: in memory, or in a spool, which survives the end of the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_batcher::{DeadLetter, MemoryStorage, TempStorage};

/// The storage of a run, and what was in it before.
#[derive(Debug)]
pub(crate) struct Keep {
    storage: Arc<dyn TempStorage>,
    dead_letter: Option<Arc<dyn DeadLetter>>,
    spool: Option<PathBuf>,
    /// Events of the topic that an earlier run left.
    pub(crate) found: u64,
    /// Events of other topics, which stay.
    pub(crate) others: u64,
    /// Events that were stored and are gone: the disk is damaged, or somebody was at the files.
    pub(crate) damaged: u64,
}

impl Keep {
    /// In memory, up to so many bytes.
    pub(crate) fn in_memory(bytes: u64) -> Self {
        let storage = Arc::new(MemoryStorage::new(bytes));
        Self { storage, dead_letter: None, spool: None, found: 0, others: 0, damaged: 0 }
    }

    /// In a spool, which nobody else may have.
    ///
    /// # Errors
    /// Why it can't be used.
    #[cfg(feature = "sled")]
    pub(crate) async fn in_spool(
        options: kafka_batcher::sled::SledOptions,
        topic: &str,
    ) -> Result<Self, String> {
        let path = options.path().to_path_buf();
        let storage =
            kafka_batcher::sled::SledStorage::open(options).map_err(|e| crate::spool::refusal(&e))?;
        let storage = Arc::new(storage);
        let recovery = storage.recovery();
        let mut keep = Self {
            storage: storage.clone(),
            dead_letter: Some(storage),
            spool: Some(path),
            found: 0,
            others: 0,
            damaged: recovery.lost_events + recovery.lost_dead_letters,
        };
        let lanes = keep.storage.lanes().await.map_err(|e| e.to_string())?;
        for lane in lanes {
            *(if &*lane.id.topic == topic { &mut keep.found } else { &mut keep.others }) += lane.events;
        }
        Ok(keep)
    }

    pub(crate) fn storage(&self) -> Arc<dyn TempStorage> {
        Arc::clone(&self.storage)
    }

    /// Where dead letters go, if not to memory.
    pub(crate) fn dead_letter(&self) -> Option<Arc<dyn DeadLetter>> {
        self.dead_letter.clone()
    }

    pub(crate) fn spool(&self) -> Option<&Path> {
        self.spool.as_deref()
    }

    /// Events of the topic that are durably stored now.
    pub(crate) async fn held(&self, topic: &str) -> u64 {
        if !self.storage.is_durable() {
            return 0;
        }
        let lanes = self.storage.lanes().await.unwrap_or_default();
        lanes.iter().filter(|lane| &*lane.id.topic == topic).map(|lane| lane.events).sum()
    }
}
