//! What became of the entries of one bundle, judged by their leaf hashes.

use ticket_format::tlog::Hash;

use super::What;

/// Differences told one by one; more of one bundle are not.
const TOLD: usize = 16;

/// How `found` differs from `expected`: the places, in the bundle, and what happened there.
pub(super) fn differences(found: &[Hash], expected: &[Hash]) -> Vec<(usize, What)> {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b);
    let at = same.count();
    let (rest, wanted) = (&found[at..], &expected[at..]);
    let what = match (rest, wanted) {
        ([], []) => return Vec::new(),
        ([], _) => What::Truncated,
        (_, []) => What::Inserted,
        _ if sorted(rest) == sorted(wanted) => What::Reordered,
        // All behind moved up; the last may have come from the next bundle.
        (_, [_, behind @ ..]) if !behind.is_empty() && rest.starts_with(behind) => What::Deleted,
        _ if rest.len() < wanted.len() && is_part(rest, wanted) => What::Deleted,
        ([_, behind @ ..], _) if !behind.is_empty() && wanted.starts_with(behind) => What::Inserted,
        _ if rest.len() > wanted.len() && is_part(wanted, rest) => What::Inserted,
        _ => {
            let pairs = rest.iter().zip(wanted).enumerate();
            let edited = pairs.filter(|(_, (a, b))| a != b);
            return edited
                .map(|(offset, _)| (at + offset, What::Edited))
                .take(TOLD)
                .collect();
        }
    };
    vec![(at, what)]
}

fn sorted(hashes: &[Hash]) -> Vec<Hash> {
    let mut hashes = hashes.to_vec();
    hashes.sort_unstable();
    hashes
}

/// Whether `all` becomes `part` when some are left out.
fn is_part(part: &[Hash], all: &[Hash]) -> bool {
    let mut all = all.iter();
    part.iter().all(|hash| all.any(|other| other == hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change_is_told_at_its_place() {
        let hash = |n: u8| [n; 32];
        let list = |numbers: &[u8]| numbers.iter().copied().map(hash).collect::<Vec<_>>();
        let good = list(&[1, 2, 3, 4, 5]);
        type Case<'a> = (&'a [u8], &'a [(usize, What)]);
        let cases: &[Case<'_>] = &[
            (&[1, 2, 3, 4, 5], &[]),
            (&[1, 2, 9, 4, 5], &[(2, What::Edited)]),
            (&[1, 9, 3, 9, 5], &[(1, What::Edited), (3, What::Edited)]),
            (&[1, 2, 3, 4, 9], &[(4, What::Edited)]),
            (&[1, 3, 2, 4, 5], &[(1, What::Reordered)]),
            (&[5, 2, 3, 4, 1], &[(0, What::Reordered)]),
            (&[1, 2, 3], &[(3, What::Truncated)]),
            (&[], &[(0, What::Truncated)]),
            (&[1, 3, 4, 5], &[(1, What::Deleted)]),
            (&[1, 3, 4, 5, 6], &[(1, What::Deleted)]),
            (&[3, 5], &[(0, What::Deleted)]),
            (&[1, 9, 2, 3, 4], &[(1, What::Inserted)]),
            (&[1, 9, 2, 3, 4, 5], &[(1, What::Inserted)]),
            (&[1, 2, 3, 4, 5, 6], &[(5, What::Inserted)]),
        ];
        for (found, expected) in cases {
            assert_eq!(&differences(&list(found), &good), expected, "{found:?}");
        }
    }
}
