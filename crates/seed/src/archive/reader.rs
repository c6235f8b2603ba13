//! Reading an archive as a stream.

use std::io::{self, BufReader, Read};
use std::ops::Range;

use tar::{EntryType, Header};

use super::BLOCK;
use super::acl::Names;
use super::decode::Decoded;
use super::entry::{Entry, Extent, Kind, MemberPath, Time};
use super::error::ArchiveError;
use super::extended::Extended;
use super::{pax, sparse};

/// Longest extended header or GNU long name in bytes. The kernel keeps at most 64 KiB per attribute
/// and file systems far less in all.
const META_LIMIT: u64 = 1 << 20;

/// Most members of one archive: an operating system has less than a tenth.
const MEMBER_LIMIT: u64 = 1_000_000;

/// Most headers before one member: GNU tar writes two at most.
const HEADER_LIMIT: usize = 64;

/// Longest symlink target in bytes; the kernel's `PATH_MAX`.
const TARGET_LIMIT: usize = 4096;

/// Bytes decompressed ahead.
const BUFFER: usize = 128 * 1024;

/// Where numeric fields stand in a header (POSIX.1 ustar).
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const MTIME: Range<usize> = 136..148;

/// Reads members one after the other.
pub struct ArchiveReader<R> {
    input: R,
    names: Names,
    /// Bytes of the current member's content not yet read.
    content: u64,
    /// Bytes of padding after it.
    padding: u64,
    /// Bytes read from the input so far.
    position: u64,
    /// Members so far.
    members: u64,
    last: Option<MemberPath>,
    ended: bool,
}

