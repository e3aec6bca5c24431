//! Recording requests: what tcpdump, tshark and loadgen read of it, switching it on and off, rotation, full queues and
//! failing disks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::harness::client::receive_from;
use crate::harness::programs::{program, workspace};
use crate::harness::reference::{self, finish, fresh_mail};
use crate::harness::{Account, Io, Request, Server, Setup, eventually, random_digest};
use crate::replay::is_fine;

/// How long a server may take to do what a signal asks.
const LIMIT: Duration = Duration::from_secs(10);
const REPLY_LIMIT: Duration = Duration::from_secs(5);
const FILE_HEADER_BYTES: u64 = 24;

const ALICE: Account = Account {
    user: "alice",
    key: "0123456789abcdef0123456789abcdef01234567",
};
const PASSWD: &str = "alice : 0123456789abcdef0123456789abcdef01234567\n";
const ACCESS: &str = "all : alice : allow\ncheck report ping : anonymous : allow\n";

/// A server that records from the start.
fn recording(io: Io) -> Setup {
    Setup::new(io).arg("--record").arg("record.pcap")
}

fn file(server: &Server) -> PathBuf {
    server.home().join("record.pcap")
}

/// Sends datagrams from one address and port, and waits for each reply.
struct Sender(UdpSocket);

impl Sender {
    fn new(source: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
        Self(socket)
    }

