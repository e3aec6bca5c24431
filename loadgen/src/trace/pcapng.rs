//! Captures of the newer format: several interfaces, each with its own link and clock.

use pcap_parser::pcapng::{
    Block as RawBlock, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode,
    SimplePacketBlock, parse_block_be, parse_block_le,
};
use pcap_parser::traits::PcapNGPacketBlock as _;

use super::input::{Input, Parsed};
use super::packet::{self, Link, Request};
use super::pcap::parsed;
use super::skipped::{Reason, Skipped};
use super::{Reader, Recorded};
use crate::error::Error;

const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The kind of block that held packets before there were enhanced ones.
const OBSOLETE_PACKET: u32 = 2;
/// Descriptions of interfaces in a section; real captures have some dozens.
const MAX_INTERFACES: usize = 65_536;
const NS_PER_S: i128 = 1_000_000_000;

/// Whether a file that begins so is a capture of this format.
pub(super) fn is_beginning(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// A capture.
pub(super) struct Pcapng {
    input: Input,
    port: u16,
    is_big_endian: bool,
    /// Of this section.
    interfaces: Vec<Interface>,
    /// The time of the last packet: of those that have none, too.
    last_ns: u64,
}

/// What its packets' readers must know of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Link,
    ticks_per_s: i128,
    /// What is to be added to its clock.
    offset_s: i128,
    /// The most that is captured of a packet; 0 is all.
    max_bytes: u32,
}

/// What a block means to us.
enum Block {
    Section { is_big_endian: bool },
    Interface(Option<Interface>),
    Packet(Option<u64>, Result<Request, Reason>),
    UnknownInterface,
    Other,
}

impl Pcapng {
    /// A capture of the server's `port`, from its first block.
    pub(super) fn new(input: Input, port: u16) -> Self {
        Self {
            input,
            port,
            is_big_endian: false,
            interfaces: Vec::new(),
            last_ns: 0,
        }
    }

    fn next_block(&mut self) -> Result<Option<Block>, Error> {
        let (interfaces, port) = (&self.interfaces, self.port);
        let is_big_endian = self.is_big_endian;
        self.input.parse(|bytes| {
            let block = if is_big_endian {
                parse_block_be(bytes)
            } else {
                parse_block_le(bytes)
            };
            match parsed(bytes, block) {
                // The library leaves room for less than the file has: nothing would be passed.
                Parsed::Whole(_, 0) => Parsed::Wrong("a block of a capture"),
                parsed => parsed.map(|block| read(&block, interfaces, is_big_endian, port)),
            }
        })
    }
}

impl Reader for Pcapng {
    fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Recorded>, Error> {
        loop {
            match self.next_block()? {
                None => return Ok(None),
                Some(Block::Section { is_big_endian }) => {
                    self.is_big_endian = is_big_endian;
                    self.interfaces.clear();
                }
                Some(Block::Interface(Some(interface)))
                    if self.interfaces.len() < MAX_INTERFACES =>
                {
                    self.interfaces.push(interface);
                }
                Some(Block::Interface(_)) => {
                    return Err(self
                        .input
                        .damaged("an interface with a clock, and 65,536 at most"));
                }
                Some(Block::UnknownInterface) => {
                    return Err(self.input.damaged("packets of interfaces described before"));
                }
                Some(Block::Packet(_, Err(reason))) => skipped.count(reason),
                Some(Block::Packet(at_ns, Ok((source, datagram)))) => {
                    self.last_ns = at_ns.unwrap_or(self.last_ns);
                    return Ok(Some(Recorded {
                        at_ns: self.last_ns,
                        source,
                        datagram,
                    }));
                }
                Some(Block::Other) => {}
            }
        }
    }
}

fn read(block: &RawBlock<'_>, interfaces: &[Interface], is_big_endian: bool, port: u16) -> Block {
    match block {
        RawBlock::SectionHeader(section) => Block::Section {
            is_big_endian: section.big_endian(),
        },
        RawBlock::InterfaceDescription(description) => {
            Block::Interface(Interface::new(description, is_big_endian))
        }
        RawBlock::EnhancedPacket(packet) => {
            let interface = usize::try_from(packet.if_id).ok();
            let interface = interface.and_then(|index| interfaces.get(index));
            interface.map_or(Block::UnknownInterface, |interface| {
                interface.enhanced(packet, port)
            })
        }
        RawBlock::SimplePacket(packet) => interfaces
            .first()
            .map_or(Block::UnknownInterface, |first| first.simple(packet, port)),
        RawBlock::Unknown(unknown) if unknown.block_type == OBSOLETE_PACKET => {
            Block::Packet(None, Err(Reason::ForeignLink))
        }
        _ => Block::Other,
    }
}

impl Interface {
    /// `None` when no clock is as fine as its own.
    fn new(description: &InterfaceDescriptionBlock<'_>, is_big_endian: bool) -> Option<Self> {
        Some(Self {
            link: Link::of(description.linktype),
            ticks_per_s: ticks_per_s(description.if_tsresol)?,
            offset_s: offset_s(description, is_big_endian).into(),
            max_bytes: description.snaplen,
        })
    }

    fn enhanced(&self, packet: &EnhancedPacketBlock<'_>, port: u16) -> Block {
        let ticks = i128::from(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low));
        let is_cut = packet.caplen < packet.origlen;
        Block::Packet(
            Some(self.ns(ticks)),
            packet::read(self.link, packet.packet_data(), is_cut, port),
        )
    }

    /// A packet without a time, padded, and cut as the interface says.
    fn simple(&self, packet: &SimplePacketBlock<'_>, port: u16) -> Block {
        let limit = match self.max_bytes {
            0 => packet.origlen,
            limit => limit.min(packet.origlen),
        };
        let data = packet.packet_data();
        let captured = usize::try_from(limit).map_or(data.len(), |limit| limit.min(data.len()));
        let is_cut = limit < packet.origlen;
        Block::Packet(
            None,
            packet::read(self.link, &data[..captured], is_cut, port),
        )
    }

    /// Since the epoch; the epoch itself for what comes before.
    fn ns(&self, ticks: i128) -> u64 {
        let ns = ticks * NS_PER_S / self.ticks_per_s + self.offset_s * NS_PER_S;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// Ticks a second of a clock: a power of 10, or of 2 when the highest bit is set. The library knows the former only.
fn ticks_per_s(resolution: u8) -> Option<i128> {
    const IS_BINARY: u8 = 0x80;
    const MAX_BINARY_EXPONENT: u32 = 63;
    let exponent = u32::from(resolution & !IS_BINARY);
    if resolution & IS_BINARY == 0 {
        10u64.checked_pow(exponent).map(i128::from)
    } else {
        (exponent <= MAX_BINARY_EXPONENT).then(|| 1i128 << exponent)
    }
}

/// Read here because the library takes every file for a little-endian one.
fn offset_s(description: &InterfaceDescriptionBlock<'_>, is_big_endian: bool) -> i64 {
    let mut options = description.options.iter();
    let offset = options.find(|option| option.code == OptionCode::IfTsoffset);
    let bytes = offset.and_then(|option| option.value.first_chunk());
    bytes.map_or(0, |bytes| {
        if is_big_endian {
            i64::from_be_bytes(*bytes)
        } else {
            i64::from_le_bytes(*bytes)
        }
    })
}
