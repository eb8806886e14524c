//! What storing costs here: `cargo run --release --example measure -- FOLDER BATCHES BYTES TASKS [os]`.

use std::sync::Arc;
use std::time::Instant;

use kafka_batcher_core::{BatchBuilder, LaneId, Record, StoredBatch, TempStorage};
use kafka_batcher_storage_sled::{Durability, SledOptions, SledStorage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let mut number =
        || -> Result<usize, Box<dyn std::error::Error>> { Ok(arguments.next().ok_or("how many?")?.parse()?) };
    let (batches, bytes, tasks) = (number()?, number()?, number()?);
    let level =
        if std::env::args().any(|argument| argument == "os") { Durability::Os } else { Durability::Disk };
    let mut builder = BatchBuilder::new();
    while builder.byte_len() < bytes {
        builder.push(&Record::new(vec![7; 100]).as_ref(), 0, None, usize::MAX);
    }
    let batch = builder.seal().ok_or("no record")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let open = || SledStorage::open(SledOptions::new(&folder).quota(16 << 30).durability(level));
    let report = |what: &str, began: Instant| {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{what}: {seconds:.3} s, {:.0} batches a second, {} MiB resident",
            batches as f64 / seconds,
            resident()
        );
    };
    let mut began = Instant::now();
    let storage = Arc::new(open()?);
    report("open", began);
    began = Instant::now();
    let lane = |task: usize| LaneId::partition("topic", u32::try_from(task).unwrap_or(0));
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (storage, batch) = (Arc::clone(&storage), batch.clone());
            runtime.spawn(async move {
                for _ in 0..batches / tasks {
                    storage.append(&lane(task), StoredBatch::new(batch.clone(), false)).await?;
                }
                Ok::<_, kafka_batcher_core::StorageError>(())
            })
        })
        .collect();
    for task in running {
        runtime.block_on(task)??;
    }
    report("append", began);
    println!(
        "on the disk: {} MiB for {} MiB",
        runtime.block_on(storage.usage())?.used >> 20,
        (batches * batch.byte_len()) >> 20
    );
    drop(storage);
    began = Instant::now();
    let storage = open()?;
    report("open again", began);
    began = Instant::now();
    runtime.block_on(async {
        for task in 0..tasks {
            let mut after = None;
            loop {
                let few = storage.next_few(&lane(task), after, 1 << 20).await?;
                let Some((last, _)) = few.last() else { break };
                storage.acknowledge(&lane(task), *last).await?;
                after = Some(*last);
            }
        }
        Ok::<_, kafka_batcher_core::StorageError>(())
    })?;
    report("read and acknowledge", began);
    std::thread::sleep(std::time::Duration::from_secs(2));
    println!("on the disk: {} MiB", runtime.block_on(storage.usage())?.used >> 20);
    println!("clean: {}", storage.recovery().is_clean());
    Ok(())
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .map_or(0, |pages| (pages * 4096) >> 20)
}
