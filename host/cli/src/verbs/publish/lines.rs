//! Reading lines, and making messages of them, on a thread of its own.
//!
//! Bounds: a line longer than a body may be is skipped, not gathered; at most [`CHUNKS_MAX`]
//! chunks of [`CHUNK_LINES_MAX`] lines or [`CHUNK_BYTES_MAX`] bytes wait to be sent.
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::mpsc;
use yard_client::Message;
use yard_client::wire::limits::BODY_BYTES_MAX;

use super::pick::Picks;

const BUFFER_BYTES: usize = 256 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;
const CHUNK_LINES_MAX: usize = 512;
const CHUNKS_MAX: usize = 8;

/// One line: its number, and its message or why it is none.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) message: Result<Message, String>,
}

/// Lines, or why no more can be read.
pub(crate) type Chunk = Result<Vec<Line>, String>;

/// Where lines come from.
pub(crate) struct Source {
    input: BufReader<Box<dyn Read + Send>>,
    /// The input is one message, whatever line ends are in it.
    whole: bool,
    /// It is unpacked while it is read.
    packed: bool,
    /// Bytes of the file, where that is known.
    pub(crate) size_bytes: Option<u64>,
    /// Bytes of the file that were read, before they were unpacked.
    pub(crate) read_bytes: Arc<AtomicU64>,
}

