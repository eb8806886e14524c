//! Damage: what is readable in a damaged generation goes to a new one, and the old one is put aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Engine;
use super::space::Group;
use crate::TARGET;
use crate::folder;
use crate::generation::{Generation, GenerationError};
use crate::record::Place;
use crate::scan::Index;

impl Engine {
    /// Repairs a generation that a reader found damaged, unless that was done already.
    pub(crate) fn repair(&self, number: u64, why: &str) -> Result<(), GenerationError> {
        let writer = self.writer();
        let repaired = self.repair_generation(number, why);
        drop(writer);
        repaired
    }

    /// As [`repair`](Self::repair), for who holds the writer.
    pub(super) fn repair_generation(&self, number: u64, why: &str) -> Result<(), GenerationError> {
        let mut state = self.state();
        let Some(old) = state.generations.iter().find(|generation| generation.number == number).cloned()
        else {
            return Ok(());
        };
        state.current.take_if(|current| current.number == number);
        drop(state);
        let saved = self.salvage(old.dir(), why)?;
        let mut state = self.state();
        state.generations.retain(|generation| generation.number != number);
        state.open.retain(|generation| generation.number != number);
        if let Some(saved) = saved {
            state.generations.insert(0, saved);
        }
        drop(state);
        old.abandon();
        self.put_aside(old.dir());
        Ok(())
    }

    /// What is still readable in a damaged folder, in a new generation; `None` when nothing is needed of it.
    pub(super) fn salvage(&self, dir: &Path, why: &str) -> Result<Option<Arc<Generation>>, GenerationError> {
        tracing::error!(target: TARGET, folder = %dir.display(), why, "a part of the storage is damaged; saving what is readable");
        let index = self.index(dir)?;
        let count = index.places().count() as u64;
        if count == 0 {
            return Ok(None);
        }
        let target = self.begin()?;
        let mut group = Group::new(&target);
        let saved = index.each(|record| group.push(record));
        if let Err(error) = saved.and_then(|()| group.end()).and_then(|()| target.seal()) {
            target.abandon();
            drop(folder::delete_dir(target.dir()));
            return Err(error);
        }
        self.state().recovery.salvaged += count;
        Ok(Some(target))
    }

    /// Where in a folder's files the records are that somebody needs.
    fn index(&self, dir: &Path) -> Result<Index, GenerationError> {
        let mut index = Index::default();
        index.add_dir(dir, |place: Place| self.state().is_live(place))?;
        Ok(index)
    }

    /// Whether a folder has records, needed by somebody, that the generation made of it has not.
    pub(super) fn has_more(&self, dir: &Path, generation: &Generation) -> Result<bool, GenerationError> {
        for Place { kind, lane, seq } in self.index(dir)?.places() {
            if generation.find(kind, lane, seq - 1, seq)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Renames a damaged folder.
    pub(super) fn put_aside(&self, dir: &Path) -> PathBuf {
        let (mut state, moved) = (self.state(), folder::quarantine(dir));
        match moved {
            Ok(to) => {
                state.recovery.quarantined.push(to.clone());
                to
            }
            Err(error) => {
                tracing::warn!(target: TARGET, %error, folder = %dir.display(), "a damaged folder is not put aside");
                dir.to_path_buf()
            }
        }
    }
}
