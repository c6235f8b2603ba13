//! What of a chain a reader wants, and in which ranges of the layer it asks for it.

use std::ops::Range;

use super::{Chain, ObjectId};

/// Bytes that are fetched in vain, at most: this part of those that are wanted.
const SLACK: u64 = 20;

/// Longest gap that is fetched with what lies around it: a request costs about as much time.
const GAP_LIMIT: u64 = 64 << 10;

/// Longest range that is asked for at once, unless one member is longer: several connections share the work, and what is
/// on its way is lost when the asking process ends.
const SPAN_LIMIT: u64 = 768 << 10;

/// What is wanted of the members of a chain, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Members that hold whole objects.
    pub short: Vec<usize>,
    /// Members that hold one object together.
    pub long: Vec<Range<usize>>,
}

/// Some members of a chain, and their bytes in the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The numbers of the members, wanted or not.
    pub members: Range<usize>,
    /// Bytes in the layer.
    pub bytes: Range<u64>,
}

/// A part of what a member inflates to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of the member.
    pub member: usize,
    /// Bytes of what it inflates to.
    pub bytes: Range<usize>,
}

impl Wanted {
    /// The members of `chain` that hold an object which `lacks`.
    pub fn of(chain: &Chain, lacks: impl Fn(&ObjectId) -> bool) -> Self {
        let mut wanted = Self::default();
        let mut rest = chain.members.as_slice();
        let mut number = 0;
        while let Some((first, others)) = rest.split_first() {
            let more = others.iter().take_while(|member| member.continues).count();
            let group = number..number + 1 + more;
            if first.objects.iter().any(&lacks) {
                match more {
                    0 => wanted.short.push(number),
                    _ => wanted.long.push(group.clone()),
                }
            }
            number = group.end;
            rest = others.get(more..).unwrap_or_default();
        }
        wanted
    }

    /// All members, the short ones first.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        let long = self.long.iter().cloned().flatten();
        self.short.iter().copied().chain(long)
    }
}

impl Chain {
    /// The ranges in which these members, in ascending order, are asked for. Near neighbours are one range: as many gaps are
    /// closed, the smallest first, as together have a twentieth of the wanted bytes; none of them is longer than 64 KiB.
    pub fn spans(&self, members: &[usize]) -> Vec<Span> {
        let starts = self.starts();
        let bytes = |members: &Range<usize>| {
            let at = |number: usize| starts.get(number).copied().unwrap_or(self.offset);
            at(members.start)..at(members.end)
        };
        let runs = runs(members);
        let wanted: u64 = runs.iter().map(|run| length(&bytes(run))).sum();
        let between = runs.windows(2).enumerate().filter_map(|(at, pair)| {
            let [one, other] = pair else { return None };
            Some((length(&bytes(&(one.end..other.start))), at))
        });
        let mut gaps: Vec<(u64, usize)> = between.filter(|(gap, _)| *gap <= GAP_LIMIT).collect();
        gaps.sort_unstable();
        let mut left = wanted / SLACK;
        let mut closed = vec![false; runs.len()];
        for (gap, at) in gaps {
            let Some(rest) = left.checked_sub(gap) else {
                break;
            };
            left = rest;
            if let Some(closed) = closed.get_mut(at) {
                *closed = true;
            }
        }
        let mut spans: Vec<Span> = Vec::new();
        let mut open = None;
        for (run, closed) in runs.into_iter().zip(closed) {
            let start = open.take().unwrap_or(run.start);
            match closed {
                true => open = Some(start),
                false => self.cut(start..run.end, &starts, &mut spans),
            }
        }
        spans
    }

    /// The ranges in which these members, in ascending order, are asked for if nothing else is to come with them.
    pub fn rows(&self, members: &[usize]) -> Vec<Span> {
        let (starts, mut spans) = (self.starts(), Vec::new());
        for run in runs(members) {
            self.cut(run, &starts, &mut spans);
        }
        spans
    }

