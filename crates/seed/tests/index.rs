//! Indexes and their labels as outsiders may write them.

use api::Digest;
use seed::index::{
    COMPRESSED_LIMIT, Chain, Document, INDEX_LIMIT, INFLATED_LIMIT, Index, IndexError, Member,
    ObjectId, ObjectKind, Place,
};
use seed::pin::Blob;

/// Bytes of the layer that the sample lies in.
const LAYER: u64 = 1_000_000;

fn digest(byte: u8) -> Digest {
    Digest::from_sha256(&[byte; 32])
}

fn object(byte: u8, kind: ObjectKind) -> ObjectId {
    ObjectId {
        checksum: [byte; 32],
        kind,
    }
}

fn member(compressed: u32, inflated: u32, objects: &[ObjectId]) -> Member {
    Member {
        compressed,
        inflated,
        digest: [9; 32],
        objects: objects.to_vec(),
        continues: false,
    }
}

fn place() -> Place {
    Place {
        layer: digest(1),
        offset: 900_000,
        length: 1000,
        sha256: digest(2),
    }
}

fn sample() -> Index {
    let next = |compressed, inflated| Member {
        continues: true,
        ..member(compressed, inflated, &[])
    };
    let file = ObjectKind::File;
    Index {
        commit: [1; 32],
        documents: vec![
            Document {
                name: "manifest.json".to_owned(),
                offset: 512,
                length: 300,
                sha256: [3; 32],
            },
            Document {
                name: "etc.deletions".to_owned(),
                offset: 1536,
                length: 0,
                sha256: [4; 32],
            },
        ],
        etc: Chain {
            offset: 2048,
            members: vec![member(18, 512, &[])],
        },
        var: Chain {
            offset: 3072,
            members: vec![member(500, 1 << 20, &[]), member(20, 1024, &[])],
        },
        ostree: Chain {
            offset: 4096,
            members: vec![
                member(200, 2048, &[]),
                member(
                    3000,
                    16384,
                    &[
                        object(1, ObjectKind::Commit),
                        object(1, ObjectKind::DirTree),
                        object(2, ObjectKind::DirMeta),
                    ],
                ),
                member(3000, 16384, &[object(1, file), object(2, file)]),
                member(300_000, 1 << 20, &[object(3, file)]),
                next(COMPRESSED_LIMIT / 10, INFLATED_LIMIT),
                next(1000, 1024),
                member(30, 1024, &[]),
            ],
        },
    }
}

fn decode(bytes: &[u8]) -> Result<Index, IndexError> {
    Index::decode(bytes, &place(), LAYER)
}

#[test]
fn an_index_reads_back() {
    let index = sample();
    let bytes = index.encode();
    assert_eq!(decode(&bytes), Ok(index.clone()));
    let ends: Vec<_> = index.ostree.located().map(|(_, range)| range.end).collect();
    assert_eq!(ends[..3], [4296, 7296, 10296]);
    assert_eq!(*ends.last().unwrap(), 4096 + index.ostree.length());
    assert_eq!(
        object(0xab, ObjectKind::DirTree).path(),
        format!("ab/{}.dirtree", "ab".repeat(31))
    );
}

#[test]
fn the_encoding_is_the_documented_one() {
    let bytes = sample().encode();
    let mut expect = b"lca-seed-index\n\x01".to_vec();
    expect.extend([1; 32]);
    expect.extend(b"\x02\x0dmanifest.json\x80\x04\xac\x02");
    expect.extend([3; 32]);
    expect.extend(b"\x0detc.deletions\x80\x0c\x00");
    expect.extend([4; 32]);
    expect.extend(b"\x80\x10\x01\x12\x80\x04");
    expect.extend([9; 32]);
    expect.push(0);
    assert_eq!(&bytes[..expect.len()], expect);
}

