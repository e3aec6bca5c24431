//! What `tokio_uring`'s own UDP socket makes of the same work as `hosted_ring_echo`: 64 tasks that each receive a datagram
//! and send its first 84 bytes back.
//!
//! `tokio_uring_echo [ADDRESS:PORT]` prints where it listens and runs on one thread until it is killed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "ops/bench.sh reads what it prints"
)]

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UdpSocket;

/// Length of every reply, in bytes: about that of a Pyzor reply.
const REPLY_BYTES: usize = 84;

/// Longer datagrams are cut.
const BUFFER_BYTES: usize = 2048;

/// Datagrams that can be under way at once.
const TASKS: usize = 64;

fn main() -> io::Result<()> {
    let listen = std::env::args().nth(1);
    let listen = listen.as_deref().unwrap_or("127.0.0.1:0").parse();
    let Ok(listen) = listen else {
        eprintln!("usage: tokio_uring_echo [ADDRESS:PORT]");
        std::process::exit(2)
    };
    tokio_uring::start(serve(listen))
}

async fn serve(listen: SocketAddr) -> io::Result<()> {
    let socket = Rc::new(UdpSocket::bind(listen).await?);
    println!("listening on {}", socket.local_addr()?);
    for _ in 1..TASKS {
        tokio_uring::spawn(echo(Rc::clone(&socket)));
    }
    echo(socket).await
}

async fn echo(socket: Rc<UdpSocket>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (received, returned) = socket.recv_from(buffer).await;
        let (_, peer) = received?;
        let (sent, returned) = socket.send_to(returned.slice(..REPLY_BYTES), peer).await;
        sent?;
        buffer = returned.into_inner();
    }
}
