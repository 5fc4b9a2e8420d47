//! What the server bounds, with its defaults and their reasons. Nothing that a stranger sends is without a limit.

use std::time::Duration;

/// The limits of one relay. Every one of them can be set; the defaults suit some hundred subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Those beyond are told `too-many`, and those far beyond are closed unheard.
    pub connections: usize,
    /// Streaming answers at once.
    pub subscriptions: usize,
    /// Streaming answers at once of one grant, so that one user's mistake leaves room for the others.
    pub subscriptions_per_grant: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// The headers of a request, with its path and query.
    pub header_bytes: usize,
    /// The body of a request.
    pub request_bytes: usize,
    /// From the connection to the end of its TLS handshake.
    pub handshake_time: Duration,
    /// From the first byte of a request (or from the connection) to the end of its headers.
    pub header_time: Duration,
    /// From the end of the headers to the answer's first byte; streams live as long as they like after it.
    pub request_time: Duration,
    /// How long a peer may take nothing of what waits for its connection before that is closed. One stream of many on a
    /// connection may stand still longer: it holds its place and a batch of bytes.
    pub stalled_time: Duration,
    /// How often a silent HTTP/2 connection is asked for a sign of life; one that gives none in as much time is closed.
    pub keep_alive: Duration,
    /// How long streams have for their orderly end when the relay stops; what is left then is cut off.
    pub shutdown_time: Duration,
}

/// Half of what a process may usually open without asking (1024 files are the common limit), times four for the limit
/// that services are given: each connection is one file, and logs need some more.
const CONNECTIONS: usize = 2048;

/// Four in five connections stream; the rest is for those who look, administer, and measure.
const SUBSCRIPTIONS: usize = 1600;

/// Half of all.
const SUBSCRIPTIONS_PER_GRANT: usize = 800;

/// More than any client multiplexes; each open stream holds a batch of bytes.
const STREAMS_PER_CONNECTION: u32 = 128;

/// A checkpoint in a query or in `Last-Event-ID` holds a GTID set, which has tens of KiB after years of fail-overs.
/// Longer ones go into a POST.
const HEADER_BYTES: usize = 64 << 10;

/// A checkpoint with the largest GTID set ever seen, with much room.
const REQUEST_BYTES: usize = 1 << 20;

const _: () = assert!(SUBSCRIPTIONS_PER_GRANT < SUBSCRIPTIONS && SUBSCRIPTIONS < CONNECTIONS);
const _: () = assert!(HEADER_BYTES < REQUEST_BYTES);

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: CONNECTIONS,
            subscriptions: SUBSCRIPTIONS,
            subscriptions_per_grant: SUBSCRIPTIONS_PER_GRANT,
            streams_per_connection: STREAMS_PER_CONNECTION,
            header_bytes: HEADER_BYTES,
            request_bytes: REQUEST_BYTES,
            // Slow links need a second; who needs more is not there.
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            // A look-back opens a segment of object storage first.
            request_time: Duration::from_secs(60),
            // A consumer that delivers a large transaction reads nothing meanwhile.
            stalled_time: Duration::from_secs(300),
            keep_alive: Duration::from_secs(20),
            shutdown_time: Duration::from_secs(10),
        }
    }
}