#[test]
fn bytes_that_are_no_index_are_refused() {
    let bytes = sample().encode();
    let check = |bytes: &[u8], expect: &IndexError| {
        assert_eq!(decode(bytes).as_ref(), Err(expect), "{} bytes", bytes.len());
    };
    for len in 0..bytes.len() {
        let expect = match len {
            0..16 => IndexError::Format,
            _ => IndexError::Length,
        };
        check(&bytes[..len], &expect);
    }
    check(&[&bytes[..], b"\0"].concat(), &IndexError::Length);
    check(&[b"\x1f\x8b", &bytes[..]].concat(), &IndexError::Format);
    check(
        &[b"lca-seed-index\n\x02", &bytes[16..]].concat(),
        &IndexError::Format,
    );
    let after_commit = &bytes[..48];
    let spoilt = |tail: &[u8]| [after_commit, tail, &[0; 200]].concat();
    // Counts of documents beyond what is there, and numbers in a form of their own.
    check(&spoilt(b"\xff\xff\xff\xff\x0f"), &IndexError::Length);
    check(&spoilt(b"\x06"), &IndexError::Length);
    let number = IndexError::Wrong {
        what: "a number".to_owned(),
        reason: "is too large, or longer than it has to be",
    };
    check(&spoilt(b"\x82\x00"), &number);
    check(&spoilt(&[0xff; 10]), &number);
    check(
        &spoilt(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        &number,
    );
}

#[test]
fn indexes_that_lie_are_refused() {
    fn check(change: impl FnOnce(&mut Index), what: &str, reason: &str) {
        let mut index = sample();
        change(&mut index);
        let error = decode(&index.encode()).unwrap_err();
        let expect = format!("the seed's index is wrong: {what} {reason}");
        assert_eq!(error.to_string(), expect);
    }
    let file = |byte| object(byte, ObjectKind::File);

    let reason = "is no document";
    check(
        |x| x.documents[0].name = "../manifest.json".to_owned(),
        "../manifest.json",
        reason,
    );
    check(
        |x| x.documents[0].name = "lca-cli".to_owned(),
        "lca-cli",
        reason,
    );
    check(
        |x| x.documents[0].name = "ostree-a/b.origin".to_owned(),
        "ostree-a/b.origin",
        reason,
    );
    check(
        |x| x.documents[0].name = "ostree-\u{10}.origin".to_owned(),
        "ostree-\\u{10}.origin",
        reason,
    );
    check(
        |x| x.documents[0].name = "ostree-\u{e9}.origin".to_owned(),
        "ostree-\u{e9}.origin",
        reason,
    );
    check(
        |x| x.documents[0].name = "\u{7}".to_owned(),
        "\\u{7}",
        reason,
    );
    check(
        |x| x.documents[1].name = "manifest.json".to_owned(),
        "manifest.json",
        "comes twice",
    );
    check(
        |x| x.documents[0].length = (1 << 20) + 1,
        "manifest.json",
        "is too long",
    );

    let reason = "has a member that is too short or too long";
    check(|x| x.etc.members[0].compressed = 17, "etc.tgz", reason);
    check(
        |x| x.var.members[0].compressed = COMPRESSED_LIMIT + 1,
        "var.tgz",
        reason,
    );
    check(|x| x.ostree.members[0].inflated = 0, "ostree.tgz", reason);
    check(|x| x.ostree.members[0].inflated = 513, "ostree.tgz", reason);
    check(
        |x| x.ostree.members[0].inflated = INFLATED_LIMIT + 512,
        "ostree.tgz",
        reason,
    );
    check(|x| x.var.members.clear(), "var.tgz", "has no members");

    check(
        |x| x.etc.members[0].objects.push(file(8)),
        "etc.tgz",
        "has objects",
    );
    check(
        |x| x.var.members[1].continues = true,
        "var.tgz",
        "has objects",
    );
    let reason = "has a continuation of what is not one object";
    check(
        |x| x.ostree.members[0].continues = true,
        "ostree.tgz",
        reason,
    );
    check(
        |x| x.ostree.members[3].objects.clear(),
        "ostree.tgz",
        reason,
    );
    check(
        |x| x.ostree.members[3].objects.push(file(8)),
        "ostree.tgz",
        reason,
    );
    check(
        |x| x.ostree.members[4].objects.push(file(8)),
        "ostree.tgz",
        reason,
    );
    check(
        |x| x.ostree.members[1].objects.push(file(8)),
        "ostree.tgz",
        "has a member with files and other objects",
    );
    let reason = "has an object twice";
    check(
        |x| x.ostree.members[2].objects.push(file(3)),
        "ostree.tgz",
        reason,
    );
    check(
        |x| x.ostree.members[2].objects.push(file(2)),
        "ostree.tgz",
        reason,
    );
    let reason = "has a member with more objects than it can hold";
    let fill = |x: &mut Index, more| {
        let member = &mut x.ostree.members[2];
        let room = member.inflated / 512 + more;
        let others = (member.objects.len() as u32..room).map(|number| {
            let mut id = file(200);
            id.checksum[..4].copy_from_slice(&number.to_le_bytes());
            id
        });
        member.objects.extend(others);
    };
    check(|x| fill(x, 1), "ostree.tgz", reason);
    let mut full = sample();
    fill(&mut full, 0);
    assert_eq!(decode(&full.encode()), Ok(full));
    let reason = "does not have the commit, and no other";
    check(|x| x.commit = [2; 32], "ostree.tgz", reason);
    check(
        |x| {
            x.ostree.members[1]
                .objects
                .retain(|object| object.kind != ObjectKind::Commit)
        },
        "ostree.tgz",
        reason,
    );
    let other = object(2, ObjectKind::Commit);
    check(
        |x| x.ostree.members[1].objects.push(other),
        "ostree.tgz",
        reason,
    );

    let reason = "lies where something else lies";
    check(|x| x.documents[1].offset = 800, "etc.deletions", reason);
    check(|x| x.etc.offset = 3580, "etc.tgz", reason);
    check(|x| x.var.offset = 1536, "etc.tgz", reason);
    check(|x| x.ostree.offset = 200_000, "the index", reason);
    check(|x| x.documents[0].offset = 900_999, "manifest.json", reason);
    let reason = "reaches beyond its layer";
    check(|x| x.var.offset = LAYER - 519, "var.tgz", reason);
    check(
        |x| x.documents[1].offset = LAYER + 1,
        "etc.deletions",
        reason,
    );
    check(|x| x.ostree.offset = u64::MAX, "ostree.tgz", reason);

    let mut index = sample();
    index.var.offset = LAYER - 520;
    assert_eq!(decode(&index.encode()), Ok(index));
}

#[test]
fn unknown_kinds_of_objects_are_refused() {
    let index = sample();
    let good = index.encode();
    let needle = [&[4_u8][..], &[1; 32], &[2]].concat();
    let at = good
        .windows(needle.len())
        .position(|bytes| bytes == needle)
        .unwrap();
    for kind in [0, 5, 6, 255] {
        let mut bytes = good.clone();
        bytes[at] = kind;
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(
            error.ends_with("ostree.tgz has an object of an unknown kind"),
            "{error}"
        );
    }
}

#[test]
fn labels() {
    let layer = |byte| Blob {
        digest: digest(byte),
        size: LAYER,
        media_type: String::new(),
    };
    let check = |label: &str, layers: &[Blob], expect: Result<(), &str>| {
        let got = Place::parse(label, layers).map(drop);
        let got = got.map_err(|error| error.to_string());
        let prefix = "the label that says where the seed's index lies is";
        assert_eq!(
            got,
            expect.map_err(|error| format!("{prefix} {error}")),
            "{label}"
        );
    };
    let text = |place: &Place| serde_json::to_string(place).unwrap();
    let good = text(&place());
    assert_eq!(Place::parse(&good, &[layer(1)]), Ok(place()));
    assert_eq!(place().range(), 900_000..901_000);
    check(&good.replace('{', r#"{"later":[],"#), &[layer(1)], Ok(()));
    check("", &[layer(1)], Err("malformed"));
    check(&good.replace("900000", "-1"), &[layer(1)], Err("malformed"));
    check(
        &good.replace("sha256:", "md5:"),
        &[layer(1)],
        Err("malformed"),
    );
    check(&good, &[layer(3)], Err("wrong: it names another layer"));
    let many = "wrong: the image has more than one layer";
    check(&good, &[layer(1), layer(1)], Err(many));
    let with = |offset, length| {
        text(&Place {
            offset,
            length,
            ..place()
        })
    };
    let beyond = "wrong: the index reaches beyond its layer";
    check(&with(LAYER - 1000, 1000), &[layer(1)], Ok(()));
    check(&with(LAYER - 999, 1000), &[layer(1)], Err(beyond));
    check(&with(u64::MAX, 1000), &[layer(1)], Err(beyond));
    let long = "wrong: the index is too long";
    check(&with(0, INDEX_LIMIT + 1), &[layer(1)], Err(long));
}
