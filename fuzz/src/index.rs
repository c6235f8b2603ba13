//! The index of a seed, and the label that leads to it.

use api::Digest;
use seed::index::{COMPRESSED_LIMIT, Chain, INDEX_LIMIT, INFLATED_LIMIT, Index, Place, Wanted};
use seed::pin::Blob;

use crate::judge;

/// Bytes of the layer that all of it lies in, and where the index itself lies.
const LAYER: u64 = 1 << 40;
const OFFSET: u64 = 1 << 39;

/// Reads a label or an index.
pub(crate) fn read(bytes: &[u8]) {
    let layer = Blob {
        digest: Digest::from_sha256(&[0; 32]),
        size: LAYER,
        media_type: String::new(),
    };
    if let Ok(text) = str::from_utf8(bytes)
        && text.starts_with('{')
    {
        match Place::parse(text, std::slice::from_ref(&layer)) {
            Err(error) => drop(judge::error(&error)),
            Ok(place) => {
                assert!(place.length <= INDEX_LIMIT && place.range().end <= LAYER);
                assert_eq!(place.range().end - place.range().start, place.length);
                assert_eq!(place.layer, layer.digest);
            }
        }
        return;
    }
    let place = Place {
        layer: layer.digest.clone(),
        offset: OFFSET,
        length: bytes.len() as u64,
        sha256: layer.digest,
    };
    match Index::decode(bytes, &place, LAYER) {
        Err(error) => drop(judge::error(&error)),
        Ok(index) => {
            assert!(index.encode() == bytes, "{index:?} is written otherwise");
            plausible(&index, bytes.len());
        }
    }
}

/// What every index promises.
fn plausible(index: &Index, bytes: usize) {
    let mut ranges = Vec::new();
    ranges.push(OFFSET..OFFSET + bytes as u64);
    for document in &index.documents {
        judge::line(&document.name);
        ranges.push(document.offset..document.offset + document.length);
    }
    for chain in [&index.etc, &index.var, &index.ostree] {
        assert!(!chain.members.is_empty());
        let mut end = chain.offset;
        for (member, range) in chain.located() {
            assert!(range.start == end && range.end - range.start == u64::from(member.compressed));
            assert!(member.compressed <= COMPRESSED_LIMIT && member.inflated <= INFLATED_LIMIT);
            assert!(!member.continues || member.objects.is_empty());
            end = range.end;
        }
        assert_eq!(end, chain.offset + chain.length());
        ranges.push(chain.offset..end);
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut free = 0;
    for range in ranges {
        assert!(range.start >= free && range.end <= LAYER);
        free = range.end;
    }
    let objects = index
        .ostree
        .members
        .iter()
        .flat_map(|member| &member.objects);
    assert!(
        objects
            .clone()
            .any(|object| object.checksum == index.commit)
    );
    assert!(objects.count() * 33 <= bytes);
    for lacking in [0xff, 0x01] {
        fetched(&index.ostree, lacking);
    }
}

/// What is fetched where those objects are missing whose checksums have one of these bits.
fn fetched(chain: &Chain, lacking: u8) {
    let lacks = |object: &seed::index::ObjectId| object.checksum[0] & lacking != 0;
    let wanted = Wanted::of(chain, lacks);
    let mut members: Vec<usize> = wanted.members().collect();
    members.sort_unstable();
    let places: Vec<_> = chain.located().map(|(_, range)| range).collect();
    let spans = chain.spans(&members);
    let mut covered = Vec::new();
    for span in &spans {
        let (first, last) = (span.members.start, span.members.end - 1);
        assert_eq!(span.bytes, places[first].start..places[last].end);
        covered.extend(span.members.clone());
    }
    assert!(covered.is_sorted());
    assert!(
        members
            .iter()
            .all(|member| covered.binary_search(member).is_ok())
    );
}
