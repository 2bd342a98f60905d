//! Where a row lies: pure arithmetic on sequences, so that no partition can grow without end and no clock decides anything.
//!
//! - The *log* has one partition for each block of 2^18 sequences and each of 16 shards; 32 consecutive sequences share a
//!   shard, so that what is flushed together is written together.
//! - A *conversation* is a tree of parts. The first part covers 2^40 sequences; when it is full, what follows goes into
//!   parts that cover 2^34 each, then 2^28, 2^22 and at last 2^16. A part counts as full for a writer that has seen
//!   [`FULL`] rows in it; the last kind is never full, since it can't hold more rows than sequences. So a quiet
//!   conversation is one partition for years, and a busy one is cut as finely as it has to be.
//! - The list of recent conversations has a slot for each 2^16 sequences.
//! - The conversations of an *owner* are a tree of shards: eight at first, by the last byte of the conversation; of one that
//!   is full, what follows goes into 16 finer ones by its digest, three times over.
//!
//! `tests` below prove that no partition of rows passes [`MOST_ROWS`], whatever the rate, as long as no more than
//! [`WRITERS`] processes write at once. ScyllaDB refuses writes into a partition of 200,000 rows. Two lists have an end that is
//! far off: an owner of 3 thousand million conversations, and a conversation of more than 6 thousand million messages.

use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::domain::ConversationId;

/// Sequences of a block of the log, as a power of two.
const BLOCK_BITS: u32 = 18;
/// Partitions of a block.
pub(super) const SHARDS: u64 = 16;
/// Consecutive sequences that lie in one shard.
pub(super) const RUN: u64 = 32;
/// Blocks that are listed in one partition, as a power of two.
const ERA_BITS: u32 = 16;
/// Sequences of a slot of the list of recent conversations, as a power of two.
const SLOT_BITS: u32 = 16;
/// What the parts of each level cover, as powers of two.
const LEVELS: [u32; 5] = [40, 34, 28, 22, 16];
/// The level is kept above the bits that a number of the finest level needs.
const LEVEL_AT: u32 = 48;

/// A part is full for a writer that has counted so many rows in it.
pub(super) const FULL: u32 = 2048;
/// Processes that may write at the same time.
#[cfg(test)]
pub(super) const WRITERS: u64 = 32;
/// No partition of rows holds more.
#[cfg(test)]
pub(super) const MOST_ROWS: u64 = 100_000;

/// The largest sequence that a store can hold: CQL's numbers are signed.
pub(super) const LAST: u64 = i64::MAX.unsigned_abs();

/// A partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LogPlace {
    pub(super) block: i64,
    pub(super) shard: i16,
}

/// The block of a sequence.
pub(super) fn block(seq: u64) -> i64 {
    signed(seq >> BLOCK_BITS)
}

/// The sequences of a block.
pub(super) fn sequences(block: i64) -> RangeInclusive<u64> {
    let first = block.unsigned_abs() << BLOCK_BITS;
    first..=first | ((1 << BLOCK_BITS) - 1)
}

/// The partition of a sequence in the log.
pub(super) fn log(seq: u64) -> LogPlace {
    LogPlace { block: block(seq), shard: i16::try_from(seq / RUN % SHARDS).unwrap_or_default() }
}

/// The partition in which a block is listed.
pub(super) fn era(block: i64) -> i64 {
    block >> ERA_BITS
}

/// The slot of a sequence in the list of recent conversations.
pub(super) fn slot(seq: u64) -> i64 {
    signed(seq >> SLOT_BITS)
}

/// The sequences of the slot of this one. A slot never crosses a block.
pub(super) fn slot_sequences(seq: u64) -> RangeInclusive<u64> {
    let first = seq >> SLOT_BITS << SLOT_BITS;
    first..=first | ((1 << SLOT_BITS) - 1)
}

/// A part of a conversation, numbered for the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Part(i64);

impl Part {
    /// Where a sequence lies if nothing is full.
    pub(super) fn first(seq: u64) -> Self {
        Self::at(0, seq)
    }

    /// Where it lies if this part is full; the finest one is never left.
    pub(super) fn finer(self, seq: u64) -> Self {
        Self::at((self.level() + 1).min(LEVELS.len() - 1), seq)
    }

    /// Whether it can't hold more rows than it may, however many come.
    pub(super) fn is_finest(self) -> bool {
        self.level() == LEVELS.len() - 1
    }

