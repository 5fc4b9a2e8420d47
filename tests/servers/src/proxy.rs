//! A TCP proxy in front of a server that cuts connections at an exact byte, to prove that a client resumes without a hole or a repeat.
//!
//! A cut is clean: the client receives exactly so many bytes and then the end of the stream, never a reset that could swallow bytes.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

const BUFFER_BYTES: usize = 64 * 1024;
/// MySQL protocol commands that begin a binlog stream.
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// When the proxy ends a connection. Only bytes from the server to the client count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Never,
    /// After this many bytes of the connection.
    After(u64),
    /// After this many bytes of the binlog stream, counted from the client's dump command on. Connections without one are left whole.
    AfterDump(u64),
}

/// What passed over one connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCount {
    /// What the proxy was told to do with it.
    pub cut: Cut,
    /// Bytes from the server to the client.
    pub to_client: u64,
    /// Of these, the bytes that followed a dump command; none when there was no such command.
    pub dump: Option<u64>,
    /// Whether the proxy ended it.
    pub was_cut: bool,
}

/// The proxy. Dropping it ends its connections.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    plan: Mutex<Plan>,
    counts: watch::Sender<Vec<ConnectionCount>>,
    cut_all: watch::Sender<u64>,
}

/// The cuts of the next connections, then that of all later ones.
#[derive(Debug)]
struct Plan {
    next: VecDeque<Cut>,
    then: Cut,
}

impl CutProxy {
    /// Listens on a free loopback port and forwards to `target`; cuts nothing until told to.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            plan: Mutex::new(Plan { next: VecDeque::new(), then: Cut::Never }),
            counts: watch::Sender::new(Vec::new()),
            cut_all: watch::Sender::new(0),
        });
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Appends a cut for one connection to come: the first call is for the next connection, the second for the one after it.
    pub fn cut_next(&self, cut: Cut) {
        self.shared.plan().next.push_back(cut);
    }

    /// What happens to connections for which there is no [`CutProxy::cut_next`] (any more).
    pub fn cut_every(&self, cut: Cut) {
        self.shared.plan().then = cut;
    }

    /// Forwards the connections to come to another server, as an address that moves with the primary does.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target() = target;
    }

    /// Ends every connection that is open now.
    pub fn cut_all(&self) {
        self.shared.cut_all.send_modify(|count| *count += 1);
    }

    /// Every connection so far, in the order in which they were accepted.
    pub fn connections(&self) -> Vec<ConnectionCount> {
        self.shared.counts.borrow().clone()
    }

    /// How many connections the proxy has ended.
    pub fn cut_count(&self) -> usize {
        self.shared.counts.borrow().iter().filter(|connection| connection.was_cut).count()
    }

    /// Waits until what passed over the connections satisfies a condition.
    pub async fn wait(&self, condition: impl FnMut(&Vec<ConnectionCount>) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        counts.wait_for(condition).await.expect("self holds the sender");
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn target(&self) -> MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Enters a new connection and says when to cut it.
    fn enter(&self) -> (usize, Cut) {
        let mut plan = self.plan();
        let cut = plan.next.pop_front().unwrap_or(plan.then);
        let mut number = 0;
        self.counts.send_modify(|counts| {
            number = counts.len();
            counts.push(ConnectionCount { cut, to_client: 0, dump: None, was_cut: false });
        });
        (number, cut)
    }

    fn count(&self, number: usize, change: impl FnOnce(&mut ConnectionCount)) {
        self.counts.send_modify(|counts| change(&mut counts[number]));
    }

    /// How many more bytes the connection may deliver.
    fn allowance(&self, number: usize) -> u64 {
        let connection = self.counts.borrow()[number];
        match (connection.cut, connection.dump) {
            (Cut::After(limit), _) => limit - connection.to_client.min(limit),
            (Cut::AfterDump(limit), Some(dump)) => limit - dump.min(limit),
            (Cut::AfterDump(_), None) | (Cut::Never, _) => u64::MAX,
        }
    }
}