impl Source {
    /// Opens a file; `-` is stdin. A file whose name ends in `.gz` is unpacked.
    pub(crate) fn open(from: &str) -> io::Result<Self> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&read_bytes);
        let (file, size_bytes): (Box<dyn Read + Send>, _) = if from == "-" {
            (Box::new(Counted { inner: io::stdin(), count }), None)
        } else {
            let file = File::open(from)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let size_bytes = metadata.is_file().then_some(metadata.len());
            (Box::new(Counted { inner: file, count }), size_bytes)
        };
        let packed = from.ends_with(".gz");
        let unpacked: Box<dyn Read + Send> = if packed {
            let buffered = BufReader::with_capacity(BUFFER_BYTES, file);
            Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
        } else {
            file
        };
        let input = BufReader::with_capacity(BUFFER_BYTES, unpacked);
        Ok(Self { input, whole: false, packed, size_bytes, read_bytes })
    }

    /// Whether it is one message, whatever is in it.
    pub(crate) fn is_single(&self) -> bool {
        self.whole
    }

    /// One message.
    pub(crate) fn message(text: String) -> Self {
        let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(text.into_bytes()));
        let (input, read_bytes) = (BufReader::new(input), Arc::default());
        Self { input, whole: true, packed: false, size_bytes: None, read_bytes }
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Starts to read. The thread ends with the input, or when the receiver is dropped; one that
/// waits for a terminal ends with the process.
pub(crate) fn spawn(mut source: Source, picks: Picks) -> mpsc::Receiver<Chunk> {
    let (send, receive) = mpsc::channel(CHUNKS_MAX);
    thread::spawn(move || {
        if source.whole {
            let _ = send.blocking_send(read_whole(&mut source.input, &picks));
            return;
        }
        let mut number = 0;
        loop {
            let chunk = read_chunk(&mut source.input, &picks, &mut number);
            let remark = if source.packed { " (it is read as gzip)" } else { "" };
            let chunk = chunk.map_err(|why| format!("{why}{remark}"));
            let last = chunk.as_ref().map_or(true, Vec::is_empty);
            if send.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receive
}

fn read_whole(input: &mut impl Read, picks: &Picks) -> Chunk {
    let mut body = Vec::new();
    input.read_to_end(&mut body).map_err(|error| error.to_string())?;
    Ok(vec![Line { number: 1, message: picks.message(&body) }])
}

/// Reads lines until a chunk is full or the input would have to be waited for. No line: the end.
fn read_chunk<R: Read>(input: &mut BufReader<R>, picks: &Picks, number: &mut u64) -> Chunk {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    while lines.len() < CHUNK_LINES_MAX && bytes < CHUNK_BYTES_MAX {
        let read = read_line(input, &mut line, BODY_BYTES_MAX);
        let read = read.map_err(|error| format!("line {}: {error}", *number + 1))?;
        let message = match read {
            LineRead::End => break,
            LineRead::Whole => picks.message(&line),
            LineRead::Cut { bytes } => {
                Err(format!("it has {bytes} bytes, the limit is {BODY_BYTES_MAX}"))
            }
        };
        *number += 1;
        bytes += line.len();
        lines.push(Line { number: *number, message });
        // What is there is sent before the next line is waited for.
        if !input.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(lines)
}

/// What reading a line found.
#[derive(Debug, PartialEq, Eq)]
enum LineRead {
    /// Nothing more.
    End,
    /// A line, without its line feed.
    Whole,
    /// A line of so many bytes, too long to be kept.
    Cut { bytes: u64 },
}

/// Reads one line, or skips it when it is longer than `bytes_max`.
fn read_line(
    input: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<LineRead> {
    line.clear();
    let (mut read, mut ended) = (0u64, false);
    while !ended {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            if read == 0 {
                return Ok(LineRead::End);
            }
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        read += part.len() as u64;
        if read <= bytes_max as u64 {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        ended = end.is_some();
        input.consume(used);
    }
    if read > bytes_max as u64 {
        line.clear();
        return Ok(LineRead::Cut { bytes: read });
    }
    Ok(LineRead::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines_of(text: &[u8], bytes_max: usize) -> Vec<(LineRead, String)> {
        // A buffer of three bytes, so that lines go over its end.
        let mut input = BufReader::with_capacity(3, text);
        let (mut found, mut line) = (Vec::new(), Vec::new());
        loop {
            let read = read_line(&mut input, &mut line, bytes_max).expect("a slice is read");
            if read == LineRead::End {
                return found;
            }
            found.push((read, String::from_utf8_lossy(&line).into_owned()));
        }
    }

    #[test]
    fn lines() {
        let check = |text: &str, expected: &[&str]| {
            let expected: Vec<_> =
                expected.iter().map(|line| (LineRead::Whole, (*line).to_owned())).collect();
            assert_eq!(lines_of(text.as_bytes(), 100), expected, "{text:?}");
        };
        check("", &[]);
        check("a", &["a"]);
        check("a\n", &["a"]);
        check("\n", &[""]);
        check("abcdef\n\ngh", &["abcdef", "", "gh"]);
        check("crlf\r\nlf\n", &["crlf\r", "lf"]);
        let cut = lines_of(b"abcde\nabcd\nabcdefgh", 4);
        let lines = [(5, ""), (0, "abcd"), (8, "")];
        for (found, (bytes, text)) in cut.into_iter().zip(lines) {
            let read = if bytes > 0 { LineRead::Cut { bytes } } else { LineRead::Whole };
            assert_eq!(found, (read, text.to_owned()));
        }
    }

    #[test]
    fn a_chunk_ends_where_the_input_would_be_waited_for() {
        let mut input = BufReader::with_capacity(8, &b"a\nb\nc\nde\nf"[..]);
        let mut number = 0;
        let mut chunks = Vec::new();
        loop {
            let chunk = read_chunk(&mut input, &Picks::default(), &mut number).expect("read");
            if chunk.is_empty() {
                break;
            }
            chunks.push(chunk.iter().map(|line| line.number).collect::<Vec<_>>());
        }
        assert_eq!(chunks, [vec![1, 2, 3], vec![4], vec![5]]);
    }

    #[test]
    fn several_packed_parts_are_one_file() {
        let path = std::env::temp_dir().join(format!("yard-lines-{}.gz", std::process::id()));
        let mut file = File::create(&path).expect("created");
        for part in ["a\nb\n", "c\n"] {
            let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            packer.write_all(part.as_bytes()).and_then(|()| packer.finish().map(drop)).expect("ok");
        }
        drop(file);
        let source = Source::open(path.to_str().expect("UTF-8")).expect("there");
        assert!(source.size_bytes > Some(20));
        let mut lines = spawn(source, Picks::default());
        let mut bodies = Vec::new();
        while let Some(chunk) = lines.blocking_recv() {
            let chunk = chunk.expect("read").into_iter();
            bodies.extend(chunk.map(|line| line.message.expect("plain").body().to_vec()));
        }
        assert_eq!(bodies, [b"a", b"b", b"c"]);
        std::fs::remove_file(&path).expect("removed");
    }
}
