//! What a seed means: settings, faults, and what the application does when.

use std::num::NonZeroU32;
use std::time::Duration;

use kafka_batcher_core::config::{
    Durability, KafkaConfig, OnStorageFull, OnUnavailable, Timing, TopicConfig, TopicSettings,
};
use kafka_batcher_core::{Moment, PartitionStrategy};

use super::dice::Dice;

/// Everything about a run that is fixed before it begins.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topic: TopicConfig,
    pub(crate) timing: Timing,
    pub(crate) memory_events: usize,
    pub(crate) window: u32,
    pub(crate) durable: bool,
    pub(crate) journal: bool,
    /// A key determines the partition.
    pub(crate) keyed: bool,
    pub(crate) partitions: u32,
    /// The topic is there from the start.
    pub(crate) exists: bool,
    /// The broker's own limit of a batch, in bytes.
    pub(crate) broker_limit: usize,
    /// Kafka tells offsets.
    pub(crate) offsets: bool,
    /// Kafka says which record of a refused batch was at fault.
    pub(crate) names_culprits: bool,
    /// Longest time of a healthy call, in microseconds.
    pub(crate) kafka_latency: u64,
    pub(crate) storage_latency: u64,
    /// Events in a hundred that Kafka will never take.
    pub(crate) poison: u64,
    pub(crate) largest_value: u64,
    /// Events a second of what was stored.
    pub(crate) replay_rate: Option<NonZeroU32>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) script: Vec<(Moment, Op)>,
    /// From here on everything works.
    pub(crate) end: Moment,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Moment,
    pub(crate) until: Moment,
    pub(crate) trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No broker answers.
    Outage,
    /// One partition has no leader; the others work.
    Leaderless(u32),
    /// Not authorised.
    Denied,
    /// So many produce calls in a hundred go wrong, each in its own way.
    Flaky(u64),
    /// Partition counts can't be had.
    Metadata,
    /// Everything Kafka does takes up to fifty times as long.
    Slow,
    StorageFull,
    /// So many storage calls in a hundred fail.
    StorageFlaky(u64),
    DeadLetters,
}

/// What happens at a moment of the script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// The application adds so many events.
    Add(u64),
    Flush,
    /// The process dies.
    Crash,
    /// The process ends as it should, with so much time for it.
    Shutdown(Duration),
    /// The client breaks: each call fails until it is connected anew.
    BreakClient,
    /// The topic gets so many more partitions.
    Grow(u32),
    /// The wall clock is set by so many milliseconds.
    SetClock(i64),
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let end = dice.between(2_000, 15_000);
        let partitions = dice.between(1, 5) as u32;
        let recheck = dice.millis(20, 2000);
        let config = KafkaConfig::new("kafka:9092")
            .produce_timeout(dice.millis(50, 1500))
            .connect_timeout(dice.millis(20, 500))
            .retry_backoff(dice.millis(1, 40).min(recheck))
            .recheck_interval(recheck)
            .partitions_refresh(dice.millis(200, 4000));
        let strategy = dice.between(0, 8);
        let (strategy, keyed) = match strategy {
            0 => (PartitionStrategy::Random, false),
            1 => (PartitionStrategy::Sticky, false),
            2 => (PartitionStrategy::RoundRobin, false),
            3 => (PartitionStrategy::Murmur2, true),
            4 => (PartitionStrategy::Crc32, true),
            5 => (PartitionStrategy::Fnv1a, true),
            6 => (PartitionStrategy::Phash2, true),
            _ => (PartitionStrategy::function(misrouting), true),
        };
        let max_bytes = dice.pick(&[256, 420, 1_000, 10_000, 1_000_000]);
        let min_delay = if dice.chance(25) { dice.millis(1, 200) } else { Duration::ZERO };
        let topic = TopicSettings::new("t")
            .collect_by_partition(dice.chance(50))
            .partition_strategy(strategy)
            .batch_size(dice.between(1, 12) as u32)
            .max_wait_time(dice.millis(0, 300))
            .min_delay(min_delay)
            .max_batch_bytesize(max_bytes)
            .allow_topic_auto_creation(dice.chance(50))
            .sequence_header(dice.chance(30))
            .reconcile(dice.chance(35))
            .durability(if dice.chance(25) { Durability::Journal } else { Durability::Memory })
            .on_storage_full(if dice.chance(40) { OnStorageFull::Reject } else { OnStorageFull::Block })
            .on_unavailable(if dice.chance(15) { OnUnavailable::Reject } else { OnUnavailable::Store });
        let config = config.with_topic(topic);
        config.validate().expect("the plan's settings are legal");
        let topic = config.topics().expect("the plan's settings are legal").remove(0);
        let broker_limit =
            if dice.chance(20) { dice.between(180, max_bytes as u64) as usize } else { usize::MAX };
        let journal = topic.durability == Durability::Journal;
        let plan = Self {
            journal,
            exists: !topic.allow_topic_auto_creation || dice.chance(50),
            topic,
            timing: config.timing(),
            memory_events: if dice.chance(15) { dice.between(5, 60) as usize } else { usize::MAX },
            window: if dice.chance(25) { 3 } else { 1 },
            durable: journal || dice.chance(70),
            keyed,
            partitions,
            broker_limit,
            offsets: dice.chance(80),
            names_culprits: dice.chance(50),
            kafka_latency: dice.between(100, 30_000),
            storage_latency: dice.between(10, 10_000),
            poison: if dice.chance(20) { dice.between(1, 10) } else { 0 },
            largest_value: dice.pick(&[0, 30, 60, 300]),
            replay_rate: None,
            faults: Vec::new(),
            script: Vec::new(),
            end: Moment::from_millis(end),
        };
        let faults = if dice.chance(10) { 0 } else { dice.between(1, 6) };
        let faults = (0..faults).map(|_| Fault::new(&mut dice, end, partitions)).collect();
        let script = script(&mut dice, end);
        let mut plan = Self { faults, script, ..plan };
        if dice.chance(30) {
            plan.topic.max_age = Some(Duration::from_millis(dice.between(300, 6000)));
            if dice.chance(30) {
                let at = Moment::from_millis(dice.between(0, end));
                plan.script.push((at, Op::SetClock(dice.between(0, 8000) as i64 - 4000)));
            }
        }
        if dice.chance(25) {
            plan.replay_rate = NonZeroU32::new(dice.between(50, 3000) as u32);
        }
        plan
    }
}

