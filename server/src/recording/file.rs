//! The file that is recorded to: begun anew with every switching on, and when it is full.
//!
//! Older recordings move aside: `FILE` to `FILE.1`, that to `FILE.2`, up to [`MAX_FILES`] in all; the last one is lost.
//! What is at `FILE` and is not a recording is never touched. A pipe or a device is written to as it is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::fstatvfs;

use super::packet::{self, FILE_HEADER, MAX_OVERHEAD_BYTES};
use super::queue::Arrival;
use crate::error::Error;
use crate::pipes;

/// Recordings that are kept, the current one included.
pub(super) const MAX_FILES: usize = 4;

/// Bytes of packets collected before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// Room in the buffer for the packet that fills it.
const LAST_PACKET_BYTES: usize = 64 * 1024;

/// Bytes that a recording leaves free on its disk, several times what the store wants to find there.
const KEEP_FREE_BYTES: u64 = 128 << 20;

/// An open recording.
pub(super) struct RecordingFile {
    path: PathBuf,
    file: File,
    /// A pipe or device can be neither cut nor moved.
    is_regular: bool,
    max_bytes: u64,
    /// Bytes in the file: its header and whole packets.
    written_bytes: u64,
    buffer: Vec<u8>,
    buffered_packets: u64,
}

impl RecordingFile {
    /// Begins a recording at `path` of at most `max_bytes`; what was recorded there before moves aside.
    ///
    /// # Errors
    /// When there is something else, or the file cannot be created.
    pub(super) fn begin(path: &Path, max_bytes: u64) -> Result<Self, Error> {
        let is_regular = !is_special(path);
        let opened = if is_regular {
            // A link stays where it is, and what it leads to moves on its own disk.
            move_aside(fs::canonicalize(path).as_deref().unwrap_or(path))?;
            let mut options = File::options();
            options.write(true).create(true).truncate(true).open(path)
        } else {
            pipes::open_to_append(path)
        };
        let file = opened.map_err(Error::file("open", path))?;
        let mut buffer = Vec::with_capacity(WRITE_BYTES + LAST_PACKET_BYTES);
        buffer.extend_from_slice(&FILE_HEADER);
        Ok(Self {
            path: path.to_owned(),
            file,
            is_regular,
            max_bytes,
            written_bytes: 0,
            buffer,
            buffered_packets: 0,
        })
    }

    /// Whether a datagram of so many bytes would make it too long. A pipe or device is never full.
    pub(super) fn is_full_for(&self, datagram_bytes: usize) -> bool {
        let after = self.buffer.len() + MAX_OVERHEAD_BYTES + datagram_bytes;
        self.is_regular && self.written_bytes + after as u64 > self.max_bytes
    }

    /// Adds a packet to those that wait to be written; whether it is time to write them.
    pub(super) fn append(&mut self, arrival: &Arrival, datagram: &[u8]) -> bool {
        packet::append(&mut self.buffer, arrival, datagram);
        self.buffered_packets += 1;
        self.buffer.len() >= WRITE_BYTES
    }

    /// Packets that wait to be written.
    pub(super) fn buffered_packets(&self) -> u64 {
        self.buffered_packets
    }

    /// Writes what waits. After an error that is lost, and the file ends with the last packet that was written whole.
    ///
    /// # Errors
    /// What the system says, and when too little of the disk would be left.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self
            .check_free_space()
            .and_then(|()| self.file.write_all(&self.buffer));
        if written.is_ok() {
            self.written_bytes += self.buffer.len() as u64;
        } else if self.is_regular {
            // If not even that works, the file ends within a packet, which its readers can tell.
            let _ = self.file.set_len(self.written_bytes);
        }
        self.buffer.clear();
        self.buffered_packets = 0;
        written.map_err(Error::file("write", &self.path))
    }

    /// Whether another file, or none, has its name now.
    pub(super) fn was_moved(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(&self.path).map(identity);
        self.is_regular && there.ok() != self.file.metadata().map(identity).ok()
    }

    fn check_free_space(&self) -> io::Result<()> {
        if !self.is_regular {
            return Ok(());
        }
        let space = fstatvfs(&self.file)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if leaves_room(free, self.buffer.len()) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "only {free} bytes are left on the disk, and recording stops at {KEEP_FREE_BYTES}"
        )))
    }
}

fn leaves_room(free_bytes: u64, to_write_bytes: usize) -> bool {
    free_bytes >= KEEP_FREE_BYTES + to_write_bytes as u64
}

