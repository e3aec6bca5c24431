//! Reads GNU dbm files, the reference's default store. Never writes one.
//!
//! - `layout`: the bytes of a header and a bucket, in every variant of the format.
//! - `entries`: one walk over all entries of a file, past what is damaged.
//!
//! # Why not a crate
//!
//! An import is for files that a daemon wrote for years and may have been killed over. It has to go past what is damaged,
//! say what that was, and bring home the rest. The one maintained reader in Rust, `gdbm-native`, ends its iteration at the
//! first error and refuses a file whose free-space table is damaged, which a reader never needs; the others bind the C
//! library, which has to be installed then and needs `unsafe`. Our tests use `gdbm-native` as a second writer.

mod entries;
mod layout;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use entries::{Damage, Entries, Entry};
use layout::{HEADER_BYTES, Header, InvalidHeader};

/// Read from the directory at a time, in bytes.
const DIRECTORY_PIECE_BYTES: usize = 64 << 10;
/// A directory that names more is garbage: with the smallest blocks there are, these hold 50 million records. The bound
/// keeps garbage from filling the memory.
const MAX_BUCKETS: usize = 4 << 20;

/// Why a file cannot be read as a GNU dbm file at all.
#[derive(Debug, thiserror::Error)]
pub enum GdbmError {
    /// The system refuses.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open for writing, as the reference's `pyzord` does while it runs.
    #[error("{path} is in use by another process: stop the pyzord that writes it first", path = .0.display())]
    Locked(PathBuf),
    /// It is something else.
    #[error("{path} is not a GNU dbm file", path = .0.display())]
    NotGdbm(PathBuf),
    /// Nothing can be found in it.
    #[error("{path} is damaged beyond reading: {what}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The part without which no entry can be found, and what is wrong with it.
        what: &'static str,
    },
}

/// An open GNU dbm file, locked against writers while this lives.
#[derive(Debug)]
pub struct GdbmFile {
    file: File,
    file_bytes: u64,
    header: Header,
    /// Where the buckets lie, each named once, in ascending order.
    buckets: Vec<u64>,
}

impl GdbmFile {
    /// Opens and locks the file, and reads its directory.
    ///
    /// # Errors
    /// [`GdbmError`], which names the file.
    pub fn open(path: &Path) -> Result<Self, GdbmError> {
        let io = |source| GdbmError::Io {
            path: path.to_owned(),
            source,
        };
        // Opening a pipe would wait for its other end.
        let is_file = path.metadata().map_err(io)?.is_file();
        if !is_file {
            return Err(GdbmError::NotGdbm(path.to_owned()));
        }
        let file = File::open(path).map_err(io)?;
        lock(&file, path)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let header = read_header(&file, path)?;
        let buckets = read_directory(&file, file_bytes, &header, path)?;
        Ok(Self {
            file,
            file_bytes,
            header,
            buckets,
        })
    }

    /// Every entry once, in no particular order, with every unreadable part among them.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(self)
    }
}

