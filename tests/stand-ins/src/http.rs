//! One request without a library: what makes a bucket or a container in a stand-in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::StandInError;

/// Puts nothing under that target, and expects that it was created.
pub(crate) fn put_nothing(
    name: &'static str,
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
) -> Result<(), StandInError> {
    let mut request =
        format!("PUT {target} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n");
    for (header, value) in headers {
        request += &format!("{header}: {value}\r\n");
    }
    let answer = exchange(address, &(request + "\r\n")).map_err(StandInError::io(name, "ask"))?;
    let status = answer.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200" | "201") => Ok(()),
        _ => Err(StandInError::Refused { name, answer: status.to_owned() }),
    }
}

fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