    /// Cuts a row of members where it is too long.
    fn cut(&self, members: Range<usize>, starts: &[u64], spans: &mut Vec<Span>) {
        let at = |number: usize| starts.get(number).copied().unwrap_or(self.offset);
        let mut start = members.start;
        for number in members.clone() {
            if at(number + 1) - at(start) > SPAN_LIMIT && number > start {
                spans.push(Span {
                    members: start..number,
                    bytes: at(start)..at(number),
                });
                start = number;
            }
        }
        if start < members.end {
            spans.push(Span {
                members: start..members.end,
                bytes: at(start)..at(members.end),
            });
        }
    }

    /// Where each member begins in the layer, and where the last one ends.
    fn starts(&self) -> Vec<u64> {
        let ends = self.located().map(|(_, bytes)| bytes.end);
        [self.offset].into_iter().chain(ends).collect()
    }

    /// Where the bytes lie that `members` inflate to together: those of `parts`, in ascending order, counted from the first
    /// byte of the first of these members.
    pub fn segments(&self, members: Range<usize>, parts: &[Range<u64>]) -> Vec<Segment> {
        let mut segments = Vec::new();
        for part in parts {
            let mut begin = 0_u64;
            for number in members.clone() {
                let inflated = self.members.get(number).map_or(0, |member| member.inflated);
                let end = begin + u64::from(inflated);
                let (from, to) = (part.start.max(begin), part.end.min(end));
                if from < to {
                    // Both lie within the member, whose length is of 32 bits.
                    let within = |at: u64| usize::try_from(at - begin).unwrap_or(usize::MAX);
                    segments.push(Segment {
                        member: number,
                        bytes: within(from)..within(to),
                    });
                }
                begin = end;
            }
        }
        segments
    }

    /// What these members inflate to together.
    pub fn inflated(&self, members: Range<usize>) -> u64 {
        let members = self.members.get(members).unwrap_or_default().iter();
        members.map(|member| u64::from(member.inflated)).sum()
    }
}

/// Rows of numbers that follow one another.
fn runs(members: &[usize]) -> Vec<Range<usize>> {
    let rows = members.chunk_by(|one, next| one + 1 == *next);
    rows.filter_map(|row| Some(*row.first()?..*row.last()? + 1))
        .collect()
}

fn length(bytes: &Range<u64>) -> u64 {
    bytes.end.saturating_sub(bytes.start)
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "tables have lists of ranges"
)]
mod tests {
    use super::super::{Member, ObjectKind};
    use super::*;

    const KIB: u32 = 1 << 10;

    /// A chain behind 1,000 bytes: for each member its length, its objects by their first byte, and whether it continues.
    fn chain(members: &[(u32, &[u8], bool)]) -> Chain {
        let members = members
            .iter()
            .map(|(compressed, objects, continues)| Member {
                compressed: *compressed,
                inflated: 2 * KIB,
                digest: [0; 32],
                objects: objects.iter().map(|byte| object(*byte)).collect(),
                continues: *continues,
            });
        Chain {
            offset: 1000,
            members: members.collect(),
        }
    }

    fn object(byte: u8) -> ObjectId {
        ObjectId {
            checksum: [byte; 32],
            kind: ObjectKind::File,
        }
    }

    #[test]
    fn members_with_an_object_that_lacks_are_wanted() {
        let chain = chain(&[
            (10, &[], false),
            (10, &[1, 2], false),
            (10, &[3], false),
            (10, &[], true),
            (10, &[], true),
            (10, &[4], false),
            (10, &[5], false),
            (10, &[], true),
        ]);
        let check = |lacking: &[u8], short: &[usize], long: &[Range<usize>]| {
            let wanted = Wanted::of(&chain, |object| lacking.contains(&object.checksum[0]));
            let (short, long) = (short.to_vec(), long.to_vec());
            assert_eq!(wanted, Wanted { short, long }, "{lacking:?}");
        };
        check(&[], &[], &[]);
        check(&[2], &[1], &[]);
        check(&[3], &[], &[2..5]);
        check(&[1, 2, 3, 4, 5], &[1, 5], &[2..5, 6..8]);
        check(&[9], &[], &[]);
    }

