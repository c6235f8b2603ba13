//! Reading content under watch.

use std::io::{self, Read};

use crate::watch::Watch;

/// Content on its way into the archive; tells failures to read from failures to write.
pub(super) struct Watched<'a> {
    pub(super) content: &'a mut dyn Read,
    pub(super) watch: &'a mut dyn Watch,
    pub(super) stopped: bool,
    pub(super) failed: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.watch.stop_requested() {
            self.stopped = true;
            return Err(io::Error::other("stopped"));
        }
        match self.content.read(buf) {
            Ok(len) => {
                self.watch.advanced(len as u64);
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("reading failed"))
            }
        }
    }
}
