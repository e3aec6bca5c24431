//! The bytes of a GNU dbm file: its header and its buckets. Pure; trusts no number it finds.
//!
//! The library writes its C structures as they lie in memory, so that the byte order, the width of file offsets and the
//! padding before them are those of the machine that wrote the file. The header's magic number names the first two, the
//! other numbers in the header tell the rest. "Offset" below is 4 or 8 bytes wide, everything else 4:
//!
//! ```text
//! header   magic  block_size  directory: offset  directory_bytes  directory_bits  bucket_bytes  bucket_slots  …
//! bucket   free_count  [padding]  free_space: 6 x { size  [padding]  address: offset }  bits  filled
//!          slots: bucket_slots x { hash  key_start: 4 bytes  entry: offset  key_bytes  value_bytes }
//! ```
//!
//! What follows in the header (the file's length, an extension in newer files, free space) is of no use to a reader. An
//! entry is its key with its value right behind it.

/// The longest header prefix this module reads, in bytes.
pub(super) const HEADER_BYTES: usize = 32;

/// Buckets are as large as a block of the file system was; no file system has blocks beyond this.
const MAX_BUCKET_BYTES: u32 = 16 << 20;
/// Hashes have 31 bits, so no directory is indexed by more.
const HASH_BITS: u32 = 31;
const FREE_SPACES_IN_BUCKET: usize = 6;
const KEY_START_BYTES: usize = 4;
/// The hash of a slot that holds nothing. No key has it: hashes have 31 bits.
const EMPTY_SLOT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OffsetWidth {
    Four,
    /// Eight bytes, aligned like the 4-byte fields (32-bit x86).
    EightPacked,
    /// Eight bytes, aligned on eight (everything else).
    EightAligned,
}

/// How the numbers of one file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    byte_order: ByteOrder,
    offsets: OffsetWidth,
}

/// What a reader needs of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) layout: Layout,
    pub(super) directory_offset: u64,
    pub(super) directory_bytes: u32,
    directory_bits: u32,
    pub(super) bucket_bytes: u32,
    bucket_slots: u32,
}

/// Why bytes are not a usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidHeader {
    /// The file does not start like a GNU dbm file.
    Magic,
    /// It does, but its sizes contradict each other in every layout it might have.
    Sizes,
}

/// A filled slot of a bucket: where an entry is said to be, and of which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) entry: u64,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    hash: u32,
    key_start: [u8; KEY_START_BYTES],
}

impl Header {
    /// Reads a header from the first bytes of a file.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, InvalidHeader> {
        let (magic, _) = bytes.split_first_chunk().ok_or(InvalidHeader::Magic)?;
        let layouts = candidate_layouts(*magic).ok_or(InvalidHeader::Magic)?;
        layouts
            .into_iter()
            .find_map(|layout| Self::parse_as(layout, bytes).filter(Self::is_consistent))
            .ok_or(InvalidHeader::Sizes)
    }

    fn parse_as(layout: Layout, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields { layout, bytes };
        let (_magic, _block_size) = (fields.number()?, fields.number()?);
        Some(Self {
            layout,
            directory_offset: fields.offset()?,
            directory_bytes: fields.number()?,
            directory_bits: fields.number()?,
            bucket_bytes: fields.number()?,
            bucket_slots: fields.number()?,
        })
    }

    fn is_consistent(&self) -> bool {
        self.directory_bits <= HASH_BITS
            && u64::from(self.directory_bytes) == self.layout.offset_bytes() << self.directory_bits
            && self.bucket_bytes <= MAX_BUCKET_BYTES
            && self.bucket_slots > 0
            && Some(self.bucket_slots) == self.layout.slots_in(self.bucket_bytes)
    }

    /// The filled slots of a bucket, or `None` if the bytes cannot be a bucket of this file.
    ///
    /// A stretch of zeros, as a crash leaves it, is none: its slots count as filled, but none is announced.
    pub(super) fn parse_bucket(&self, bytes: &[u8]) -> Option<Vec<Slot>> {
        let mut fields = Fields {
            layout: self.layout,
            bytes: bytes.get(self.layout.bytes_before_bucket_bits()..)?,
        };
        let (bits, filled) = (fields.number()?, fields.number()?);
        if bits > self.directory_bits || filled > self.bucket_slots {
            return None;
        }
        let mut slots = Vec::new();
        for _ in 0..self.bucket_slots {
            let slot = fields.slot()?;
            if slot.hash != EMPTY_SLOT {
                slots.push(slot);
            }
        }
        (filled > 0 || slots.is_empty()).then_some(slots)
    }
}

