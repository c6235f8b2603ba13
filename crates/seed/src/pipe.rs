//! A bounded pipe of bytes between two threads, with buffers that go round.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// What goes through.
enum Message {
    /// A buffer, of which so much is filled.
    Bytes(Vec<u8>, usize),
    /// One stream is over, in good order; another may follow.
    End,
}

/// A pipe that holds at most `buffers` times `size` bytes.
///
/// Several streams may go through it, one after the other: the reader sees an end of file between
/// them. A writer that is dropped inside a stream makes the reader fail, so that a stream that was
/// cut off is never taken for a short one.
pub fn pipe(buffers: usize, size: usize) -> (PipeWriter, PipeReader) {
    let (filled, arriving) = sync_channel(buffers);
    let (give_back, spent) = channel();
    let writer = PipeWriter {
        filled,
        spent,
        current: Vec::new(),
        len: 0,
        size: size.max(1),
    };
    let reader = PipeReader {
        arriving,
        give_back,
        current: Vec::new(),
        len: 0,
        at: 0,
        between: true,
    };
    (writer, reader)
}

/// The end that bytes go into.
pub struct PipeWriter {
    filled: SyncSender<Message>,
    spent: Receiver<Vec<u8>>,
    /// Empty, or of the full size whatever is filled: clearing a buffer each time would cost as
    /// much as copying it.
    current: Vec<u8>,
    len: usize,
    size: usize,
}

impl PipeWriter {
    /// Ends the stream; the next write begins another.
    ///
    /// # Errors
    ///
    /// When the reader is gone.
    pub fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Message::End)
    }

    /// Moves all that `input` has, without ending the stream.
    ///
    /// # Errors
    ///
    /// Those of `input`, and when the reader is gone.
    pub fn pour(&mut self, input: &mut dyn Read) -> io::Result<()> {
        loop {
            match input.read(self.room()) {
                Ok(0) => return Ok(()),
                Ok(got) => self.filled(got)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What is left of the current buffer; never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.current.is_empty() {
            self.current = self.spent.try_recv().unwrap_or_default();
            self.current.resize(self.size, 0);
            self.len = 0;
        }
        self.current.get_mut(self.len..).unwrap_or_default()
    }

    fn filled(&mut self, len: usize) -> io::Result<()> {
        self.len += len;
        if self.len >= self.size {
            self.flush()?;
        }
        Ok(())
    }

    fn send(&self, message: Message) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more");
        self.filled.send(message).map_err(gone)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room();
        let len = room.len().min(bytes.len());
        if let (Some(to), Some(from)) = (room.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.filled(len)?;
        Ok(len)
    }

    /// Hands over what was written so far; waits while the pipe is full.
    fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() || self.len == 0 {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.current);
        let len = std::mem::take(&mut self.len);
        self.send(Message::Bytes(bytes, len))
    }
}

/// The end that bytes come out of.
pub struct PipeReader {
    arriving: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    current: Vec<u8>,
    len: usize,
    at: usize,
    /// No byte of a stream was read yet, or it was read to its end.
    between: bool,
}

impl PipeReader {
    /// Reads what is left of the stream, so that the next one can begin.
    ///
    /// # Errors
    ///
    /// When the stream was cut off.
    pub fn drain(&mut self) -> io::Result<()> {
        while !self.between {
            let len = self.fill_buf()?.len();
            self.consume(len);
        }
        Ok(())
    }

    /// Waits for the next stream's first bytes or its end; `false` when there is none.
    ///
    /// # Errors
    ///
    /// When the stream before it was not read to its end.
    pub fn next_stream(&mut self) -> io::Result<bool> {
        self.drain()?;
        let Ok(message) = self.arriving.recv() else {
            return Ok(false);
        };
        self.between = false;
        match message {
            Message::Bytes(bytes, len) => self.take(bytes, len),
            Message::End => self.between = true,
        }
        Ok(true)
    }

    fn take(&mut self, bytes: Vec<u8>, len: usize) {
        // The writer may be gone already.
        drop(
            self.give_back
                .send(std::mem::replace(&mut self.current, bytes)),
        );
        (self.len, self.at) = (len, 0);
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.len && !self.between {
            match self.arriving.recv() {
                Ok(Message::Bytes(bytes, len)) => self.take(bytes, len),
                Ok(Message::End) => self.between = true,
                Err(_) => return Err(cut()),
            }
        }
        Ok(self.current.get(self.at..self.len).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let len = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.consume(len);
        Ok(len)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_each_other() {
        let (mut writer, mut reader) = pipe(2, 5);
        let feeder = std::thread::spawn(move || {
            writer.write_all(b"hello, world").unwrap();
            writer.end().unwrap();
            writer.end().unwrap();
            writer.pour(&mut &b"poured whole"[..]).unwrap();
            writer.write_all(b"!").unwrap();
            writer.end().unwrap();
            writer.write_all(b"cut").unwrap();
            writer.flush().unwrap();
        });
        let mut seen = Vec::new();
        for _ in 0..3 {
            assert!(reader.next_stream().unwrap());
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            seen.push(text);
        }
        assert_eq!(seen, ["hello, world", "", "poured whole!"]);
        assert!(reader.next_stream().unwrap());
        let error = reader.drain().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        feeder.join().unwrap();
    }

    #[test]
    fn both_ends_learn_that_the_other_is_gone() {
        let (mut writer, reader) = pipe(1, 4);
        drop(reader);
        assert_eq!(
            writer.write_all(b"12345678").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let (writer, mut reader) = pipe(1, 4);
        drop(writer);
        assert!(!reader.next_stream().unwrap());
    }
}
