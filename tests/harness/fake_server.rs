//! A server that does what a test wants, on purpose or by mistake.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::StopOnDrop;

/// Holds all that a test sends: a busy machine may leave a server alone for a while.
const QUEUE_BYTES: usize = 4 << 20;
const POLL: Duration = Duration::from_millis(20);

/// A server in a thread of this process, which ends with it.
pub(crate) struct Fake<T> {
    pub(crate) address: SocketAddr,
    thread: Option<JoinHandle<T>>,
    stop: StopOnDrop,
}

impl<T: Send + 'static> Fake<T> {
    /// `serve` gets each datagram with its number and its sender; `end` gives what the test wants to know.
    pub(crate) fn start<S: Send + 'static>(
        mut state: S,
        serve: impl Fn(&mut S, &UdpSocket, u64, &[u8], SocketAddr) + Send + 'static,
        end: impl FnOnce(S) -> T + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket)
            .set_recv_buffer_size(QUEUE_BYTES)
            .unwrap();
        socket.set_read_timeout(Some(POLL)).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = StopOnDrop::default();
        let is_over = stop.flag();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 9000];
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    serve(&mut state, &socket, number, &buffer[..length], client);
                    number += 1;
                }
            }
            end(state)
        });
        Self {
            address,
            thread: Some(thread),
            stop,
        }
    }

    pub(crate) fn stop(mut self) -> T {
        self.stop.flag().store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}
