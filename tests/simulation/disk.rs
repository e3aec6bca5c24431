//! A disk in memory that loses power, tears writes and fails, as told.
//!
//! What is written is cached until it is synced. Power can go at any sync: of every file, each sector of 512 bytes keeps
//! one of the contents it had since the last sync, chosen by chance, so that writes are lost, reordered and torn; of
//! changes of length, some first ones are kept; of created and removed files, those since the directory was last synced may
//! be undone. Everything that had the disk open finds it dead.
//!
//! A sync that fails behaves as Linux does: what it should have written stays readable, may or may not be on the disk, and
//! is never written again. Only `forget_cached` brings the truth to light.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pyzor_storage::redb_engine::Disk;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::Random;

const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    files: BTreeMap<String, SimFile>,
    /// Files as they were when the directory was last synced.
    durable_names: Vec<String>,
    /// Goes up with every loss of power: who opened a file before finds it dead.
    power: u64,
    syncs: u64,
    power_fails_at_sync: Option<u64>,
    fault: Option<Fault>,
    free_bytes: u64,
    random: Random,
}

#[derive(Clone, Default)]
struct SimFile {
    durable: Vec<u8>,
    cached: Vec<u8>,
    unsynced: Vec<Operation>,
}

#[derive(Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    SetLength(usize),
}

/// What shall fail.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Which operations.
    pub(crate) operation: FaultyOperation,
    /// Of which files: part of the name.
    pub(crate) file: &'static str,
    /// How many of these succeed before.
    pub(crate) after: u64,
    /// How many fail.
    pub(crate) times: u64,
    pub(crate) error: io::ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultyOperation {
    Read,
    Write,
    SetLength,
    Sync,
    Any,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                durable_names: Vec::new(),
                power: 0,
                syncs: 0,
                power_fails_at_sync: None,
                fault: None,
                free_bytes: u64::MAX,
                random: Random::new(seed),
            })),
        }
    }

    /// Lets the power fail at the sync that comes after `syncs` more.
    pub(crate) fn fail_power_after(&self, syncs: u64) {
        let mut state = self.state.lock();
        state.power_fails_at_sync = Some(state.syncs + syncs);
    }

    /// Lets the power fail now.
    pub(crate) fn fail_power(&self) {
        self.state.lock().fail_power();
    }

    /// Number of power failures so far.
    pub(crate) fn power_failures(&self) -> u64 {
        self.state.lock().power
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.state.lock().fault = Some(fault);
    }

    pub(crate) fn clear_fault(&self) {
        self.state.lock().fault = None;
    }

    /// Whether the fault that was to strike `times` times has begun to.
    pub(crate) fn fault_has_struck(&self, times: u64) -> bool {
        let state = self.state.lock();
        state
            .fault
            .as_ref()
            .is_some_and(|fault| fault.times < times)
    }

    pub(crate) fn set_free_bytes(&self, free_bytes: u64) {
        self.state.lock().free_bytes = free_bytes;
    }

    /// A copy of the disk as it is, with another seed.
    pub(crate) fn duplicate(&self, seed: u64) -> Self {
        let state = self.state.lock();
        Self {
            state: Arc::new(Mutex::new(State {
                files: state.files.clone(),
                durable_names: state.durable_names.clone(),
                power: 0,
                syncs: 0,
                power_fails_at_sync: None,
                fault: None,
                free_bytes: state.free_bytes,
                random: Random::new(seed),
            })),
        }
    }

    /// Removes a file, as somebody might by mistake.
    pub(crate) fn lose(&self, file: &str) {
        self.state.lock().files.remove(file);
    }

    /// Puts a file of another disk in the place of one of this.
    pub(crate) fn take_from(&self, other: &Self, file: &str, as_file: &str) {
        let copy = other.state.lock().files[file].clone();
        self.state.lock().files.insert(as_file.to_owned(), copy);
    }

    fn handle(&self, file: &str) -> Handle {
        Handle {
            disk: self.clone(),
            file: file.to_owned(),
            power: self.state.lock().power,
        }
    }
}

impl State {
    fn fail_power(&mut self) {
        self.power += 1;
        self.power_fails_at_sync = None;
        // Some failures lose nearly all, some nearly nothing.
        let survival = [0, 10, 50, 90, 100][self.random.below(5)];
        let names = std::mem::take(&mut self.durable_names);
        let random = &mut self.random;
        self.files
            .retain(|name, _| names.contains(name) || random.chance(survival));
        for file in self.files.values_mut() {
            file.lose_power(survival, random);
        }
        self.durable_names = self.files.keys().cloned().collect();
    }

    fn check_fault(&mut self, file: &str, operation: FaultyOperation) -> io::Result<()> {
        let Some(fault) = &mut self.fault else {
            return Ok(());
        };
        let concerned = fault.operation == operation || fault.operation == FaultyOperation::Any;
        if !concerned || !file.contains(fault.file) || fault.times == 0 {
            return Ok(());
        }
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        fault.times -= 1;
        Err(fault.error.into())
    }
}

