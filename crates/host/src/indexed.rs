//! Seeds with an index: what of them a node lacks, and fetching only that (`docs/seed-format.md`).

/// What a fetch of an indexed seed would ask the registry for. All sizes are bytes as they are in the seed, compressed, and
/// include what lies between two wanted ranges and is fetched with them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Missing {
    /// The index and the documents.
    pub index: u64,
    /// Objects that the node's repository lacks.
    pub repository: u64,
    /// `/var`, without what an interrupted fetch has brought.
    pub var: u64,
    /// `/etc`, likewise.
    pub etc: u64,
    /// How many objects the commit reaches.
    pub objects: u64,
    /// How many of them the node lacks.
    pub missing_objects: u64,
    /// What the missing objects and `/var` take on the disk, about: their sizes before they were compressed.
    pub inflated: u64,
}

impl Missing {
    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.index + self.repository + self.var + self.etc
    }
}
