//! What of an indexed seed a node lacks, and the ranges of the layer that it lies in.

use std::ops::Range;

use seed::extract::{Begun, Mark};
use seed::index::{Chain, Index, ObjectId, ObjectKind, Segment, Span, Wanted};
use seed::registry::Piece;

use crate::incoming::Progress;
use crate::objects::Growth;

/// A range of the layer, and the pieces that it consists of: members, by their numbers in their chain.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) bytes: Range<u64>,
    pub(super) pieces: Vec<Piece>,
}

impl Request {
    /// Bytes of the pieces that are wanted.
    pub(super) fn wanted(&self) -> u32 {
        let wanted = self.pieces.iter().filter(|piece| piece.digest.is_some());
        wanted.fold(0, |sum, piece| sum.saturating_add(piece.length))
    }
}

/// One long object to write.
#[derive(Clone, Debug)]
pub(super) struct LongObject {
    pub(super) id: ObjectId,
    /// Where its entry lies, but for what is there already.
    pub(super) segments: Vec<Segment>,
    /// What of its content is there.
    pub(super) begun: Option<Begun>,
}

/// Objects to fetch.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Members with whole objects.
    pub(super) short: Vec<Request>,
    /// The members of the long objects, and these.
    pub(super) long: Vec<Request>,
    pub(super) long_objects: Vec<LongObject>,
}

/// An archive to fetch in order.
#[derive(Debug, Default)]
pub(super) struct Archive {
    pub(super) requests: Vec<Request>,
    /// Where in its members the bytes lie that are wanted.
    pub(super) segments: Vec<Segment>,
}

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Need {
    /// Commit and directories.
    pub(super) metadata: Objects,
    pub(super) files: Objects,
    /// `None` = it is there.
    pub(super) var: Option<Archive>,
    pub(super) etc: Vec<Request>,
    objects: u64,
    missing: u64,
    inflated: u64,
}

/// As [`super::Missing`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) index: u64,
    pub(super) repository: u64,
    pub(super) var: u64,
    pub(super) etc: u64,
    pub(super) objects: u64,
    pub(super) missing_objects: u64,
    pub(super) inflated: u64,
}

impl Figures {
    pub(super) fn bytes(&self) -> u64 {
        self.index + self.repository + self.var + self.etc
    }
}

impl Need {
    /// What a node lacks of a seed: objects for which `is_present` says no, but for the growth of a long one, and what
    /// earlier fetches have not brought of the archives; of `/etc` they have brought so many members.
    pub(super) fn of(
        index: &Index,
        is_present: impl Fn(&ObjectId) -> bool,
        growth: Option<&Growth>,
        progress: Option<&Progress>,
        etc: usize,
    ) -> Self {
        let listed = index
            .ostree
            .members
            .iter()
            .flat_map(|member| &member.objects);
        // Each is looked for once.
        let missing: std::collections::HashSet<ObjectId> = listed
            .clone()
            .filter(|id| !is_present(id))
            .copied()
            .collect();
        let lacking = |files: bool| {
            let missing = &missing;
            let lacks =
                move |id: &ObjectId| (id.kind == ObjectKind::File) == files && missing.contains(id);
            Wanted::of(&index.ostree, lacks)
        };
        let (metadata, files) = (lacking(false), lacking(true));
        let var = match progress {
            Some(progress) if progress.var_done => None,
            progress => Some(archive(&index.var, progress.and_then(|p| p.var.as_ref()))),
        };
        let inflated = |chain: &Chain, members: &mut dyn Iterator<Item = usize>| -> u64 {
            members
                .map(|member| chain.inflated(member..member + 1))
                .sum()
        };
        let objects = metadata.members().chain(files.members());
        let etc = etc..index.etc.members.len();
        Self {
            inflated: inflated(&index.ostree, &mut { objects })
                + var.as_ref().map_or(0, Archive::inflated),
            metadata: Objects::of(&index.ostree, &metadata, growth),
            files: Objects::of(&index.ostree, &files, growth),
            var,
            etc: in_order(&index.etc, &etc.collect::<Vec<_>>()),
            objects: listed.count() as u64,
            missing: missing.len() as u64,
        }
    }