/// The same kind of lock the C library takes: shared for a reader, and not waiting for it.
fn lock(file: &File, path: &Path) -> Result<(), GdbmError> {
    file.try_lock_shared().map_err(|error| match error {
        TryLockError::WouldBlock => GdbmError::Locked(path.to_owned()),
        TryLockError::Error(source) => GdbmError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

fn read_header(file: &File, path: &Path) -> Result<Header, GdbmError> {
    let mut bytes = [0; HEADER_BYTES];
    if let Err(source) = file.read_exact_at(&mut bytes, 0) {
        let path = path.to_owned();
        return Err(match source.kind() {
            io::ErrorKind::UnexpectedEof => GdbmError::NotGdbm(path),
            _ => GdbmError::Io { path, source },
        });
    }
    Header::parse(&bytes).map_err(|invalid| match invalid {
        InvalidHeader::Magic => GdbmError::NotGdbm(path.to_owned()),
        InvalidHeader::Sizes => unusable(path, "the sizes in its header contradict each other"),
    })
}

/// The distinct offsets in the directory, in ascending order. Many of its slots name the same bucket.
fn read_directory(
    file: &File,
    file_bytes: u64,
    header: &Header,
    path: &Path,
) -> Result<Vec<u64>, GdbmError> {
    let end = header
        .directory_offset
        .checked_add(u64::from(header.directory_bytes))
        .filter(|&end| end <= file_bytes)
        .ok_or_else(|| unusable(path, "its directory lies beyond its end"))?;
    let mut buckets = HashSet::new();
    let mut at = header.directory_offset;
    let mut piece = vec![0; DIRECTORY_PIECE_BYTES];
    while at < end {
        let length = usize::try_from(end - at).map_or(piece.len(), |left| left.min(piece.len()));
        file.read_exact_at(&mut piece[..length], at)
            .map_err(|source| GdbmError::Io {
                path: path.to_owned(),
                source,
            })?;
        buckets.extend(header.layout.offsets(&piece[..length]));
        if buckets.len() > MAX_BUCKETS {
            return Err(unusable(path, "its directory names too many buckets"));
        }
        at += length as u64;
    }
    let mut buckets: Vec<u64> = buckets.into_iter().collect();
    buckets.sort_unstable();
    Ok(buckets)
}

fn unusable(path: &Path, what: &'static str) -> GdbmError {
    GdbmError::Unusable {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gdbm_native::{BlockSize, Endian, Layout, OpenOptions};
    use proptest::prelude::*;
    use tempfile::{NamedTempFile, TempDir};

    use super::*;

    type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

    const BLOCK_BYTES: u32 = 512;

    fn records(count: u32) -> Contents {
        (0..count)
            .map(|number| {
                (
                    format!("{number:040x}").into(),
                    format!("{number},0,0").into(),
                )
            })
            .collect()
    }

    fn write(layout: Layout, endian: Endian, numsync: bool, contents: &Contents) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        let mut writer = OpenOptions::new()
            .create(true)
            .layout(layout)
            .endian(endian)
            .numsync(numsync)
            .block_size(BlockSize::Exactly(BLOCK_BYTES))
            .open(file.path())
            .unwrap();
        for (key, value) in contents {
            writer.insert(key, value).unwrap();
        }
        writer.close().unwrap();
        file
    }

    fn usual(contents: &Contents) -> NamedTempFile {
        write(Layout::Off64Align8, Endian::Little, false, contents)
    }

    fn read(path: &Path) -> (Vec<Entry>, Vec<Damage>) {
        let file = GdbmFile::open(path).unwrap();
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for entry in file.entries() {
            match entry {
                Ok(entry) => found.push(entry),
                Err(damage) => damaged.push(damage),
            }
        }
        (found, damaged)
    }

    /// The entries as a map, when none came twice.
    fn contents(entries: Vec<Entry>) -> Contents {
        let count = entries.len();
        let map: Contents = entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect();
        assert_eq!(map.len(), count, "no entry comes twice");
        map
    }

    fn refusal(bytes: &[u8]) -> String {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let error = GdbmFile::open(file.path())
            .expect_err("it is not readable")
            .to_string();
        error.replace(&file.path().display().to_string(), "it")
    }

    #[test]
    fn reads_every_variant_of_the_format() {
        let expected = records(2000);
        for layout in [Layout::Off32, Layout::Off64Align4, Layout::Off64Align8] {
            for endian in [Endian::Little, Endian::Big] {
                for numsync in [false, true] {
                    let file = write(layout, endian, numsync, &expected);
                    let (found, damaged) = read(file.path());
                    assert!(
                        damaged.is_empty(),
                        "{layout:?} {endian:?} {numsync}: {damaged:?}"
                    );
                    assert_eq!(contents(found), expected, "{layout:?} {endian:?} {numsync}");
                }
            }
        }
    }

    #[test]
    fn an_unspecific_magic_number_is_read_in_the_layout_that_fits() {
        for layout in [Layout::Off32, Layout::Off64Align4, Layout::Off64Align8] {
            let expected = records(100);
            let file = write(layout, Endian::Little, false, &expected);
            overwrite(file.path(), 0, &0x1357_9ace_u32.to_le_bytes());
            assert_eq!(contents(read(file.path()).0), expected, "{layout:?}");
        }
    }

    #[test]
    fn an_empty_database_has_no_entries() {
        let (found, damaged) = read(usual(&Contents::new()).path());
        assert!(found.is_empty() && damaged.is_empty());
    }

    #[test]
    fn progress_ends_at_the_end() {
        let file = usual(&records(500));
        let file = GdbmFile::open(file.path()).unwrap();
        let mut entries = file.entries();
        let mut last = entries.permille_done();
        assert_eq!(last, 0);
        while entries.next().is_some() {
            assert!(entries.permille_done() >= last);
            last = entries.permille_done();
        }
        assert_eq!(last, 1000);
    }

    #[test]
    fn other_files_are_refused() {
        let magic = 0x1357_9acf_u32.to_le_bytes();
        let mut header = [0; 64];
        assert_eq!(refusal(b""), "it is not a GNU dbm file");
        assert_eq!(refusal(&magic), "it is not a GNU dbm file");
        assert_eq!(refusal(&header), "it is not a GNU dbm file");
        header[..4].copy_from_slice(&magic);
        let sizes = "it is damaged beyond reading: the sizes in its header contradict each other";
        assert_eq!(refusal(&header), sizes);
        header.fill(0xff);
        header[..4].copy_from_slice(&magic);
        assert_eq!(refusal(&header), sizes);
    }

    #[test]
    fn a_directory_beyond_the_end_is_refused() {
        let file = usual(&records(10));
        let start = std::fs::read(file.path()).unwrap();
        assert_eq!(
            refusal(&start[..BLOCK_BYTES as usize]),
            "it is damaged beyond reading: its directory lies beyond its end"
        );
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting_for_it() {
        let directory = TempDir::new().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for path in [directory.path(), &pipe] {
            assert!(matches!(GdbmFile::open(path), Err(GdbmError::NotGdbm(_))));
        }
        let missing = directory.path().join("missing");
        assert!(matches!(
            GdbmFile::open(&missing),
            Err(GdbmError::Io { .. })
        ));
    }

    #[test]
    fn a_writer_keeps_the_reader_out_and_the_reader_a_writer() {
        let file = usual(&records(1));
        let mut writer = OpenOptions::new();
        writer.write(true);
        let writing = writer.open(file.path()).unwrap();
        assert!(matches!(
            GdbmFile::open(file.path()),
            Err(GdbmError::Locked(_))
        ));
        drop(writing);
        let _reading = GdbmFile::open(file.path()).unwrap();
        assert!(writer.open(file.path()).is_err());
    }

    #[test]
    fn a_zeroed_bucket_costs_its_own_entries_only() {
        let written = records(500);
        let file = usual(&written);
        let bucket = *GdbmFile::open(file.path()).unwrap().buckets.last().unwrap();
        overwrite(file.path(), bucket, &[0; BLOCK_BYTES as usize]);
        let (found, damaged) = read(file.path());
        assert!(matches!(damaged[..], [Damage::Bucket { offset }] if offset == bucket));
        let found = contents(found);
        assert!(found.len() > written.len() * 9 / 10 && found.len() < written.len());
        assert!(
            found
                .iter()
                .all(|(key, value)| written.get(key) == Some(value))
        );
    }

    #[test]
    fn a_cut_file_gives_what_is_left() {
        let written = records(2000);
        let file = usual(&written);
        let whole = std::fs::metadata(file.path()).unwrap().len();
        File::options()
            .write(true)
            .open(file.path())
            .unwrap()
            .set_len(whole - whole / 10)
            .unwrap();
        let (found, damaged) = read(file.path());
        assert!(
            damaged
                .iter()
                .any(|damage| matches!(damage, Damage::BeyondEnd { .. }))
        );
        let found = contents(found);
        assert!(found.len() > written.len() / 2, "{}", found.len());
        assert!(
            found
                .iter()
                .all(|(key, value)| written.get(key) == Some(value))
        );
    }

    #[test]
    fn a_changed_key_is_not_taken_for_another() {
        let file = usual(&records(1));
        let bytes = std::fs::read(file.path()).unwrap();
        let key = format!("{:040x}", 0);
        let at = bytes
            .windows(key.len())
            .position(|piece| piece == key.as_bytes())
            .unwrap();
        overwrite(file.path(), at as u64 + 20, b"1");
        let (found, damaged) = read(file.path());
        assert!(found.is_empty());
        assert!(matches!(damaged[..], [Damage::Entry { offset }] if offset == at as u64));
    }

    #[test]
    fn an_entry_too_long_for_a_record_is_named_and_not_read() {
        let written = Contents::from([(b"key".to_vec(), vec![b'x'; 100_000])]);
        let (found, damaged) = read(usual(&written).path());
        assert!(found.is_empty());
        assert!(matches!(
            damaged[..],
            [Damage::TooLong {
                length: 100_003,
                ..
            }]
        ));
    }

    /// Where to flip a bit, as a part of the file's length, and which of the byte's eight.
    type Flip = (f64, u8);

    fn flip() -> impl Strategy<Value = Flip> {
        // The header, the directory and the first bucket come first: half of the flips aim at them.
        (prop_oneof![0.0..0.05_f64, 0.0..1.0_f64], 0..8_u8)
    }

    /// The keys found in a file of `written` after some flips, if it can be opened still.
    fn keys_after(flips: &[Flip], written: &Contents) -> Vec<Vec<u8>> {
        let file = usual(written);
        let mut bytes = std::fs::read(file.path()).unwrap();
        for &(place, bit) in flips {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "any place will do"
            )]
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= 1 << bit;
        }
        std::fs::write(file.path(), &bytes).unwrap();
        let Ok(file) = GdbmFile::open(file.path()) else {
            return Vec::new();
        };
        let most = file.buckets.len() * (1 + BLOCK_BYTES as usize);
        let walked: Vec<_> = file.entries().take(most + 1).collect();
        assert!(walked.len() <= most, "the walk ends");
        walked
            .into_iter()
            .flatten()
            .map(|entry| entry.key)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_walk_ends_whatever_is_damaged(flips in prop::collection::vec(flip(), 1..40)) {
            keys_after(&flips, &records(300));
        }

        #[test]
        fn a_flipped_bit_makes_up_no_key(flip in flip()) {
            let written = records(300);
            for key in keys_after(&[flip], &written) {
                prop_assert!(written.contains_key(&key));
            }
        }
    }

    fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}