    #[test]
    fn neighbours_are_one_range() {
        let check = |lengths: &[u32], wanted: &[usize], expect: &[Range<usize>]| {
            let members: Vec<_> = lengths.iter().map(|len| (*len, &[][..], false)).collect();
            let chain = chain(&members);
            let spans = chain.spans(wanted);
            let members: Vec<_> = spans.iter().map(|span| span.members.clone()).collect();
            assert_eq!(members, expect, "{lengths:?} {wanted:?}");
            for span in spans {
                let sum = |to: usize| lengths[..to].iter().map(|len| u64::from(*len)).sum::<u64>();
                let (start, end) = (1000 + sum(span.members.start), 1000 + sum(span.members.end));
                assert_eq!(span.bytes, start..end);
            }
        };
        check(&[10; 5], &[], &[]);
        check(&[10; 5], &[0, 1, 2, 3, 4], &[0..5]);
        check(&[10; 5], &[0, 1, 3], &[0..2, 3..4]);
        // A gap of a twentieth of what is wanted, and one that is larger by a byte.
        check(&[100, 10, 100], &[0, 2], &[0..3]);
        check(&[100, 11, 100], &[0, 2], &[0..1, 2..3]);
        // There is enough for the smaller gap only.
        check(&[100, 9, 100, 8, 100], &[0, 2, 4], &[0..1, 2..5]);
        // Where there is much, gaps still have a limit.
        let much = [700 * KIB, 700 * KIB, 700 * KIB];
        let with = |gap: u32| [&much[..], &[gap, 10]].concat();
        check(&with(64 * KIB), &[0, 1, 2, 4], &[0..1, 1..2, 2..5]);
        check(
            &with(64 * KIB + 1),
            &[0, 1, 2, 4],
            &[0..1, 1..2, 2..3, 4..5],
        );
        // Cut between members; a longer one stays alone.
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        check(&[192 * KIB; 9], &all, &[0..4, 4..8, 8..9]);
        check(&[10, 5000 * KIB, 10], &[0, 1, 2], &[0..1, 1..2, 2..3]);
    }

    #[test]
    fn rows_have_no_gaps() {
        let chain = chain(&[(600 * KIB, &[][..], false); 6]);
        let spans = chain.rows(&[0, 1, 2, 4]);
        let end = |members: u64| 1000 + members * 600 * 1024;
        let expect = [
            (0..1, 1000..end(1)),
            (1..2, end(1)..end(2)),
            (2..3, end(2)..end(3)),
            (4..5, end(4)..end(5)),
        ];
        let expect = expect.map(|(members, bytes)| Span { members, bytes });
        assert_eq!(spans, expect);
    }

    #[test]
    fn parts_are_found_in_members() {
        // Each of them inflates to 2 KiB.
        let chain = chain(&[(10, &[][..], false); 6]);
        let check = |parts: &[Range<u64>], expect: &[(usize, Range<usize>)]| {
            let segments = chain.segments(1..5, parts);
            let segments: Vec<_> = segments.into_iter().map(|s| (s.member, s.bytes)).collect();
            assert_eq!(segments, expect, "{parts:?}");
        };
        assert_eq!(chain.inflated(1..5), 8192);
        let whole = [1, 2, 3, 4].map(|member| (member, 0..2048));
        let none = 0..0;
        check(&[none.clone(), 0..8192], &whole);
        check(&[0..u64::MAX, none.clone()], &whole);
        check(&[], &[]);
        check(&[none.clone(), 3000..3001], &[(2, 952..953)]);
        check(&[none, 2048..4096], &[(2, 0..2048)]);
        // A beginning, and what comes behind a part that is there: in the same member and in another.
        check(
            &[0..512, 1000..2049],
            &[(1, 0..512), (1, 1000..2048), (2, 0..1)],
        );
        check(&[0..512, 8000..8192], &[(1, 0..512), (4, 1856..2048)]);
    }
}
