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

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::*;

    const PORT: u16 = 24441;

    /// Writes blocks in one byte order.
    #[derive(Clone, Copy)]
    struct Order {
        is_big_endian: bool,
    }

    const ORDERS: [Order; 2] = [
        Order {
            is_big_endian: false,
        },
        Order {
            is_big_endian: true,
        },
    ];

    impl Order {
        fn u16(self, number: u16) -> [u8; 2] {
            if self.is_big_endian {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        }

        fn u32(self, number: u32) -> [u8; 4] {
            if self.is_big_endian {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        }

        fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
            let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
            let length = u32::try_from(12 + body.len() + padding.len()).unwrap();
            let (kind, length) = (self.u32(kind), self.u32(length));
            [&kind[..], &length, body, &padding, &length].concat()
        }

        fn section(self) -> Vec<u8> {
            let magic = self.u32(0x1a2b_3c4d);
            let body = [&magic[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat();
            self.block(0x0a0d_0d0a, &body)
        }

        /// Raw IP, with options.
        fn interface(self, max_bytes: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
            let mut body = [&self.u16(101)[..], &[0; 2], &self.u32(max_bytes)].concat();
            for (code, value) in options {
                let length = u16::try_from(value.len()).unwrap();
                body.extend(self.u16(*code));
                body.extend(self.u16(length));
                body.extend(*value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            if !options.is_empty() {
                body.extend([0; 4]);
            }
            self.block(1, &body)
        }

        fn enhanced(self, interface: u32, ticks: u64, packet: &[u8]) -> Vec<u8> {
            let length = u32::try_from(packet.len()).unwrap();
            let halves = [ticks >> 32, ticks & u64::from(u32::MAX)];
            let [high, low] = halves.map(|half| u32::try_from(half).unwrap());
            let head = [interface, high, low, length, length].map(|number| self.u32(number));
            self.block(6, &[head.as_flattened(), packet].concat())
        }

        fn simple(self, length: u32, packet: &[u8]) -> Vec<u8> {
            self.block(3, &[&self.u32(length)[..], packet].concat())
        }
    }

    /// `payload` from port 1000 in UDP in IPv4.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(1000, PORT)
            .write(&mut packet, payload)
            .unwrap();
        packet
    }

    /// Times and datagrams.
    type Requests = Vec<(u64, Vec<u8>)>;

    /// All requests, or those before an error.
    fn read_all(file: Vec<u8>) -> (Requests, Skipped, Option<Error>) {
        let input = Input::new(Path::new("test"), Box::new(Cursor::new(file)));
        let mut reader = Pcapng::new(input, PORT);
        let (mut requests, mut skipped) = (Vec::new(), Skipped::default());
        loop {
            match reader.next(&mut skipped) {
                Ok(Some(request)) => requests.push((request.at_ns, request.datagram.into_vec())),
                Ok(None) => return (requests, skipped, None),
                Err(error) => return (requests, skipped, Some(error)),
            }
        }
    }

    #[test]
    fn interfaces_have_clocks_of_their_own() {
        for order in ORDERS {
            let offset = if order.is_big_endian {
                10_i64.to_be_bytes()
            } else {
                10_i64.to_le_bytes()
            };
            let file = [
                order.section(),
                order.interface(0, &[]),
                order.interface(0, &[(9, &[9])]),
                order.interface(0, &[(9, &[0x8a]), (14, &offset)]),
                order.enhanced(0, 5, &packet(b"microseconds")),
                order.enhanced(1, 5, &packet(b"nanoseconds")),
                order.enhanced(2, 512, &packet(b"parts of 1024, and 10 s")),
                order.block(0xbad, b"a block that nobody knows"),
                order.enhanced(1, 1 << 40, &packet(b"")),
            ];
            let (requests, _, error) = read_all(file.concat());
            assert!(error.is_none(), "{error:?}");
            let times: Vec<u64> = requests.iter().map(|(at_ns, _)| *at_ns).collect();
            assert_eq!(times, [5000, 5, 10_500_000_000, 1 << 40]);
            assert_eq!(requests[2].1, b"parts of 1024, and 10 s");
        }
    }

    #[test]
    fn simple_packets_are_of_the_last_time_and_cut_as_their_interface_says() {
        for order in ORDERS {
            let ping = packet(b"ping!");
            let length = u32::try_from(ping.len()).unwrap();
            let file = [
                order.section(),
                order.interface(length, &[]),
                order.enhanced(0, 7, &ping),
                order.simple(length, &ping),
                order.simple(length + 8, &ping),
            ];
            let (requests, skipped, error) = read_all(file.concat());
            assert!(error.is_none(), "{error:?}");
            // The last one was longer than what is told of it, but for what is no part of IP.
            assert_eq!(requests, vec![(7000, b"ping!".to_vec()); 3]);
            assert_eq!(skipped, Skipped::default());
            let file = [
                order.section(),
                order.interface(length - 1, &[]),
                order.simple(length, &ping[..ping.len() - 1]),
            ];
            let (requests, skipped, _) = read_all(file.concat());
            assert_eq!((requests.len(), skipped.truncated), (0, 1));
        }
    }

    #[test]
    fn a_section_forgets_the_interfaces_before_it() {
        let [little, big] = ORDERS;
        let file = [
            little.section(),
            little.interface(0, &[]),
            little.enhanced(0, 1, &packet(b"1")),
            big.section(),
            big.interface(0, &[(9, &[3])]),
            big.enhanced(0, 2, &packet(b"2")),
            little.section(),
            little.enhanced(0, 3, &packet(b"3")),
        ];
        let (requests, _, error) = read_all(file.concat());
        let expected = [(1000, b"1".to_vec()), (2_000_000, b"2".to_vec())];
        assert_eq!(requests, expected);
        let error = error.unwrap().to_string();
        assert!(
            error.ends_with("expected packets of interfaces described before"),
            "{error}"
        );
    }

    #[test]
    fn clocks_finer_than_numbers_are_refused() {
        assert_eq!(ticks_per_s(6), Some(1_000_000));
        assert_eq!(ticks_per_s(0x80), Some(1));
        assert_eq!(ticks_per_s(0xbf), Some(1 << 63));
        assert_eq!((ticks_per_s(20), ticks_per_s(0xff)), (None, None));
        let order = ORDERS[0];
        let file = [order.section(), order.interface(0, &[(9, &[20])])];
        let (_, _, error) = read_all(file.concat());
        assert!(
            error
                .unwrap()
                .to_string()
                .contains("expected an interface with a clock")
        );
    }
}
