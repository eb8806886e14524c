//! Where lines come from, read in blocks by a thread of its own.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc as sync_mpsc;
use std::time::Duration;

use tokio::sync::mpsc;

/// Size of a block. Large enough that a system call for it costs nothing, small enough to stay in the cache.
const BLOCK: usize = 256 * 1024;
/// Blocks that may be read ahead.
const AHEAD: usize = 4;
/// How long after the request to stop a block that was being read may still come.
const LAST_READ: Duration = Duration::from_millis(100);

/// An input, opened but not read.
pub(crate) struct Input {
    /// What it is called in messages.
    pub(crate) name: String,
    /// Its length in bytes, where that is known.
    pub(crate) size: Option<u64>,
    /// A file: it has an end that should be reached.
    pub(crate) is_file: bool,
    reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        if path.as_os_str() == "-" {
            let reader = Box::new(io::stdin());
            return Ok(Self { name: "standard input".to_owned(), size: None, is_file: false, reader });
        }
        let name = path.display().to_string();
        let failed = |e: io::Error| format!("can't open {name}: {}", words(&e));
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(format!("can't open {name}: it is a directory"));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { size, is_file: size.is_some(), reader: Box::new(file), name })
    }

    /// Whether a person is typing it.
    pub(crate) fn is_typed(&self) -> bool {
        self.name == "standard input" && io::stdin().is_terminal()
    }

    /// Starts to read.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub(crate) fn start(self) -> io::Result<Blocks> {
        let (send, blocks) = mpsc::channel(AHEAD);
        let (spent, recycled) = sync_mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || read_blocks(self.reader, &send, &recycled, &stopped);
        // Not a task of the runtime: a read of standard input can't be interrupted, and must not keep the program from ending.
        std::thread::Builder::new().name("input".to_owned()).spawn(read)?;
        Ok(Blocks { blocks, spent, stop })
    }
}

/// An I/O error without the operating system's number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Bytes that were read at once.
pub(crate) struct Block {
    buffer: Vec<u8>,
    length: usize,
}

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Nothing follows: the input was read to its end.
    pub(crate) const fn is_end(&self) -> bool {
        self.length == 0
    }

    /// Whether the input begins as a gzip file does.
    pub(crate) fn is_gzip(&self) -> bool {
        self.bytes().starts_with(&[0x1f, 0x8b, 8])
    }
}

/// The blocks of an input, in order. An empty one is the last.
pub(crate) struct Blocks {
    blocks: mpsc::Receiver<io::Result<Block>>,
    spent: sync_mpsc::Sender<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

impl Blocks {
    /// The next block, or the error that ends the input; `None` behind that. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Block>> {
        self.blocks.recv().await
    }

    /// Gives a block back, so that its memory is used again.
    pub(crate) fn recycle(&self, block: Block) {
        // An error says that the reader has ended and needs none.
        drop(self.spent.send(block.buffer));
    }

    /// Stops reading. Blocks that have been read can still be had from [`Self::next_read`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// After [`Self::stop`]: the next block that has been read, `None` if there is none.
    pub(crate) async fn next_read(&mut self) -> Option<io::Result<Block>> {
        // The reader may hang in a read that never ends, so its end can't be waited for.
        tokio::time::timeout(LAST_READ, self.blocks.recv()).await.ok().flatten()
    }
}

fn read_blocks(
    mut reader: Box<dyn Read + Send>,
    send: &mpsc::Sender<io::Result<Block>>,
    recycled: &sync_mpsc::Receiver<Vec<u8>>,
    stop: &AtomicBool,
) {
    while !stop.load(Relaxed) {
        let mut buffer = recycled.try_recv().unwrap_or_else(|_| vec![0; BLOCK]);
        let block = match reader.read(&mut buffer) {
            Ok(length) => Ok(Block { buffer, length }),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
        let ended = block.as_ref().map_or(true, Block::is_end);
        if send.blocking_send(block).is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(reader: impl Read + Send + 'static) -> Input {
        Input { name: "test".to_owned(), size: None, is_file: false, reader: Box::new(reader) }
    }

    #[tokio::test]
    async fn everything_is_read_in_order() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut blocks = input(io::Cursor::new(content.clone())).start().unwrap();
        let mut read = Vec::new();
        while let Some(block) = blocks.next().await {
            let block = block.unwrap();
            read.extend_from_slice(block.bytes());
            blocks.recycle(block);
        }
        assert!(read == content);
    }

    struct Failing(bool);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[tokio::test]
    async fn a_read_error_comes_after_what_was_read() {
        let mut blocks = input(Failing(false)).start().unwrap();
        assert_eq!(blocks.next().await.unwrap().unwrap().bytes(), b"x");
        assert_eq!(blocks.next().await.unwrap().err().unwrap().to_string(), "the disk is gone");
        assert!(blocks.next().await.is_none());
    }

    /// Gives one block, then hangs until it is dropped.
    struct Hanging(sync_mpsc::Receiver<()>, bool);

    impl Read for Hanging {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, true) {
                self.0.recv().ok();
                return Ok(0);
            }
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[tokio::test]
    async fn a_read_that_never_ends_does_not_keep_it_from_stopping() {
        let (_keep, hang) = sync_mpsc::channel();
        let mut blocks = input(Hanging(hang, false)).start().unwrap();
        blocks.stop();
        let mut read = 0;
        while let Some(block) = blocks.next_read().await {
            read += block.unwrap().bytes().len();
        }
        assert!(read <= 1, "it may have been read before the stop");
    }

    #[test]
    fn what_can_t_be_opened_says_why() {
        let error = |path: &str| Input::open(Path::new(path)).err().unwrap();
        assert_eq!(error("/no/such/file"), "can't open /no/such/file: there is no such file");
        assert_eq!(error("/"), "can't open /: it is a directory");
        assert!(!Input::open(Path::new("-")).unwrap().is_file);
    }

    #[test]
    fn gzip_is_recognised() {
        let block = |bytes: &[u8]| Block { buffer: bytes.to_vec(), length: bytes.len() };
        assert!(block(&[0x1f, 0x8b, 8, 0]).is_gzip());
        assert!(!block(b"{}").is_gzip());
    }
}
