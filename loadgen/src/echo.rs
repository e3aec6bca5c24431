//! The floor: the least a server can do with a datagram.
//!
//! One thread takes what has arrived with `recvmmsg` and sends 84 bytes, about the length of a Pyzor reply, back to each
//! sender with `sendmmsg`. Nothing is parsed, copied or allocated: the reply is the request's own first 84 bytes (with
//! whatever the buffer held before, behind a shorter one). Those of a check or a ping contain its `Thread`, by which the load
//! generator knows its requests again; a report's does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::error::Error;
use crate::flags::EchoFlags;
use crate::signals::StopSignal;
use crate::socket::{self, Batch, Wait};
use crate::stdio::print;

/// Length of every reply, in bytes.
const REPLY_BYTES: usize = 84;
/// Longer datagrams are cut; requests with many digests still fit.
const BUFFER_BYTES: usize = 2048;

/// Echoes until TERM, INT or the end of the duration.
pub(crate) fn run(flags: &EchoFlags) -> Result<(), Error> {
    let signal = StopSignal::take_over()?;
    let bind_failed = |source| Error::Bind(flags.listen, source);
    let socket = socket::bind(flags.listen).map_err(bind_failed)?;
    let address = socket.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_at_the_end(signal, flags.duration, address, Arc::clone(&stop));
    if let Some(core) = flags.core {
        cpu::pin(core).map_err(|source| Error::Pin(core, source))?;
    }
    print(format_args!("listening on {address}\n"))?;
    let answered = echo(&socket, &stop, flags.delay_us)?;
    print(format_args!(
        "{} datagrams in {} batches\n",
        answered.datagrams, answered.batches
    ))
}

/// Leaves a thread behind that stops the echo in time.
fn stop_at_the_end(
    signal: StopSignal,
    duration: Option<Duration>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
) {
    thread::spawn(move || {
        let _ = signal.wait(duration);
        stop.store(true, Ordering::Relaxed);
        // A datagram may be lost when the queue is full; but then the echo does not wait for one either.
        let _ = wake(address);
    });
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answered {
    datagrams: u64,
    batches: u64,
}

fn echo(socket: &UdpSocket, stop: &AtomicBool, delay: Duration) -> io::Result<Answered> {
    let mut batch = Batch::with_addresses(BUFFER_BYTES);
    let mut answered = Answered::default();
    while !stop.load(Ordering::Relaxed) {
        let received = batch.receive(socket, Wait::ForOne)?;
        spend(delay, received);
        let sent = batch.send_back(socket, received, REPLY_BYTES);
        answered.datagrams += sent as u64;
        answered.batches += 1;
    }
    Ok(answered)
}

/// Keeps the core busy for `delay` a datagram, before any of them is answered.
fn spend(delay: Duration, datagrams: usize) {
    if delay.is_zero() {
        return;
    }
    let until = Instant::now() + delay * u32::try_from(datagrams).unwrap_or(u32::MAX);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Ends a receive that waits: with a datagram, because anything that could be checked in the loop would cost there.
fn wake(address: SocketAddr) -> io::Result<()> {
    let mut target = address;
    if address.ip().is_unspecified() {
        target.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    socket::connect(target)?.send(&[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_is_answered_with_84_bytes() {
        let server = socket::bind("[::]:0".parse().unwrap()).unwrap();
        let address = server.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let echo = scope.spawn(|| echo(&server, &stop, Duration::from_micros(1)));
            let client =
                socket::connect(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()))
                    .unwrap();
            for datagram in [&b"short"[..], &[7; 84], &[8; 3000], &[]] {
                client.send(datagram).unwrap();
                let mut reply = [0; 200];
                assert_eq!(client.recv(&mut reply).unwrap(), REPLY_BYTES);
                let common = datagram.len().min(REPLY_BYTES);
                assert_eq!(reply[..common], datagram[..common]);
            }
            stop.store(true, Ordering::Relaxed);
            wake(address).unwrap();
            let answered = echo.join().unwrap().unwrap();
            assert!(answered.datagrams >= 4 && answered.batches <= answered.datagrams);
        });
    }
}
