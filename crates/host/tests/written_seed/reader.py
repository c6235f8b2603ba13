"""Reads an indexed seed as docs/seed-format.md describes it, with nothing of the product.

usage: reader.py LAYER OFFSET LENGTH REPOSITORY

Takes every range out of the layer, checks it, inflates it alone, and compares the objects in it with those of the
repository that the seed was made of. Prints the paths of the objects in the order of the index.
"""

import hashlib
import io
import os
import sys
import tarfile
import zlib

layer = open(sys.argv[1], "rb")
offset, length, repository = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SUFFIXES = {1: "file", 2: "dirtree", 3: "dirmeta", 4: "commit"}


def cut(start, size):
    layer.seek(start)
    data = layer.read(size)
    assert len(data) == size
    return data


index = io.BytesIO(cut(offset, length))


def number():
    value, shift = 0, 0
    while True:
        byte = index.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def chain():
    start = number()
    members = []
    for _ in range(number()):
        compressed, inflated, digest, flags = number(), number(), index.read(32), number()
        objects = [(index.read(1)[0], index.read(32).hex()) for _ in range(flags >> 1)]
        data = cut(start, compressed)
        start += compressed
        assert hashlib.sha256(data).digest() == digest
        inflate = zlib.decompressobj(31)
        plain = inflate.decompress(data)
        assert inflate.eof and not inflate.unused_data and len(plain) == inflated
        members.append((plain, objects, flags & 1))
    return members


def entries(plain):
    archive = tarfile.open(fileobj=io.BytesIO(plain), mode="r:")
    return [(entry, entry.isfile() and archive.extractfile(entry).read()) for entry in archive]


assert index.read(16) == b"lca-seed-index\n\x01"
commit = index.read(32).hex()
for _ in range(number()):
    name = index.read(number()).decode()
    start, size, digest = number(), number(), index.read(32)
    assert hashlib.sha256(cut(start, size)).digest() == digest
    header = tarfile.TarInfo.frombuf(cut(start - 512, 512), "utf-8", "strict")
    assert (header.name, header.size) == (name, size)
    print("document", name)
for part in ["etc", "var"]:
    whole = b"".join(plain for plain, _, _ in chain())
    print(part, *[entry.name for entry, _ in entries(whole)])
members = chain()
assert index.read() == b""
print("members", len(members), "in pieces", sum(continues for _, _, continues in members))

at = 0
while at < len(members):
    plain, objects, continues = members[at]
    assert not continues
    at += 1
    while at < len(members) and members[at][2]:
        plain += members[at][0]
        at += 1
    if not objects:
        continue
    found = entries(plain)
    paths = [f"{sum[:2]}/{sum[2:]}.{SUFFIXES[kind]}" for kind, sum in objects]
    assert [entry.name for entry, _ in found] == ["./objects/" + path for path in paths], paths
    for path, (entry, content) in zip(paths, found):
        source = os.path.join(repository, "objects", path)
        status = os.lstat(source)
        if entry.issym():
            assert entry.linkname == os.readlink(source)
        else:
            assert content == open(source, "rb").read(), path
        if not path.endswith(".file"):
            assert hashlib.sha256(content).hexdigest() == path.replace("/", "").split(".")[0]
        assert (entry.mode, entry.uid, entry.gid) == (status.st_mode & 0o7777, status.st_uid, status.st_gid)
        print("object", path)