impl Slot {
    /// Whether this slot is of `key`. Tells a damaged key or slot from a sound one: the format has no checksums.
    pub(super) fn names(&self, key: &[u8]) -> bool {
        let start = &key[..key.len().min(KEY_START_BYTES)];
        self.key_start.starts_with(start) && self.hash == hash(key)
    }
}

impl Layout {
    /// The width of a file offset, in bytes.
    pub(super) fn offset_bytes(self) -> u64 {
        match self.offsets {
            OffsetWidth::Four => 4,
            OffsetWidth::EightPacked | OffsetWidth::EightAligned => 8,
        }
    }

    /// The file offsets in a piece of the directory.
    pub(super) fn offsets(self, bytes: &[u8]) -> impl Iterator<Item = u64> {
        let mut fields = Fields {
            layout: self,
            bytes,
        };
        std::iter::from_fn(move || fields.offset())
    }

    fn bytes_before_bucket_bits(self) -> usize {
        let (count, free_space) = match self.offsets {
            OffsetWidth::Four => (4, 8),
            OffsetWidth::EightPacked => (4, 12),
            OffsetWidth::EightAligned => (8, 16),
        };
        count + FREE_SPACES_IN_BUCKET * free_space
    }

    fn slots_in(self, bucket_bytes: u32) -> Option<u32> {
        const BITS_AND_FILLED_BYTES: usize = 8;
        let head = self.bytes_before_bucket_bits() + BITS_AND_FILLED_BYTES;
        let slot = match self.offsets {
            OffsetWidth::Four => 20,
            OffsetWidth::EightPacked | OffsetWidth::EightAligned => 24,
        };
        Some(bucket_bytes.checked_sub(u32::try_from(head).ok()?)? / slot)
    }
}

/// The layouts a file with this magic number may have, or `None` if it is no GNU dbm file.
fn candidate_layouts(magic: [u8; 4]) -> Option<Vec<Layout>> {
    [
        (ByteOrder::Little, u32::from_le_bytes(magic)),
        (ByteOrder::Big, u32::from_be_bytes(magic)),
    ]
    .into_iter()
    .find_map(|(byte_order, magic)| {
        let widths = offset_widths(magic)?;
        let layout = |&offsets: &OffsetWidth| Layout {
            byte_order,
            offsets,
        };
        Some(widths.iter().map(layout).collect())
    })
}

fn offset_widths(magic: u32) -> Option<&'static [OffsetWidth]> {
    use OffsetWidth::{EightAligned, EightPacked, Four};
    // The file's creator was built with 4-byte or with 8-byte offsets; "numsync" files have the extended header.
    const UNSPECIFIED: u32 = 0x1357_9ace;
    const FOUR: u32 = 0x1357_9acd;
    const EIGHT: u32 = 0x1357_9acf;
    const FOUR_NUMSYNC: u32 = 0x1357_9ad0;
    const EIGHT_NUMSYNC: u32 = 0x1357_9ad1;
    match magic {
        UNSPECIFIED => Some(&[Four, EightAligned, EightPacked]),
        FOUR | FOUR_NUMSYNC => Some(&[Four]),
        EIGHT | EIGHT_NUMSYNC => Some(&[EightAligned, EightPacked]),
        _ => None,
    }
}

/// GNU dbm's hash of a key, as a file stores it. Bytes beyond ASCII count as negative, as they do where C's `char` is
/// signed; elsewhere such keys get another hash, but no digest has them.
fn hash(key: &[u8]) -> u32 {
    const MASK: u32 = 0x7fff_ffff;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut value = length.wrapping_mul(0x238f_13af);
    for (index, &byte) in key.iter().enumerate() {
        let byte = i32::from(byte.cast_signed()) << (index * 5 % 24);
        value = value.wrapping_add(byte.cast_unsigned()) & MASK;
    }
    value.wrapping_mul(1_103_515_243).wrapping_add(12_345) & MASK
}

/// Takes numbers from the front of `bytes`, until they run out.
struct Fields<'a> {
    layout: Layout,
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take()?;
        Some(match self.layout.byte_order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    fn offset(&mut self) -> Option<u64> {
        if self.layout.offsets == OffsetWidth::Four {
            return self.number().map(u64::from);
        }
        let bytes = self.take()?;
        Some(match self.layout.byte_order {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        })
    }

    fn slot(&mut self) -> Option<Slot> {
        Some(Slot {
            hash: self.number()?,
            key_start: self.take()?,
            entry: self.offset()?,
            key_bytes: self.number()?,
            value_bytes: self.number()?,
        })
    }
}