/// Whether there is something that cannot be moved aside.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Makes way for a new recording at `path`. One without packets is not worth keeping.
fn move_aside(path: &Path) -> Result<(), Error> {
    match recorded_bytes(path) {
        Ok(bytes) if bytes <= FILE_HEADER.len() as u64 => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(Error::file("record to", path)(error)),
    }
    for number in (1..MAX_FILES).rev() {
        let older = numbered(path, number);
        let newer = numbered(path, number - 1);
        match fs::rename(&newer, &older) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file("move aside", &newer)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The length of the recording at `path`, 0 if there is nothing.
fn recorded_bytes(path: &Path) -> io::Result<u64> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let bytes = file.metadata()?.len();
    let mut header = Vec::with_capacity(FILE_HEADER.len());
    file.take(FILE_HEADER.len() as u64)
        .read_to_end(&mut header)?;
    if FILE_HEADER.starts_with(&header) {
        Ok(bytes)
    } else {
        Err(io::Error::other("it exists and is not a recording of ours"))
    }
}

/// `FILE` for 0, `FILE.1` for 1, and so on.
fn numbered(path: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: u64 = 1 << 20;

    fn arrival() -> Arrival {
        Arrival {
            at_ns: 7,
            sender: "192.0.2.1:1".parse().unwrap(),
            receiver: "192.0.2.2:2".parse().unwrap(),
        }
    }

    /// A recording of one packet.
    fn record(path: &Path, datagram: &[u8]) {
        let mut file = RecordingFile::begin(path, MAX_BYTES).unwrap();
        file.append(&arrival(), datagram);
        assert_eq!(file.buffered_packets(), 1);
        file.write().unwrap();
        assert_eq!(file.buffered_packets(), 0);
    }

    fn ends_with(path: &Path, datagram: &[u8]) -> bool {
        let content = fs::read(path).unwrap();
        content.starts_with(&FILE_HEADER) && content.ends_with(datagram)
    }

    #[test]
    fn older_recordings_move_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        for datagram in [b"one", b"two", b"thr", b"fou", b"fiv"] {
            record(&path, datagram);
        }
        for (number, datagram) in [b"fiv", b"fou", b"thr", b"two"].into_iter().enumerate() {
            assert!(ends_with(&numbered(&path, number), datagram), "{number}");
        }
        assert!(!numbered(&path, MAX_FILES).exists());
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_moves() {
        let [links, disk] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let link = links.path().join("record");
        let path = disk.path().join("traffic");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for datagram in [b"one", b"two", b"thr"] {
            record(&link, datagram);
        }
        for (number, datagram) in [b"thr", b"two", b"one"].into_iter().enumerate() {
            assert!(ends_with(&numbered(&path, number), datagram), "{number}");
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(links.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_recording_without_packets_moves_nothing_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        for _ in 0..3 {
            RecordingFile::begin(&path, MAX_BYTES)
                .unwrap()
                .write()
                .unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), FILE_HEADER);
        assert!(!numbered(&path, 1).exists());
    }

    #[test]
    fn what_is_no_recording_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pyzord.passwd");
        fs::write(&path, "alice : 0123\n").unwrap();
        let refused = RecordingFile::begin(&path, MAX_BYTES).err().unwrap();
        assert_eq!(
            refused.to_string(),
            format!(
                "cannot record to {}: it exists and is not a recording of ours",
                path.display()
            )
        );
        assert_eq!(fs::read(&path).unwrap(), b"alice : 0123\n");
    }

    #[test]
    fn a_full_device_is_an_error_each_time_and_stays_where_it_is() {
        for _ in 0..2 {
            let mut file = RecordingFile::begin(Path::new("/dev/full"), MAX_BYTES).unwrap();
            let failed = file.write().unwrap_err().to_string();
            assert!(failed.starts_with("cannot write /dev/full: "), "{failed}");
        }
    }

    #[test]
    fn it_is_full_before_it_is_too_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        let mut file = RecordingFile::begin(&path, MAX_BYTES).unwrap();
        let datagram = [b'x'; 8192];
        while !file.is_full_for(datagram.len()) {
            if file.append(&arrival(), &datagram) {
                file.write().unwrap();
            }
        }
        file.write().unwrap();
        let bytes = fs::metadata(&path).unwrap().len();
        assert!(
            (MAX_BYTES - 2 * 8192..=MAX_BYTES).contains(&bytes),
            "{bytes}"
        );
    }

    #[test]
    fn a_moved_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        let file = RecordingFile::begin(&path, MAX_BYTES).unwrap();
        assert!(!file.was_moved());
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        assert!(file.was_moved());
        fs::write(&path, "").unwrap();
        assert!(file.was_moved());
    }

    #[test]
    fn some_of_the_disk_stays_free() {
        assert!(leaves_room(KEEP_FREE_BYTES + 10, 10));
        assert!(!leaves_room(KEEP_FREE_BYTES + 9, 10));
    }
}