impl SimFile {
    fn write(content: &mut Vec<u8>, operation: &Operation) {
        match operation {
            Operation::SetLength(length) => {
                content.truncate(*length);
                lengthen(content, *length);
            }
            Operation::Write(offset, data) => {
                let end = offset + data.len();
                lengthen(content, end);
                content[*offset..end].copy_from_slice(data);
            }
        }
    }

    fn apply(&mut self, operation: Operation) {
        Self::write(&mut self.cached, &operation);
        self.unsynced.push(operation);
    }

    fn sync(&mut self) {
        for operation in self.unsynced.drain(..) {
            Self::write(&mut self.durable, &operation);
        }
    }

    /// The disk forgets to say which sectors it did not write.
    fn fail_sync(&mut self, random: &mut Random) {
        let cached = self.cached.clone();
        let survival = [0, 50, 100][random.below(3)];
        self.keep_some(survival, random);
        self.cached = cached;
    }

    fn lose_power(&mut self, survival: usize, random: &mut Random) {
        self.keep_some(survival, random);
        self.cached.clone_from(&self.durable);
    }

    /// Lets each sector keep one of the contents it had since the last sync.
    fn keep_some(&mut self, survival: usize, random: &mut Random) {
        let operations = std::mem::take(&mut self.unsynced);
        let lengths = operations
            .iter()
            .filter(|operation| matches!(operation, Operation::SetLength(_)))
            .count();
        let mut kept_lengths = if random.chance(survival) {
            lengths
        } else {
            random.below(lengths + 1)
        };
        for operation in operations {
            match operation {
                Operation::SetLength(_) if kept_lengths > 0 => {
                    kept_lengths -= 1;
                    Self::write(&mut self.durable, &operation);
                }
                Operation::SetLength(_) => {}
                Operation::Write(offset, data) => self.write_some(offset, &data, survival, random),
            }
        }
    }

    fn write_some(&mut self, offset: usize, data: &[u8], survival: usize, random: &mut Random) {
        let mut start = offset;
        while start < offset + data.len() {
            let end = ((start / SECTOR + 1) * SECTOR)
                .min(offset + data.len())
                .min(self.durable.len());
            if start >= end {
                return;
            }
            if random.chance(survival) {
                self.durable[start..end].copy_from_slice(&data[start - offset..end - offset]);
            }
            start = end;
        }
    }
}

/// Fills up with zeros; `Vec::resize` does it byte by byte where nothing is optimised.
fn lengthen(content: &mut Vec<u8>, length: usize) {
    let missing = length.saturating_sub(content.len());
    content.extend_from_slice(&vec![0; missing]);
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "the simulated store".to_owned()
    }

    fn create(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        let file_is_new = {
            let mut state = self.state.lock();
            state.check_fault(file, FaultyOperation::Write)?;
            let known = state.files.contains_key(file);
            state.files.entry(file.to_owned()).or_default();
            !known
        };
        if !file_is_new {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        builder.create_with_backend(self.handle(file))
    }

    fn open(&self, file: &str, builder: &Builder) -> Result<Database, DatabaseError> {
        if !self.state.lock().files.contains_key(file) {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        builder.create_with_backend(self.handle(file))
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.state
            .lock()
            .files
            .remove(file)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().files.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.durable_names = state.files.keys().cloned().collect();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().free_bytes)
    }

    fn forget_cached(&self, file: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
        let mut cached = file.durable.clone();
        for operation in &file.unsynced {
            SimFile::write(&mut cached, operation);
        }
        file.cached = cached;
        Ok(())
    }

    fn check_in_place(&self, _file: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A file that somebody has open.
struct Handle {
    disk: SimDisk,
    file: String,
    power: u64,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated {}", self.file)
    }
}

impl Handle {
    /// The disk, if it has power still and does not fail.
    fn state(&self, operation: FaultyOperation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state.lock();
        if state.power != self.power {
            return Err(io::Error::other("the power is gone"));
        }
        state.check_fault(&self.file, operation)?;
        Ok(state)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state(FaultyOperation::Read)?;
        Ok(state.file(&self.file)?.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state(FaultyOperation::Read)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let content = state.file(&self.file)?.cached.get(start..start + out.len());
        out.copy_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state(FaultyOperation::SetLength)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        state.file(&self.file)?.apply(Operation::SetLength(length));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state(FaultyOperation::Write)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let operation = Operation::Write(offset, data.to_vec());
        state.file(&self.file)?.apply(operation);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = match self.state(FaultyOperation::Sync) {
            Ok(state) => state,
            Err(error) => {
                let mut state = self.disk.state.lock();
                let State { files, random, .. } = &mut *state;
                if let Some(file) = files.get_mut(&self.file) {
                    file.fail_sync(random);
                }
                return Err(error);
            }
        };
        state.syncs += 1;
        if state.power_fails_at_sync == Some(state.syncs - 1) {
            state.fail_power();
            return Err(io::Error::other("the power is gone"));
        }
        state.file(&self.file)?.sync();
        Ok(())
    }
}

impl State {
    fn file(&mut self, name: &str) -> io::Result<&mut SimFile> {
        self.files
            .get_mut(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