/// By the key's first byte; a key that begins with `x` is sent to a partition that is not there.
fn misrouting(_topic: &str, partitions: u32, key: Option<&[u8]>, _value: Option<&[u8]>) -> u32 {
    match key {
        Some([b'x', ..]) => partitions + 7,
        Some([first, ..]) => u32::from(*first) % partitions,
        _ => 0,
    }
}

impl Fault {
    fn new(dice: &mut Dice, end: u64, partitions: u32) -> Self {
        let from = dice.between(0, end);
        let length = if dice.chance(50) { 500 } else { end / 2 };
        let until = (from + dice.between(1, length)).min(end);
        let trouble = match dice.between(0, 14) {
            0..=2 => Trouble::Outage,
            3..=4 => Trouble::Leaderless(dice.between(0, u64::from(partitions) - 1) as u32),
            5 => Trouble::Denied,
            6..=7 => Trouble::Flaky(dice.between(5, 70)),
            8 => Trouble::Metadata,
            9 => Trouble::Slow,
            10 => Trouble::StorageFull,
            11..=13 => Trouble::StorageFlaky(dice.between(5, 80)),
            _ => Trouble::DeadLetters,
        };
        Self { from: Moment::from_millis(from), until: Moment::from_millis(until), trouble }
    }
}

fn script(dice: &mut Dice, end: u64) -> Vec<(Moment, Op)> {
    let pause = dice.pick(&[4, 40, 150, 600]);
    let burst = dice.pick(&[1, 4, 20]);
    let (mut endings, mut growths) = (dice.between(0, 3), dice.between(0, 2));
    let mut script = Vec::new();
    let mut at = 0;
    while at < end && script.len() < 250 {
        let op = match dice.between(0, 99) {
            0..=4 => Op::Flush,
            5..=6 if endings > 0 => {
                endings -= 1;
                match dice.between(0, 3) {
                    0 | 1 => Op::Crash,
                    2 => Op::Shutdown(dice.millis(0, 20)),
                    _ => Op::Shutdown(dice.millis(0, 2000)),
                }
            }
            7 if growths > 0 => {
                growths -= 1;
                Op::Grow(dice.between(1, 3) as u32)
            }
            8 => Op::BreakClient,
            _ => Op::Add(dice.between(1, burst)),
        };
        script.push((Moment::from_millis(at), op));
        at += dice.between(0, pause);
    }
    script
}

impl Plan {
    /// Whether there is this trouble now.
    pub(crate) fn has(&self, now: Moment, trouble: Trouble) -> bool {
        self.troubles(now).any(|of| of == trouble)
    }

    /// How many produce calls in a hundred go wrong now.
    pub(crate) fn flakiness(&self, now: Moment) -> u64 {
        self.troubles(now)
            .map(|of| if let Trouble::Flaky(percent) = of { percent } else { 0 })
            .max()
            .unwrap_or(0)
    }

    /// How many storage calls in a hundred fail now.
    pub(crate) fn storage_flakiness(&self, now: Moment) -> u64 {
        let flaky = |of| if let Trouble::StorageFlaky(percent) = of { percent } else { 0 };
        self.troubles(now).map(flaky).max().unwrap_or(0)
    }

    fn troubles(&self, now: Moment) -> impl Iterator<Item = Trouble> {
        self.faults.iter().filter(move |f| f.from <= now && now < f.until).map(|f| f.trouble)
    }
}