    /// As it is kept.
    pub(super) fn number(self) -> i64 {
        self.0
    }

    /// Back from the number; `None` if no part has it.
    pub(super) fn from_number(number: i64) -> Option<Self> {
        let level = usize::try_from(number >> LEVEL_AT).ok()?;
        (level < LEVELS.len()).then_some(Self(number))
    }

    /// The sequences that it covers.
    pub(super) fn sequences(self) -> RangeInclusive<u64> {
        let bits = LEVELS.get(self.level()).copied().unwrap_or_default();
        let prefix = self.0.unsigned_abs() & ((1 << LEVEL_AT) - 1);
        let first = prefix << bits;
        first..=first | ((1 << bits) - 1)
    }

    fn at(level: usize, seq: u64) -> Self {
        let bits = LEVELS.get(level).copied().unwrap_or_default();
        let prefix = (seq & LAST) >> bits;
        Self(signed((u64::try_from(level).unwrap_or_default() << LEVEL_AT) | prefix))
    }

    fn level(self) -> usize {
        usize::try_from(self.0 >> LEVEL_AT).unwrap_or_default().min(LEVELS.len() - 1)
    }
}

/// Partitions of an owner's conversations of each level: each is [`FAN`] times as many as the one before.
const OWNER_SHARDS: u32 = 8;
const FAN: u32 = 16;
const OWNER_LEVELS: u32 = 4;

/// A partition of an owner's conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OwnerShard {
    level: u32,
    /// Among those of its level.
    index: u32,
}

impl OwnerShard {
    /// No conversation: where it stands, there are finer ones.
    pub(super) const DIVIDED: ConversationId = ConversationId::NIL;

    /// All that are there if nothing was ever full.
    pub(super) fn all_first() -> impl Iterator<Item = Self> {
        (0..OWNER_SHARDS).map(|index| Self { level: 0, index })
    }

    /// Where a conversation stands if nothing is full.
    pub(super) fn first(conversation: ConversationId) -> Self {
        Self { level: 0, index: u32::from(conversation.as_bytes()[15]) % OWNER_SHARDS }
    }

    /// Where it stands if this one is full; the finest one is never left.
    pub(super) fn finer(self, conversation: ConversationId) -> Self {
        if self.is_finest() {
            return self;
        }
        let digest = Sha256::digest(conversation.as_bytes());
        let digit = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> (28 - 4 * self.level);
        Self { level: self.level + 1, index: self.index * FAN + digit % FAN }
    }

    /// Wherever a conversation may stand.
    pub(super) fn all_of(conversation: ConversationId) -> impl Iterator<Item = Self> {
        let first = Self::first(conversation);
        std::iter::successors(Some(first), move |shard| (!shard.is_finest()).then(|| shard.finer(conversation)))
    }

    /// Those that this one is divided into.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let fan = if self.is_finest() { 0 } else { FAN };
        (0..fan).map(move |digit| Self { level: self.level + 1, index: self.index * FAN + digit })
    }

    /// The one that it is a part of.
    pub(super) fn coarser(self) -> Option<Self> {
        Some(Self { level: self.level.checked_sub(1)?, index: self.index / FAN })
    }

    /// Whether it is not divided, however full it is.
    pub(super) fn is_finest(self) -> bool {
        self.level + 1 == OWNER_LEVELS
    }

    /// As it is kept: the levels one behind the other.
    pub(super) fn number(self) -> i16 {
        let before: u32 = (0..self.level).map(|level| OWNER_SHARDS * FAN.pow(level)).sum();
        u16::try_from(before + self.index).unwrap_or(u16::MAX).cast_signed()
    }
}

