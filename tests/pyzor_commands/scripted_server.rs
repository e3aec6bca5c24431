//! A server that answers each request with what a script makes of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::StopOnDrop;

/// How often it looks whether it has to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server, until it is dropped.
pub(super) struct ScriptedServer {
    pub(super) address: SocketAddr,
    requests: Receiver<String>,
    _stop: StopOnDrop,
    _thread: JoinHandle<()>,
}

impl ScriptedServer {
    /// A server whose replies are `template`, in which `{T}` stands for the request's thread; silent if it is empty.
    pub(super) fn new(template: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(POLL_INTERVAL)).unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, requests) = channel();
        let stop = StopOnDrop::default();
        let (flag, template) = (stop.flag(), template.to_owned());
        let thread = thread::spawn(move || {
            let mut datagram = [0; 9000];
            while !flag.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                let request = String::from_utf8_lossy(&datagram[..length]).into_owned();
                let reply = template.replace("{T}", &header(&request, "Thread"));
                // Before the reply, so that whoever has seen it finds the request.
                let _ = sender.send(request);
                if !reply.is_empty() {
                    let _ = socket.send_to(reply.as_bytes(), client);
                }
            }
        });
        Self {
            address,
            requests,
            _stop: stop,
            _thread: thread,
        }
    }

    /// What has been received so far and not been asked for.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

/// The value of a request's header.
pub(super) fn header(request: &str, name: &str) -> String {
    request
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {request:?}"))
        .to_owned()
}