impl<R: Read> ArchiveReader<BufReader<Decoded<R>>> {
    /// Reads an archive that may be compressed.
    ///
    /// # Errors
    ///
    /// When the first bytes cannot be read.
    pub fn decoding(input: R, names: Names) -> io::Result<Self> {
        Ok(Self::new(
            BufReader::with_capacity(BUFFER, Decoded::new(input)?),
            names,
        ))
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the (uncompressed) archive in `input`. ACLs that name users and groups are understood
    /// by `names`.
    pub fn new(input: R, names: Names) -> Self {
        Self {
            input,
            names,
            content: 0,
            padding: 0,
            position: 0,
            members: 0,
            last: None,
            ended: false,
        }
    }

    /// As [`Self::new`], where `input` begins at a boundary ([`Self::boundary`]) so many bytes behind the archive's start.
    pub fn resumed(input: R, names: Names, position: u64) -> Self {
        Self {
            position,
            ..Self::new(input, names)
        }
    }

    /// How many bytes of the archive come before the headers of the next member. Nothing that was read before is needed to
    /// read on there.
    pub fn boundary(&self) -> u64 {
        self.position + self.content + self.padding
    }

    /// Goes on so many bytes later in the current member's content: the input does not have those before.
    ///
    /// # Errors
    ///
    /// When the content is shorter.
    pub fn pass_over(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.content = self
            .content
            .checked_sub(bytes)
            .ok_or_else(|| ArchiveError::Truncated { at: self.at() })?;
        self.position += bytes;
        Ok(())
    }

    /// The next member, skipping what is left of the current one; `None` after the last.
    ///
    /// Memory is bounded whatever the archive says: extended headers of more than 1 MiB are refused. So are
    /// archives of more than a million members.
    ///
    /// # Errors
    ///
    /// When the archive is malformed, cut short (the end marker is missing) or holds a member that
    /// cannot be placed safely. The reader is of no more use then.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let rest = self.content + self.padding;
        (self.content, self.padding) = (0, 0);
        self.skip(rest)?;
        let mut extended = Extended::default();
        let mut budget = META_LIMIT;
        for _ in 0..HEADER_LIMIT {
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return self.finish();
            }
            let header = Header::from_byte_slice(&block);
            self.verify(header)?;
            let size = self.field(header.entry_size(), "a size that is not a number")?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let data = self.metadata(size, &mut budget)?;
                    let wrong = |reason| ArchiveError::member(&header.path_bytes(), reason);
                    extended.take(&data).map_err(wrong)?;
                }
                EntryType::XGlobalHeader => drop(self.metadata(size, &mut { META_LIMIT })?),
                EntryType::GNULongName => {
                    extended.path = Some(c_string(self.metadata(size, &mut budget)?))
                }
                EntryType::GNULongLink => {
                    extended.link = Some(c_string(self.metadata(size, &mut budget)?))
                }
                // A volume label: names no file.
                kind if kind.as_byte() == b'V' => {}
                _ if self.members == MEMBER_LIMIT => return Err(ArchiveError::TooMany),
                _ => {
                    self.members += 1;
                    return self.member(header, extended).map(Some);
                }
            }
        }
        Err(ArchiveError::NotATar {
            at: self.at(),
            reason: "a member has more than 64 extended headers",
        })
    }

    /// The current member's content. What is not read is skipped by [`Self::next_entry`]. For a
    /// sparse member these are the bytes of its extents, one after the other.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// How many bytes of the input came before the current member's content.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Tells how the input compares to its end: reads what follows the end marker, so that a
    /// compressed stream checks itself.
    fn finish(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.ended = true;
        io::copy(&mut self.input, &mut io::sink()).map_err(|source| ArchiveError::Read {
            at: "after its end marker".to_owned(),
            source,
        })?;
        Ok(None)
    }

    fn member(&mut self, header: &Header, mut ext: Extended) -> Result<Entry, ArchiveError> {
        let sparse = ext.sparse.take();
        let raw_path = sparse
            .as_ref()
            .and_then(|sparse| sparse.name.clone())
            .or(ext.path.take())
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let path = MemberPath::parse(&raw_path).map_err(ArchiveError::UnsafePath)?;
        self.last = Some(path.clone());
        let wrong = |reason: &str| ArchiveError::member(&raw_path, reason);
        let stored = match ext.size {
            Some(size) => size,
            None => self.field(header.entry_size(), "a size that is not a number")?,
        };
        let kind = self.kind(header, &raw_path, ext.link.take())?;
        let mut size = if kind == Kind::File { stored } else { 0 };
        if size > i64::MAX as u64 {
            return Err(wrong("is longer than any file can be"));
        }
        // Only files have content, whatever the size field of others says (POSIX ustar).
        (self.content, self.padding) = (size, padding(size));
        let mut extents = None;
        if kind == Kind::File {
            if header.entry_type() == EntryType::GNUSparse {
                let map = self.gnu_map(header, &raw_path)?;
                size = header
                    .as_gnu()
                    .and_then(|gnu| gnu.real_size().ok())
                    .ok_or_else(|| wrong("is sparse without a size"))?;
                extents = Some(sparse::checked(map, size, stored).map_err(wrong)?);
            } else if let Some(sparse) = sparse
                && let Some(real) = sparse.size
            {
                let map = if sparse.map_in_data {
                    self.map_in_data(&raw_path)?
                } else {
                    sparse.map.ok_or_else(|| wrong(sparse::BAD_MAP))?
                };
                size = real;
                extents = Some(sparse::checked(map, size, self.content).map_err(wrong)?);
            }
        }
        let id = |value: Option<u64>, field: io::Result<u64>, at| {
            let value = match value {
                Some(value) => value,
                None => stated(header, at, field)
                    .ok_or_else(|| wrong("has an owner that is not a number"))?,
            };
            u32::try_from(value).map_err(|_| wrong("has an owner above 2^32"))
        };
        let xattrs = ext
            .take_xattrs(&self.names, kind == Kind::Dir)
            .map_err(|reason| wrong(&reason))?;
        let mode = stated(header, MODE, header.mode().map(u64::from))
            .and_then(|mode| u32::try_from(mode).ok())
            .ok_or_else(|| wrong("has a mode that is not a number"))?;
        let mtime = match ext.mtime {
            Some(time) => time,
            None => Time {
                secs: stated(header, MTIME, header.mtime())
                    .and_then(|secs| i64::try_from(secs).ok())
                    .ok_or_else(|| wrong("has a time that is not a number"))?,
                nanos: 0,
            },
        };
        Ok(Entry {
            mode: mode & 0o7777,
            uid: id(ext.uid, header.uid(), UID)?,
            gid: id(ext.gid, header.gid(), GID)?,
            mtime,
            path,
            kind,
            size,
            extents,
            xattrs,
        })
    }

    fn kind(
        &self,
        header: &Header,
        path: &[u8],
        link: Option<Vec<u8>>,
    ) -> Result<Kind, ArchiveError> {
        let wrong = |reason: &str| ArchiveError::member(path, reason);
        let target = || {
            let target = match link {
                Some(link) => Some(link),
                None => header.link_name_bytes().map(|name| name.into_owned()),
            };
            match target {
                Some(target) if target.len() > TARGET_LIMIT => {
                    Err(wrong("has a link target longer than 4096 bytes"))
                }
                Some(target) if target.contains(&0) => {
                    Err(wrong("has a link target with a NUL byte"))
                }
                Some(target) if !target.is_empty() => Ok(target),
                _ => Err(wrong("is a link without a target")),
            }
        };
        let device = || match (header.device_major(), header.device_minor()) {
            (Ok(Some(major)), Ok(Some(minor))) => Ok((major, minor)),
            _ => Err(wrong("is a device without numbers")),
        };
        Ok(match header.entry_type() {
            EntryType::Regular if path.ends_with(b"/") => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink(target()?),
            EntryType::Link => {
                let target = MemberPath::parse(&target()?).map_err(|unsafe_path| {
                    wrong(&format!("is a hard link whose target {unsafe_path}"))
                })?;
                Kind::Hardlink(target)
            }
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => device().map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
            other => {
                let letter = (other.as_byte() as char).escape_default();
                return Err(wrong(&format!("is of the unknown type '{letter}'")));
            }
        })
    }

    fn gnu_map(&mut self, header: &Header, path: &[u8]) -> Result<Vec<Extent>, ArchiveError> {
        let wrong = |reason: &str| ArchiveError::member(path, reason);
        let gnu = header
            .as_gnu()
            .ok_or_else(|| wrong("is sparse in no GNU archive"))?;
        let (mut map, mut more) = sparse::gnu(gnu).map_err(wrong)?;
        while more {
            more = sparse::gnu_continued(&self.block()?, &mut map).map_err(wrong)?;
        }
        Ok(map)
    }

    /// The map of sparse format 1.0: decimal numbers, one per line, padded to a block.
    fn map_in_data(&mut self, path: &[u8]) -> Result<Vec<Extent>, ArchiveError> {
        let wrong = || ArchiveError::member(path, sparse::BAD_MAP);
        let (mut numbers, mut wanted) = (Vec::new(), None);
        let mut digits = Vec::new();
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.content < BLOCK as u64 {
                return Err(wrong());
            }
            let block = self.block()?;
            self.content -= BLOCK as u64;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = pax::number(&digits).ok_or_else(wrong)?;
                digits.clear();
                match wanted {
                    Some(_) => numbers.push(number),
                    None => {
                        let count = usize::try_from(number).map_err(|_| wrong())?;
                        if count > sparse::EXTENT_LIMIT {
                            return Err(wrong());
                        }
                        wanted = Some(2 * count);
                    }
                }
            }
            if digits.len() > 20 {
                return Err(wrong());
            }
        }
        Ok(numbers
            .chunks_exact(2)
            .map(|pair| Extent {
                offset: pair[0],
                len: pair[1],
            })
            .collect())
    }

    fn verify(&self, header: &Header) -> Result<(), ArchiveError> {
        let wrong = |reason| ArchiveError::NotATar {
            at: self.at(),
            reason,
        };
        let stated = header
            .cksum()
            .map_err(|_| wrong("its checksum is not a number"))?;
        let bytes = header.as_bytes();
        let sum = bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            - bytes[148..156]
                .iter()
                .map(|byte| u32::from(*byte))
                .sum::<u32>()
            + 8 * u32::from(b' ');
        if stated == sum {
            Ok(())
        } else {
            Err(wrong("its checksum is wrong"))
        }
    }

    fn field(&self, value: io::Result<u64>, reason: &'static str) -> Result<u64, ArchiveError> {
        // Beyond what any file holds, sums of sizes would overflow.
        match value {
            Ok(value) if value <= i64::MAX as u64 => Ok(value),
            _ => Err(ArchiveError::NotATar {
                at: self.at(),
                reason,
            }),
        }
    }

    /// The whole content of an extended header; all those of one member share a budget.
    fn metadata(&mut self, size: u64, budget: &mut u64) -> Result<Vec<u8>, ArchiveError> {
        *budget = budget
            .checked_sub(size)
            .ok_or_else(|| ArchiveError::NotATar {
                at: self.at(),
                reason: "a member's extended headers are longer than 1 MiB",
            })?;
        let mut data = vec![0; (size + padding(size)) as usize];
        self.fill(&mut data)?;
        data.truncate(size as usize);
        Ok(data)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), ArchiveError> {
        match self.input.read_exact(buf) {
            Ok(()) => {
                self.position += buf.len() as u64;
                Ok(())
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    fn skip(&mut self, len: u64) -> Result<(), ArchiveError> {
        match io::copy(&mut self.input.by_ref().take(len), &mut io::sink()) {
            Ok(skipped) if skipped == len => {
                self.position += len;
                Ok(())
            }
            Ok(_) => Err(ArchiveError::Truncated { at: self.at() }),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { at: self.at() },
            _ => ArchiveError::Read {
                at: self.at(),
                source,
            },
        }
    }

    fn at(&self) -> String {
        match &self.last {
            Some(path) => format!("after member \"{path}\""),
            None => "at its start".to_owned(),
        }
    }
}

/// The content of a member; ends where the member ends.
pub struct Content<'a, R> {
    reader: &'a mut ArchiveReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        let want = buf
            .len()
            .min(usize::try_from(reader.content).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = reader.input.read(&mut buf[..want])?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends inside this member",
            ));
        }
        reader.content -= got as u64;
        reader.position += got as u64;
        Ok(got)
    }
}

/// A numeric field of the header; one that was left blank is 0, as GNU tar reads it.
fn stated(header: &Header, at: Range<usize>, value: io::Result<u64>) -> Option<u64> {
    let blank = || {
        header.as_bytes()[at]
            .iter()
            .all(|byte| matches!(byte, 0 | b' '))
    };
    value.ok().or_else(|| blank().then_some(0))
}

/// Bytes to the next block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// GNU long names end with a NUL.
fn c_string(mut data: Vec<u8>) -> Vec<u8> {
    if data.last() == Some(&0) {
        data.pop();
    }
    data
}
