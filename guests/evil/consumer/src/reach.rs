//! What the guest can reach of the machine, told in one line each. A consumer that was granted nothing
//! gets an error for all of it.

use std::fmt::Debug;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};

/// All of it.
pub fn everything() -> String {
    let environment = std::env::vars().count();
    let arguments = std::env::args().count();
    format!("{}; {}; environment: {environment} variables; arguments: {arguments}", files(), sockets())
}

/// Reading and writing files, and listing folders.
pub fn files() -> String {
    let read = std::fs::read_to_string("/etc/passwd").map(|text| text.len());
    let list = std::fs::read_dir("/").map(|entries| entries.count());
    let write = std::fs::File::create("/tmp/evil-consumer").and_then(|mut file| file.write_all(b"evil"));
    [told("read", &read), told("list", &list), told("write", &write)].join("; ")
}

/// Connecting, listening and sending.
pub fn sockets() -> String {
    let connect = TcpStream::connect("127.0.0.1:9").map(drop);
    let listen = TcpListener::bind("127.0.0.1:0").map(drop);
    let send = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"evil", "127.0.0.1:9"));
    [told("connect", &connect), told("listen", &listen), told("send", &send)].join("; ")
}

/// `read: refused` or `read: REACHED 42`
fn told<T: Debug>(what: &str, outcome: &std::io::Result<T>) -> String {
    match outcome {
        Ok(value) => format!("{what}: REACHED {value:?}"),
        Err(error) => format!("{what}: refused ({error})"),
    }
}
