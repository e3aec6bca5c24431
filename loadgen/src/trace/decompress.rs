//! Undoes gzip and zstd, recognised by their first bytes.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What a file is read from at a time.
const READ_BYTES: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frames of no content, which may come before the others, have magic numbers 0x184d2a50 to 0x184d2a5f.
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// A frame's last block, with nothing in it, and room for a checksum.
const ZSTD_EMPTY_END: &[u8] = &[1, 0, 0, 0, 0, 0, 0];

type Bytes = Box<dyn Read + Send>;

/// The content of `file`, decompressed if it is compressed.
pub(super) fn decompressed(mut file: impl Read + Send + 'static) -> io::Result<Bytes> {
    let mut magic = Vec::new();
    file.by_ref()
        .take(ZSTD_MAGIC.len() as u64)
        .read_to_end(&mut magic)?;
    let is_gzip = magic.starts_with(&GZIP_MAGIC);
    let is_zstd = magic == ZSTD_MAGIC || magic.get(1..) == Some(&ZSTD_SKIPPABLE_MAGIC);
    let whole = BufReader::with_capacity(READ_BYTES, Cursor::new(magic).chain(file));
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else if is_zstd {
        Box::new(ZstdFrames::new(whole))
    } else {
        Box::new(whole)
    })
}

/// The content of all frames of a zstd file. Its window is at most what the library allows, 100 MiB.
struct ZstdFrames<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    in_frame: bool,
    /// The frame ends too early; what is decoded of it is given out before.
    failure: Option<io::Error>,
}

impl<R: Read> ZstdFrames<R> {
    fn new(source: BufReader<R>) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            in_frame: false,
            failure: None,
        }
    }

    /// Begins the next frame that has content; whether there is one.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(false)
    }

    fn decode_block(&mut self) -> io::Result<()> {
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let decoded = self.decoder.decode_blocks(&mut self.source, one);
        match decoded.map_err(failure) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.failure = Some(error);
                self.end_frame()
            }
            other => other.map(drop),
        }
    }

    /// The library keeps a window of what it has decoded to itself until the frame ends: here it does.
    fn end_frame(&mut self) -> io::Result<()> {
        if !self.decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let decoded = self.decoder.decode_blocks(ZSTD_EMPTY_END, one);
            decoded.map_err(failure)?;
        }
        Ok(())
    }

    fn check_sum(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        let computed = self.decoder.get_calculated_checksum();
        match (stored, computed) {
            (Some(stored), Some(computed)) if stored != computed => {
                Err(io::Error::other("the checksum of a zstd frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.begin_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decode_block()?;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            self.in_frame = false;
            self.failure.take().map_or(Ok(()), Err)?;
            self.check_sum()?;
        }
    }
}

/// In words that need no knowledge of the format where the file simply ends too early.
fn failure(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(part) = cause {
        let io = part.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) {
            return io::Error::new(ErrorKind::UnexpectedEof, "the compressed file is cut short");
        }
        cause = part.source();
    }
    io::Error::other(error)
}