    fn ask(&self, datagram: &[u8]) {
        self.0.send(datagram).unwrap();
        receive_from(&self.0, &mut [0; 16_384]).expect("a reply");
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A packet as tshark shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    at: Duration,
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

/// All packets of a recording, whose checksums must be right.
fn packets(file: &Path) -> Vec<Packet> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-n", "-T", "fields"]);
    tshark.args([
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ]);
    for field in [
        "frame.time_epoch",
        "ip.src",
        "ipv6.src",
        "udp.srcport",
        "ip.dst",
        "ipv6.dst",
        "udp.dstport",
        "ip.checksum.status",
        "udp.checksum.status",
        "udp.payload",
    ] {
        tshark.args(["-e", field]);
    }
    let finished = finish(&mut tshark, b"");
    assert_eq!(finished.status, Some(0), "{finished:?}");
    finished.stdout.lines().map(packet).collect()
}

fn packet(line: &str) -> Packet {
    const GOOD: &str = "1";
    let fields: Vec<&str> = line.split('\t').collect();
    let [
        at,
        from_v4,
        from_v6,
        from_port,
        to_v4,
        to_v6,
        to_port,
        ip_status,
        udp_status,
        data,
    ] = fields[..]
    else {
        panic!("tshark shows other fields: {line}");
    };
    let is_v4 = from_v6.is_empty();
    assert_eq!(ip_status, if is_v4 { GOOD } else { "" }, "{line}");
    assert_eq!(udp_status, GOOD, "{line}");
    let address = |v4: &str, v6: &str, port: &str| {
        let ip: IpAddr = if is_v4 { v4 } else { v6 }.parse().unwrap();
        SocketAddr::new(ip, port.parse().unwrap())
    };
    let (seconds, nanoseconds) = at.split_once('.').unwrap();
    assert_eq!(nanoseconds.len(), 9, "{at}");
    Packet {
        at: Duration::new(seconds.parse().unwrap(), nanoseconds.parse().unwrap()),
        from: address(from_v4, from_v6, from_port),
        to: address(to_v4, to_v6, to_port),
        datagram: hex::decode(data).unwrap(),
    }
}

/// How many packets tcpdump reads.
fn tcpdump_count(file: &Path) -> usize {
    let mut tcpdump = Command::new("tcpdump");
    let finished = finish(tcpdump.args(["-nn", "-r"]).arg(file), b"");
    assert_eq!(finished.status, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("link-type RAW"), "{finished:?}");
    finished
        .stdout
        .lines()
        .filter(|line| line.contains(" > "))
        .count()
}

fn datagrams(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets
        .iter()
        .map(|packet| packet.datagram.clone())
        .collect()
}

/// The datagrams that `sender` sent, by its port, which stays whatever else is replaced.
fn from(sender: &Sender, packets: &[Packet]) -> Vec<Packet> {
    let port = sender.address().port();
    let own = |packet: &&Packet| packet.from.port() == port;
    packets.iter().filter(own).cloned().collect()
}

fn await_log(server: &Server, text: &str) {
    let found = eventually(LIMIT, || server.log().contains(text));
    assert!(found, "the log lacks {text:?}: {}", server.log());
}

fn await_packets(file: &Path, number: usize) {
    // Each of ours is longer than a ping.
    let bytes = FILE_HEADER_BYTES + 64 * number as u64;
    let found = eventually(LIMIT, || {
        fs::metadata(file).is_ok_and(|file| file.len() > bytes)
    });
    assert!(found, "{} does not grow", file.display());
}

both_io!(
    every_request_is_recorded_as_it_came,
    a_packet_has_the_time_of_its_arrival_however_long_it_waited,
    real_clients_are_recorded,
    a_blast_is_recorded_or_counted,
);

fn every_request_is_recorded_as_it_came(io: Io) {
    needs!(Tcpdump, Tshark);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut server = recording(io)
        .arg("--record-anonymize=no")
        .listen("")
        .start();
    let port = server.address().port();
    let sender = Sender::new("127.0.0.9", ([127, 0, 0, 5], port).into());
    let mut sent = vec![
        Request::new("ping").to_bytes(),
        Request::new("check").digest(&random_digest()).to_bytes(),
        Request::new("report")
            .digest(&random_digest())
            .signed_by(ALICE)
            .to_bytes(),
        b"User: x\r\n\xff\0 no request".to_vec(),
        Vec::new(),
        vec![b'x'; 8192],
    ];
    for datagram in &sent {
        sender.ask(datagram);
    }
    sender.ask(&[b'y'; 9000]);
    sent.push(vec![b'y'; 8192]);
    assert!(server.stop().success());
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();

    let packets = packets(&file(&server));
    assert_eq!(tcpdump_count(&file(&server)), packets.len());
    assert_eq!(server.counter("recorded"), packets.len() as u64);
    assert_eq!(server.counter("datagrams"), packets.len() as u64);
    let own = from(&sender, &packets);
    assert_eq!(datagrams(&own), sent);
    for packet in own {
        assert_eq!(packet.from, sender.address());
        assert_eq!(packet.to, ([127, 0, 0, 5], port).into());
    }
    let times: Vec<_> = packets.iter().map(|packet| packet.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        times[0] >= before && times[times.len() - 1] <= after,
        "{times:?}"
    );
    let mode = fs::metadata(file(&server)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn a_packet_has_the_time_of_its_arrival_however_long_it_waited(io: Io) {
    const PAUSE: Duration = Duration::from_millis(50);
    needs!(Tshark);
    let mut server = recording(io).start();
    let sender = Sender::new("127.0.0.9", server.address());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    server.signal(Signal::SIGSTOP);
    let sent = [(); 3].map(|()| {
        std::thread::sleep(PAUSE);
        let before = now();
        sender.0.send(&Request::new("ping").to_bytes()).unwrap();
        (before, now())
    });
    server.signal(Signal::SIGCONT);
    for _ in sent {
        receive_from(&sender.0, &mut [0; 512]).expect("a reply");
    }
    assert!(server.stop().success());
    let packets = from(&sender, &packets(&file(&server)));
    let times: Vec<_> = packets.iter().map(|packet| packet.at).collect();
    assert_eq!(times.len(), sent.len());
    for (at, (before, after)) in times.iter().zip(sent) {
        assert!(before <= *at && *at <= after, "{sent:?} {times:?}");
    }
}

fn real_clients_are_recorded(io: Io) {
    needs!(Tshark, Reference);
    let mut server = recording(io).start();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("servers"), server.address().to_string()).unwrap();
    let mail = fresh_mail();
    for operation in ["report", "check", "info"] {
        let finished = finish(
            reference::client(home.path()).arg(operation),
            mail.as_bytes(),
        );
        assert!(finished.stdout.contains("(200, 'OK')"), "{finished:?}");
    }
    assert!(server.stop().success());
    let recorded = datagrams(&packets(&file(&server)));
    let texts = recorded
        .iter()
        .map(|datagram| String::from_utf8_lossy(datagram));
    let operations: Vec<_> = texts
        .filter_map(|text| Some(text.strip_prefix("Op: ")?.split_once('\n')?.0.to_owned()))
        .filter(|operation| operation != "ping")
        .collect();
    assert_eq!(operations, ["report", "check", "info"]);

    // The load generator reads the same.
    let json = home.path().join("inspected.json");
    let mut loadgen = Command::new(program("loadgen"));
    loadgen.args([
        "inspect",
        "--port",
        &server.address().port().to_string(),
        "--json",
    ]);
    let finished = finish(loadgen.arg(&json).arg(file(&server)), b"");
    assert_eq!(finished.status, Some(0), "{finished:?}");
    let inspected: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(inspected["requests"], recorded.len(), "{inspected}");
    for operation in operations {
        assert_eq!(inspected["operations"][operation], 1, "{inspected}");
    }
}

fn a_blast_is_recorded_or_counted(io: Io) {
    needs!(Tcpdump);
    let mut server = recording(io).start();
    let mut loadgen = Command::new(program("loadgen"));
    loadgen.args(["blast", "--target", &server.address().to_string()]);
    loadgen.args(["--warmup", "0", "--duration", "0.5"]);
    let blast = finish(&mut loadgen, b"");
    assert_eq!(blast.status, Some(0), "{blast:?}");
    assert!(server.stop().success());
    let recorded = server.counter("recorded");
    assert!(recorded > 100, "{}", server.log());
    assert_eq!(
        recorded + server.counter("record_missed"),
        server.counter("datagrams")
    );
    assert_eq!(tcpdump_count(&file(&server)) as u64, recorded);
}

/// A kept recording of the Python client: anonymous, and as a user whose pseudonym is below.
#[test]
fn a_kept_recording_is_replayed_with_signatures_for_its_pseudonyms() {
    const USER: &str = "user-a3a0d33a7433b85f";
    const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
    let mut server = Setup::new(Io::Auto)
        .file("pyzord.passwd", format!("{USER} : {KEY}\n"))
        .file(
            "pyzord.access",
            format!("all : {USER} : allow\ncheck report ping pong info : anonymous : allow\n"),
        )
        .start();
    let address = server.address();
    let accounts = server.home().join("accounts");
    let account = format!(
        "{} : {} : {USER} : 00,{KEY}\n",
        address.ip(),
        address.port()
    );
    fs::write(&accounts, account).unwrap();
    let kept = workspace().join("tests/golden/traces/pyzord_record.pcap");
    let mut loadgen = Command::new(program("loadgen"));
    loadgen
        .arg("replay")
        .arg(&kept)
        .args(["--speed", "20", "--quiet"]);
    loadgen.args(["--target", &address.to_string(), "--accounts"]);
    let replayed = loadgen.arg(&accounts).output().unwrap();
    assert!(is_fine(&replayed), "{replayed:?}");
    assert!(server.stop().success());
    let log = server.log();
    let answers = log.rsplit_once(" ping_200=").unwrap().1;
    // The harness pings, too.
    let (_, answers) = answers.split_once(' ').unwrap();
    let answers = answers.lines().next().unwrap();
    assert_eq!(
        answers,
        "pong_200=1 check_200=3 info_200=1 report_200=4 whitelist_200=1 whitelist_403=1"
    );
}

#[test]
fn ipv6_is_recorded_too() {
    needs!(Tshark, Ipv6);
    for anonymize in ["no", "yes"] {
        let setup = recording(Io::Auto).listen("::1");
        let mut server = setup.arg("--record-anonymize").arg(anonymize).start();
        let sender = Sender::new("::1", server.address());
        let ping = Request::new("ping").to_bytes();
        sender.ask(&ping);
        assert!(server.stop().success());
        let own = from(&sender, &packets(&file(&server)));
        assert_eq!(datagrams(&own), [ping]);
        assert_eq!(own[0].to, server.address());
        let source = own[0].from.ip().to_string();
        if anonymize == "no" {
            assert_eq!(source, "::1");
        } else {
            assert!(source.starts_with("fd00:"), "{source}");
        }
    }
}

#[test]
fn pseudonyms_keep_who_is_the_same_and_not_who_it_is() {
    needs!(Tshark);
    let mut server = recording(Io::Auto)
        .file("pyzord.passwd", PASSWD)
        .file("pyzord.access", ACCESS)
        .start();
    let sources = ["127.0.0.2", "127.0.0.3", "127.0.0.2"];
    let senders = sources.map(|source| Sender::new(source, server.address()));
    let anonymous = Request::new("check").digest(&random_digest()).to_bytes();
    let named = Request::new("report")
        .digest(&random_digest())
        .signed_by(ALICE)
        .to_bytes();
    for sender in &senders {
        sender.ask(&anonymous);
        sender.ask(&named);
    }
    assert!(server.stop().success());

    let packets = packets(&file(&server));
    let own = senders.each_ref().map(|sender| from(sender, &packets));
    let pseudonym = |sender: usize| own[sender][0].from.ip();
    assert_eq!(pseudonym(0), pseudonym(2));
    assert_ne!(pseudonym(0), pseudonym(1));
    let mut users = BTreeSet::new();
    for packet in own.iter().flatten() {
        let IpAddr::V4(source) = packet.from.ip() else {
            panic!("{packet:?}");
        };
        assert!(source.octets()[0] >= 240, "{source}");
        assert_eq!(packet.to, server.address());
        if packet.datagram == anonymous {
            continue;
        }
        let user = named_like(&packet.datagram, &named);
        users.insert(user);
    }
    assert_eq!(users.len(), 1, "{users:?}");
    assert!(own.iter().all(|packets| packets.len() == 2), "{own:?}");
    let all = fs::read(file(&server)).unwrap();
    let holds = |what: &[u8]| all.windows(what.len()).any(|window| window == what);
    assert!(!holds(b"alice") && holds(b"user-"));
    assert!(!holds(&[127, 0, 0, 2]) && holds(&[127, 0, 0, 1]));
}

/// The user of a recorded request that is otherwise the one that was sent, but for a signature of zeros.
fn named_like(recorded: &[u8], sent: &[u8]) -> String {
    let text = String::from_utf8(recorded.to_vec()).unwrap();
    let sent = String::from_utf8(sent.to_vec()).unwrap();
    let mut user = String::new();
    assert_eq!(text.lines().count(), sent.lines().count(), "{text}");
    for (recorded, sent) in text.lines().zip(sent.lines()) {
        if let Some(name) = recorded.strip_prefix("User: ") {
            name.clone_into(&mut user);
        } else if recorded.starts_with("Sig: ") {
            assert_eq!(recorded, format!("Sig: {}", "0".repeat(40)));
        } else {
            assert_eq!(recorded, sent);
        }
    }
    user
}

#[test]
fn a_sample_holds_whole_sources() {
    const SOURCES: usize = 100;
    needs!(Tshark);
    let setup = recording(Io::Auto).arg("--record-sample").arg("0.5");
    let mut server = setup.arg("--record-anonymize=no").start();
    let ping = Request::new("ping").to_bytes();
    let senders: Vec<_> = (0..SOURCES)
        .map(|number| Sender::new(&format!("127.1.0.{number}"), server.address()))
        .collect();
    for sender in senders.iter().chain(&senders).chain(&senders) {
        sender.ask(&ping);
    }
    assert!(server.stop().success());
    let mut requests: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for packet in packets(&file(&server)) {
        *requests.entry(packet.from.ip()).or_default() += 1;
    }
    // The harness asks from here until the server answers.
    requests.remove(&IpAddr::from([127, 0, 0, 1]));
    // Five standard deviations from the middle.
    assert!((25..=75).contains(&requests.len()), "{requests:?}");
    assert!(requests.values().all(|&number| number == 3), "{requests:?}");
}

both_io!(usr2_switches_it_on_and_off);

fn usr2_switches_it_on_and_off(io: Io) {
    needs!(Tshark);
    let server = Setup::new(io)
        .file("config", "[server]\nRecordFile = record.pcap\n")
        .start();
    let sender = Sender::new("127.0.0.1", server.address());
    let pings: Vec<_> = (0..4).map(|_| Request::new("ping").to_bytes()).collect();
    sender.ask(&pings[0]);
    assert!(!file(&server).exists());
    server.signal(Signal::SIGUSR2);
    let begun = format!("recording to {}", file(&server).display());
    await_log(&server, &format!("{begun}: pseudonyms"));
    sender.ask(&pings[1]);
    server.signal(Signal::SIGUSR2);
    await_log(
        &server,
        &format!("{begun} stopped: 1 datagrams recorded, 0 missing"),
    );
    assert_eq!(datagrams(&packets(&file(&server))), pings[1..2]);
    sender.ask(&pings[2]);
    server.signal(Signal::SIGUSR2);
    let is_on_again = eventually(LIMIT, || server.log().matches(&begun).count() == 3);
    assert!(is_on_again, "{}", server.log());
    sender.ask(&pings[3]);
    await_packets(&file(&server), 1);
    assert_eq!(datagrams(&packets(&file(&server))), pings[3..4]);
    let older = server.home().join("record.pcap.1");
    assert_eq!(datagrams(&packets(&older)), pings[1..2]);
}

both_io!(full_files_move_aside_and_the_oldest_goes);

fn full_files_move_aside_and_the_oldest_goes(io: Io) {
    const MIB: usize = 1 << 20;
    needs!(Tcpdump);
    let mut server = recording(io).arg("--record-max-bytes").arg("1M").start();
    let sender = Sender::new("127.0.0.1", server.address());
    let large = [b'x'; 8192];
    for _ in 0..5 * MIB / large.len() {
        sender.ask(&large);
    }
    assert!(server.stop().success());
    for name in ["record.pcap.1", "record.pcap.2", "record.pcap.3"] {
        let path = server.home().join(name);
        let bytes = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        assert!((MIB - 2 * large.len()..=MIB).contains(&bytes), "{bytes}");
        assert_eq!(tcpdump_count(&path), bytes / large.len());
    }
    assert!(tcpdump_count(&file(&server)) > 0);
    assert!(!server.home().join("record.pcap.4").exists());
    assert_eq!(server.counter("recorded"), server.counter("datagrams"));
}

#[test]
fn hup_begins_a_new_file_if_the_old_one_was_moved() {
    needs!(Tshark);
    let mut server = recording(Io::Auto).start();
    let sender = Sender::new("127.0.0.1", server.address());
    let pings: Vec<_> = (0..3).map(|_| Request::new("ping").to_bytes()).collect();
    let reload = |times: usize| {
        server.signal(Signal::SIGHUP);
        let done = || server.log().matches("access files again").count() == times;
        assert!(eventually(LIMIT, done));
    };
    sender.ask(&pings[0]);
    reload(1);
    sender.ask(&pings[1]);
    let moved = server.home().join("moved");
    fs::rename(file(&server), &moved).unwrap();
    reload(2);
    assert!(eventually(LIMIT, || file(&server).exists()));
    await_log(&server, "recording goes on in a new ");
    sender.ask(&pings[2]);
    assert!(server.stop().success());
    let [moved, kept] = [moved, file(&server)].map(|file| from(&sender, &packets(&file)));
    assert_eq!(datagrams(&moved), pings[..2]);
    assert_eq!(datagrams(&kept), pings[2..]);
    assert!(!server.home().join("record.pcap.1").exists());
}

#[test]
fn a_failing_disk_pauses_it_until_it_is_put_right() {
    needs!(Tshark);
    let setup = recording(Io::Auto);
    symlink("/dev/full", setup.home().join("record.pcap")).unwrap();
    let mut server = setup.start();
    let sender = Sender::new("127.0.0.1", server.address());
    let paused = " ERROR recording is paused";
    await_log(&server, paused);
    await_log(
        &server,
        "No space left on device (os error 28); put that right and send USR2 or HUP",
    );
    sender.ask(&Request::new("ping").to_bytes());
    assert_eq!(server.log().matches(paused).count(), 1, "{}", server.log());

    server.signal(Signal::SIGHUP);
    assert!(eventually(LIMIT, || server.log().matches(paused).count() == 2));
    fs::remove_file(file(&server)).unwrap();
    server.signal(Signal::SIGUSR2);
    assert!(eventually(LIMIT, || file(&server).exists()));
    let is_on = || server.log().matches("recording to ").count() == 3;
    assert!(eventually(LIMIT, is_on), "{}", server.log());
    let ping = Request::new("ping").to_bytes();
    sender.ask(&ping);
    assert!(server.stop().success());
    assert_eq!(datagrams(&packets(&file(&server))), [ping]);
    assert_eq!(server.counter("record_errors"), 2);
    assert_eq!(server.counter("recorded"), 1);
    assert!(Path::new("/dev/full").exists());
}

both_io!(a_disk_that_blocks_delays_nobody);

/// A pipe that nobody reads: what does not fit into the queue any more is counted, and every request is answered.
fn a_disk_that_blocks_delays_nobody(io: Io) {
    const QUEUE_BYTES: usize = 8 << 20;
    let setup = recording(io);
    let pipe = setup.home().join("record.pcap");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let reader = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(&pipe);
    let reader = reader.unwrap();
    let mut server = setup.start();
    let sender = Sender::new("127.0.0.1", server.address());
    let large = [b'x'; 8192];
    // The writing thread's buffer and the pipe hold some as well.
    for _ in 0..QUEUE_BYTES / large.len() * 3 / 2 {
        sender.ask(&large);
    }
    assert!(server.stop().success());
    let missing = server.counter("record_missed");
    assert!(missing > 100, "{}", server.log());
    assert!(server.log().contains("the recording lacks its end"));
    drop(reader);
}

#[test]
fn what_is_no_recording_is_not_recorded_to() {
    let setup = Setup::new(Io::Auto).file("pyzord.passwd", PASSWD);
    let passwd = setup.home().join("pyzord.passwd");
    // Keeps the directory while we look at it.
    let home = tempfile::tempdir().unwrap();
    let copy = home.path().join("pyzord.passwd");
    fs::copy(&passwd, &copy).unwrap();
    let refused = setup.arg("--record").arg(copy.to_str().unwrap()).refused();
    assert_eq!(refused.0.code(), Some(1));
    let expected = format!(
        "cannot record to {}: it exists and is not a recording of ours\n",
        copy.display()
    );
    assert_eq!(refused.1, expected);
    assert_eq!(fs::read_to_string(&copy).unwrap(), PASSWD);
}
