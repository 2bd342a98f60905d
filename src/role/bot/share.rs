//! Who pulls which group: a pure function of the bots that live, so that all come to the same result without talking.

use std::collections::{BTreeSet, HashMap};

/// The owner of each group, or `None` for all if nobody lives. Loads differ by one at most, and the same bots always get
/// the same groups: the highest bids of a rendezvous hash win, until a bot has its share.
pub(super) fn owners(members: &BTreeSet<String>, groups: u16) -> Vec<Option<&str>> {
    let mut owners = vec![None; usize::from(groups)];
    if members.is_empty() {
        return owners;
    }
    let least = owners.len() / members.len();
    let mut bids: Vec<(u64, usize, &str)> = members
        .iter()
        .flat_map(|member| (0..owners.len()).map(move |group| (bid(member, group), group, member.as_str())))
        .collect();
    bids.sort_unstable_by(|one, other| other.cmp(one));
    let mut has: HashMap<&str, usize> = HashMap::with_capacity(members.len());
    // First everybody's full share, then what is left over: one more for some.
    for most in [least, least + 1] {
        for &(_, group, member) in &bids {
            let has = has.entry(member).or_insert(0);
            if owners[group].is_none() && *has < most {
                owners[group] = Some(member);
                *has += 1;
            }
        }
    }
    owners
}

/// The groups of one bot, of so many.
pub(super) fn groups_of(me: &str, members: &BTreeSet<String>, groups: u16) -> BTreeSet<u8> {
    let owners = owners(members, groups);
    (0..=u8::MAX).zip(owners).filter(|(_, owner)| *owner == Some(me)).map(|(group, _)| group).collect()
}

/// A number without pattern, made of both; never to be changed, since neighbouring releases share the work.
fn bid(member: &str, group: usize) -> u64 {
    let mut mixed = (u64::from(crc32fast::hash(member.as_bytes())) << 8) | u64::try_from(group).unwrap_or_default();
    // The finaliser of splitmix64.
    mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<String> {
        numbers.into_iter().map(|number| format!("bot.{number:08x}")).collect()
    }

    proptest! {
        #[test]
        fn every_group_has_one_owner_and_loads_differ_by_one_at_most(
            bots in proptest::collection::btree_set(0u32.., 1..40),
            groups in proptest::sample::select(vec![16u16, 32, 64, 128, 256]),
        ) {
            let members = members(bots);
            let shares: Vec<BTreeSet<u8>> = members.iter().map(|me| groups_of(me, &members, groups)).collect();
            let all: Vec<u8> = shares.iter().flatten().copied().collect();
            let different: BTreeSet<u8> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), usize::from(groups));
            prop_assert_eq!(different.len(), usize::from(groups));
            let loads = shares.iter().map(BTreeSet::len);
            prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
        }
    }

    #[test]
    fn nobody_owns_anything_when_nobody_lives() {
        assert_eq!(owners(&BTreeSet::new(), 16), [None; 16]);
        assert_eq!(groups_of("bot.a", &members([1]), 16), BTreeSet::new(), "a stranger gets nothing");
    }

    #[test]
    fn most_groups_stay_where_they_are_when_one_bot_comes() {
        let (before, after) = (members(1..=3), members(1..=4));
        let (old, new) = (owners(&before, 16), owners(&after, 16));
        let moved = old.iter().zip(new).filter(|(old, new)| *old != new).count();
        assert!((4..=8).contains(&moved), "{moved} of 16 moved");
    }

    #[test]
    fn the_shares_are_those_of_every_release() {
        let members = members(1..=3);
        let owned: Vec<Vec<u8>> = members.iter().map(|me| groups_of(me, &members, 16).into_iter().collect()).collect();
        assert_eq!(owned, [vec![2, 3, 5, 7, 13], vec![1, 4, 10, 11, 15], vec![0, 6, 8, 9, 12, 14]]);
    }
}