/// A number as CQL keeps it; none here comes near the limit but [`LAST`] itself.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    // The bounds, for any rate: these are compared when the tests are compiled.
    const _: () = {
        // Of the log: sequences of a block, spread over its shards. A run never crosses a block.
        assert!((1 << BLOCK_BITS) / SHARDS <= MOST_ROWS);
        assert!((1_u64 << BLOCK_BITS).is_multiple_of(SHARDS * RUN));
        // Of the lists: blocks of an era, sequences of a slot.
        assert!((1 << ERA_BITS) <= MOST_ROWS);
        assert!((1 << SLOT_BITS) <= MOST_ROWS);
        // A slot is within a block.
        assert!(SLOT_BITS <= BLOCK_BITS);
        // Of a part: what was there when the last writer looked, and what each may add before it calls it full.
        assert!(FULL as u64 * (WRITERS + 1) <= MOST_ROWS);
        // Of the finest part: its sequences.
        assert!((1 << LEVELS[LEVELS.len() - 1]) <= MOST_ROWS);
    };

    #[test]
    fn a_run_is_one_partition_and_a_block_is_all_of_them() {
        let places: std::collections::BTreeSet<_> = sequences(3).map(log).collect();
        assert_eq!(places.len(), usize::try_from(SHARDS).unwrap());
        assert!(places.iter().all(|place| place.block == 3));
        assert_eq!(log(3 << BLOCK_BITS), log((3 << BLOCK_BITS) + RUN - 1));
        assert_ne!(log(3 << BLOCK_BITS), log((3 << BLOCK_BITS) + RUN));
    }

    proptest! {
        #[test]
        fn a_part_covers_its_sequences_and_reads_back(seq in 0..=LAST) {
            let mut part = Part::first(seq);
            loop {
                prop_assert!(part.sequences().contains(&seq), "{part:?} {:?}", part.sequences());
                prop_assert_eq!(Part::from_number(part.number()), Some(part));
                prop_assert_eq!(Part::at(part.level(), *part.sequences().start()), part);
                if part.is_finest() {
                    break;
                }
                let finer = part.finer(seq);
                prop_assert!(part.sequences().contains(finer.sequences().start()));
                prop_assert!(part.sequences().contains(finer.sequences().end()));
                part = finer;
            }
            prop_assert_eq!(part.finer(seq), part);
        }

    }

    #[test]
    fn the_shards_of_an_owner_are_all_different_and_each_is_reached() {
        let mut numbers = HashMap::new();
        let mut level: Vec<OwnerShard> = OwnerShard::all_first().collect();
        while !level.is_empty() {
            for shard in &level {
                assert_eq!(numbers.insert(shard.number(), *shard), None, "{shard:?}");
                assert!(shard.parts().all(|part| part.coarser() == Some(*shard)));
            }
            level = level.into_iter().flat_map(OwnerShard::parts).collect();
        }
        assert_eq!(numbers.len(), 8 + 128 + 2048 + 32_768);
        // Those of the first level are what they were before there were others.
        assert!(OwnerShard::all_first().map(OwnerShard::number).eq(0..8));
        let mut met = std::collections::HashSet::new();
        for number in 0..20_000_u128 {
            let conversation = ConversationId::from_bytes(number.to_be_bytes());
            let path: Vec<OwnerShard> = OwnerShard::all_of(conversation).collect();
            assert!(path.len() == 4 && path.windows(2).all(|two| two[1].coarser() == Some(two[0])), "{path:?}");
            met.extend(path.into_iter().filter(|shard| shard.level < 3));
        }
        assert_eq!(met.len(), 8 + 128 + 2048, "spread evenly");
    }

    proptest! {
        // Each case is some hundred thousand rows.
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// Writers that forget what they counted, at any moment, and then look again.
        #[test]
        fn no_part_passes_the_limit_whoever_writes_and_forgets(
            steps in prop::collection::vec((0..WRITERS, 1..2000_u64, 1..200_000_u64, prop::bool::weighted(0.05)), 100..200)
        ) {
            let mut stored: HashMap<Part, u64> = HashMap::new();
            let mut counted: HashMap<(u64, Part), u64> = HashMap::new();
            let mut seq = 0;
            for (writer, rows, gap, forgets) in steps {
                if forgets {
                    counted.retain(|(of, _), _| *of != writer);
                }
                seq += gap;
                for _ in 0..rows {
                    seq += 1;
                    let mut part = Part::first(seq);
                    loop {
                        let there = stored.get(&part).copied().unwrap_or_default();
                        let count = counted.entry((writer, part)).or_insert(there);
                        if part.is_finest() || *count < u64::from(FULL) {
                            *count += 1;
                            *stored.entry(part).or_default() += 1;
                            break;
                        }
                        part = part.finer(seq);
                    }
                }
            }
            let most = stored.values().max().copied().unwrap_or_default();
            prop_assert!(most <= MOST_ROWS, "{most} rows in one part");
        }
    }
}
