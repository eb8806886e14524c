//! `kill -9` at random instants: nothing that was promised is lost, nothing comes out of order, everything opens.
//!
//! `KAFKA_BATCHER_KILLS` sets the number of runs, `KAFKA_BATCHER_SEED` the first seed; `cargo xtask campaign kills`.

mod common;

use common::victim::{Cut, Ledger, Moment, Victim, options};
use common::{Rng, from_env};
use kafka_batcher_storage_sled::{Durability, SledStorage};

#[test]
fn the_process_that_is_killed() {
    common::victim::work();
}

#[test]
fn nothing_promised_is_lost_when_the_process_is_killed() {
    // What the operating system was given survives the process at this level, too, and there is more to interrupt when
    // nothing waits for the disk.
    let level = Durability::Os;
    let runs = from_env("KAFKA_BATCHER_KILLS", 60);
    let seed = from_env("KAFKA_BATCHER_SEED", u64::from(std::process::id()));
    println!("{runs} kills, KAFKA_BATCHER_SEED={seed}");
    let mut rng = Rng::new(seed);
    let runtime = common::runtime();
    let mut folder = tempfile::tempdir().unwrap();
    let (mut ledger, mut most, mut all) = (Ledger::default(), 0, 0);
    for run in 0..runs {
        // A new spool now and then: the first moments of one are special.
        if run % 20 == 0 {
            folder = tempfile::tempdir().unwrap();
            all += ledger.stored();
            ledger = Ledger::default();
        }
        let moment = Moment::random(&mut rng);
        let mut victim = Victim::start(folder.path(), level, run, &moment);
        victim.wait_for(&moment, &mut ledger);
        victim.kill(&mut ledger);
        let storage = SledStorage::open(options(folder.path(), level))
            .unwrap_or_else(|error| panic!("run {run}: {error}"));
        runtime.block_on(ledger.check(&storage, Cut::Process));
        most = most.max(ledger.stored());
        drop(storage);
    }
    all += ledger.stored();
    println!("{runs} kills: {all} batches stored, 0 lost, 0 out of order, 0 spools that do not open");
    assert!(most > 100, "only {most} batches were ever stored: that tests nothing");
}