/// Owns the connections: they end with this task.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    // A listener that fails has lost its socket; clients then see refused connections.
    while let Ok((client, _)) = listener.accept().await {
        let (number, _) = shared.enter();
        connections.spawn(connect(client, number, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection. An error on either side ends it, as it would without a proxy.
async fn connect(client: TcpStream, number: usize, shared: Arc<Shared>) -> io::Result<()> {
    let mut cut_all = shared.cut_all.subscribe();
    let target = *shared.target();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = {
        // However the client's side ends, the server hears of it, and what it still has to say decides when the connection is over.
        let up = async {
            let _ = upwards(&mut from_client, &mut to_server, number, &shared).await;
            let _ = to_server.shutdown().await;
            std::future::pending::<()>().await
        };
        tokio::select! {
            biased;
            _ = cut_all.changed() => true,
            cut = downwards(&mut from_server, &mut to_client, number, &shared) => cut?,
            () = up => unreachable!("it is pending when it is done"),
        }
    };
    if cut {
        shared.count(number, |connection| connection.was_cut = true);
    }
    // Half-closed: the client sees the end after the last byte. Its own last words are read so that no reset is sent.
    to_client.shutdown().await?;
    drop((from_server, to_server));
    tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await.map(drop)
}

/// Client to server, whole; notes a dump command before passing it on, so that not one byte of the answer escapes the count.
async fn upwards(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    number: usize,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut commands = CommandWatch::default();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if commands.sees_dump(&buffer[..length]) {
            shared.count(number, |connection| connection.dump = connection.dump.or(Some(0)));
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Server to client, up to the cut: true when it was reached, false when the server ended the connection.
async fn downwards(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    number: usize,
    shared: &Shared,
) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    while shared.allowance(number) > 0 {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(false);
        }
        let passed = shared.allowance(number).min(length as u64) as usize;
        to.write_all(&buffer[..passed]).await?;
        shared.count(number, |connection| {
            connection.to_client += passed as u64;
            connection.dump = connection.dump.map(|dump| dump + passed as u64);
        });
    }
    Ok(true)
}

/// Follows the packets of a client: length (3 bytes), sequence number, payload. A command is the first byte of packet zero.
#[derive(Debug, Default)]
struct CommandWatch {
    header: [u8; 4],
    header_length: usize,
    payload_left: usize,
    at_payload_start: bool,
}

impl CommandWatch {
    fn sees_dump(&mut self, mut bytes: &[u8]) -> bool {
        let mut seen = false;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.payload_left == 0 {
                self.header[self.header_length] = first;
                self.header_length += 1;
                if self.header_length == self.header.len() {
                    let [low, middle, high, _] = self.header;
                    self.payload_left = u32::from_le_bytes([low, middle, high, 0]) as usize;
                    self.header_length = 0;
                    self.at_payload_start = true;
                }
                bytes = rest;
            } else {
                let [.., sequence] = self.header;
                seen |= self.at_payload_start
                    && sequence == 0
                    && matches!(first, COM_BINLOG_DUMP | COM_BINLOG_DUMP_GTID);
                self.at_payload_start = false;
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_le_bytes();
        [&length[..3], &[sequence], payload].concat()
    }

    #[test]
    fn a_dump_command_is_seen_however_the_bytes_arrive() {
        let login = packet(1, &[COM_BINLOG_DUMP; 300]);
        let query = packet(0, &[&[3], &[COM_BINLOG_DUMP; 70_000][..]].concat());
        let before = [login, query, packet(0, &[14])].concat();
        let dump = packet(0, &[COM_BINLOG_DUMP_GTID, 0, 0]);
        for piece in [1, 3, 4, 5, 64, 100_000] {
            let mut commands = CommandWatch::default();
            assert!(
                !before.chunks(piece).any(|bytes| commands.sees_dump(bytes)),
                "pieces of {piece}: seen too early"
            );
            assert!(dump.chunks(piece).any(|bytes| commands.sees_dump(bytes)), "pieces of {piece}: not seen");
        }
    }
}
