//! Power cuts: the disk as it was at a random instant, with all that was not yet forced to it gone. Nothing that was
//! promised at level `disk` is lost, and everything opens at either level.
//!
//! The spool is on an ext4 on an image. The process that uses it is stopped, the image is copied, and the copy is mounted: the
//! next process goes on with that. Needs root. `KAFKA_BATCHER_POWER_CUTS` sets the number of runs, `KAFKA_BATCHER_SEED` the
//! first seed; `cargo xtask campaign power-cuts`.

mod common;

use std::path::Path;

use common::disk::{Disk, Memory};
use common::victim::{Cut, Ledger, Moment, Victim, options};
use common::{MIB, Rng, from_env};
use kafka_batcher_storage_sled::{Durability, SledStorage};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

const IMAGE: u64 = 48 * MIB;

#[test]
fn the_process_that_is_killed() {
    common::victim::work();
}

/// A place for images, or why there is none.
fn images() -> Result<Memory, String> {
    let images = Memory::new(4 * IMAGE)?;
    let empty = images.path().join("empty");
    Disk::format(&empty, IMAGE)?;
    // Whether the machine can do it at all.
    Disk::mount(&empty)?;
    Ok(images)
}

/// Stops all threads of the process, those in a system call at the end of it. Whether it was still running.
fn stop(victim: &Victim) -> bool {
    let pid = Pid::from_child(&victim.child);
    kill_process(pid, Signal::STOP).unwrap();
    // Whoever kills it later has to find it, even if it has ended.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).unwrap().unwrap().stopped()
}

#[derive(Debug, Default)]
struct Sum {
    cuts: u64,
    stored: usize,
    /// The file system kept writing, so that there was no state to copy.
    uncopied: u64,
    /// At level `os`, where that is allowed.
    lost_at_level_os: u64,
}

#[test]
fn nothing_promised_is_lost_when_the_power_is_cut() {
    let images = match images() {
        Ok(images) => images,
        Err(why) => {
            println!("SKIPPED nothing_promised_is_lost_when_the_power_is_cut: no disk to cut off: {why}");
            return;
        }
    };
    let runs = from_env("KAFKA_BATCHER_POWER_CUTS", 20);
    let seed = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("{runs} power cuts, KAFKA_BATCHER_SEED={seed}");
    let (mut rng, mut sum) = (Rng::new(seed), Sum::default());
    let (empty, now, next) =
        (images.path().join("empty"), images.path().join("now"), images.path().join("next"));
    let (mut ledger, mut level) = (Ledger::default(), Durability::Disk);
    // Some have ended before they can be cut off.
    for run in 0.. {
        if sum.cuts == runs {
            break;
        }
        assert!(run < 20 + 3 * runs, "{sum:?}: that tests too little");
        if run % 5 == 0 {
            sum.stored += ledger.stored();
            ledger = Ledger::default();
            std::fs::copy(&empty, &now).unwrap();
            // The last spool of four is at the other level.
            level = if run / 5 % 4 == 3 { Durability::Os } else { Durability::Disk };
        }
        let disk = Disk::mount(&now).unwrap();
        let moment = Moment::random(&mut rng);
        let mut victim = Victim::start(&disk.path().join("spool"), level, run, &moment);
        victim.wait_for(&moment, &mut ledger);
        let is_cut = stop(&victim).then(|| disk.cut(&next)).flatten().is_some();
        victim.kill(&mut ledger);
        if !is_cut {
            // It had ended before, or there was no quiet moment: then it is only a kill.
            sum.uncopied += 1;
            check(disk.path(), level, Cut::Process, &mut ledger, &mut sum, run);
            continue;
        }
        drop(disk);
        std::fs::rename(&next, &now).unwrap();
        let disk = Disk::mount(&now).unwrap_or_else(|error| panic!("run {run}: the file system: {error}"));
        check(disk.path(), level, Cut::Power, &mut ledger, &mut sum, run);
        sum.cuts += 1;
    }
    sum.stored += ledger.stored();
    println!("{runs} power cuts: {sum:?}: 0 lost at level `disk`, 0 spools that do not open");
    assert!(runs < 10 || sum.stored > 100, "{sum:?}: that tests nothing");
}

fn check(disk: &Path, level: Durability, cut: Cut, ledger: &mut Ledger, sum: &mut Sum, run: u64) {
    let opened = SledStorage::open(options(&disk.join("spool"), level));
    let storage = opened.unwrap_or_else(|error| panic!("run {run}, level {level:?}: {error}"));
    let runtime = common::runtime();
    if level == Durability::Os {
        sum.lost_at_level_os += runtime.block_on(ledger.check_what_is_left(&storage));
    } else {
        runtime.block_on(ledger.check(&storage, cut));
    }
}