    /// The figures of it; `index` = bytes of index and documents.
    pub(super) fn figures(&self, index: u64) -> Figures {
        let var = self.var.as_ref();
        Figures {
            index,
            repository: self.metadata.bytes() + self.files.bytes(),
            var: var.map_or(0, |var| bytes(&var.requests)),
            etc: bytes(&self.etc),
            objects: self.objects,
            missing_objects: self.missing,
            inflated: self.inflated,
        }
    }
}

impl Objects {
    fn of(chain: &Chain, wanted: &Wanted, growth: Option<&Growth>) -> Self {
        let grown = growth.and_then(|growth| Some((growth.id()?, growth)));
        let begun = |group: &Range<usize>| {
            let first = chain.members.get(group.start)?;
            let (id, growth) = grown.as_ref()?;
            first.objects.contains(id).then_some(Begun {
                content: growth.content,
                written: growth.written,
            })
        };
        // The one that was begun comes first.
        let mut groups: Vec<_> = wanted
            .long
            .iter()
            .map(|group| (begun(group), group))
            .collect();
        groups.sort_by_key(|(begun, group)| (begun.is_none(), group.start));
        let (mut long, mut long_objects) = (Vec::new(), Vec::new());
        let mut members: Vec<usize> = Vec::new();
        for (begun, group) in groups {
            let segments = chain.segments(group.clone(), &parts(0, begun));
            let own = numbers(&segments);
            if members
                .last()
                .zip(own.first())
                .is_some_and(|(last, first)| last >= first)
            {
                long.extend(in_order(chain, &std::mem::take(&mut members)));
            }
            members.extend(own);
            let first = chain.members.get(group.start);
            // Its first member lists it alone, which decoding has checked.
            if let Some(id) = first.and_then(|member| member.objects.first()).copied() {
                long_objects.push(LongObject {
                    id,
                    segments,
                    begun,
                });
            }
        }
        long.extend(in_order(chain, &members));
        Self {
            short: requests(chain, chain.spans(&wanted.short), &wanted.short),
            long,
            long_objects,
        }
    }

    fn bytes(&self) -> u64 {
        bytes(&self.short) + bytes(&self.long)
    }
}

impl Archive {
    fn inflated(&self) -> u64 {
        let lengths = self
            .segments
            .iter()
            .map(|segment| segment.bytes.len() as u64);
        lengths.sum()
    }
}

/// An archive from a mark on.
fn archive(chain: &Chain, mark: Option<&Mark>) -> Archive {
    let parts = mark.map_or_else(|| parts(0, None), |mark| parts(mark.archive, mark.begun));
    let segments = chain.segments(0..chain.members.len(), &parts);
    Archive {
        requests: in_order(chain, &numbers(&segments)),
        segments,
    }
}

/// What is read of an archive from a member on, of whose content a beginning is there.
fn parts(from: u64, begun: Option<Begun>) -> Vec<Range<u64>> {
    let (headers, rest) = match begun {
        Some(Begun { content, written }) => (from..content, content.saturating_add(written)),
        None => (from..from, from),
    };
    vec![headers, rest..u64::MAX]
}

/// The members that segments are of, each once.
fn numbers(segments: &[Segment]) -> Vec<usize> {
    let mut numbers: Vec<usize> = segments.iter().map(|segment| segment.member).collect();
    numbers.dedup();
    numbers
}

/// Requests for members that are wanted in their order.
fn in_order(chain: &Chain, members: &[usize]) -> Vec<Request> {
    requests(chain, chain.rows(members), members)
}

/// Requests for spans; what of them is not among `wanted`, in ascending order, only lies between.
fn requests(chain: &Chain, spans: Vec<Span>, wanted: &[usize]) -> Vec<Request> {
    let piece = |number: usize| {
        let member = chain.members.get(number)?;
        let is_wanted = wanted.binary_search(&number).is_ok();
        Some(Piece {
            number,
            length: member.compressed,
            digest: is_wanted.then_some(member.digest),
        })
    };
    let spans = spans.into_iter();
    spans
        .map(|span| Request {
            bytes: span.bytes,
            pieces: span.members.filter_map(piece).collect(),
        })
        .collect()
}

fn bytes(requests: &[Request]) -> u64 {
    let lengths = requests
        .iter()
        .map(|request| request.bytes.end - request.bytes.start);
    lengths.sum()
}
