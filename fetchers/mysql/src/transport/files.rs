//! Binlog files on disk, one after the other, and on to what is appended where they are followed.

use std::io;
use std::path::{Path, PathBuf};

use tidemill_fetchers_api::FetchError;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use crate::event::{
    Checksums, FLAG_IN_USE, Flavour, FormatDescription, HEADER_BYTES, Header, RawEvent, kind,
};
use crate::gtid::{GtidSet, read_set};
use crate::limits::{EVENT_BYTES_MAX, FOLLOW_PAUSE, READ_BYTES};
use crate::options::{FileOptions, FileSet};
use crate::place::{BinlogName, Place};
use crate::transport::buffer::Buffer;
use crate::transport::{Filled, Item};
use crate::wire::Malformed;

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const MAGIC_ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];

/// Which files there are. Looked at anew whenever the last one has ended.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    set: FileSet,
}

impl Listing {
    pub(crate) fn new(options: &FileOptions) -> Listing {
        Listing { set: options.files.clone() }
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Result<Vec<(BinlogName, PathBuf)>, FetchError> {
        let named = |path: PathBuf| {
            let name = path.file_name()?.to_str().and_then(BinlogName::parse)?;
            Some((name, path))
        };
        let mut files: Vec<(BinlogName, PathBuf)> = match &self.set {
            FileSet::List(paths) => {
                let wrong = paths.iter().find(|path| named((*path).clone()).is_none());
                if let Some(path) = wrong {
                    return Err(FetchError::Setup {
                        what: format!("`{}` is not named as binlog files are", path.display()),
                        mend: "give files such as binlog.000001".to_owned(),
                    });
                }
                paths.iter().cloned().filter_map(named).collect()
            }
            FileSet::Directory { directory, base } => {
                let entries = std::fs::read_dir(directory).map_err(|e| failed(directory, e))?;
                let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
                let paths = paths.map_err(|e| failed(directory, e))?;
                paths.into_iter().filter_map(named).filter(|(name, _)| name.base() == base).collect()
            }
        };
        files.sort_by_key(|(name, _)| name.number);
        match files.is_empty() {
            false => Ok(files),
            true => Err(FetchError::Setup {
                what: format!("there are no binlog files in {}", self.set),
                mend:
                    "name the directory and the files' base name, as `log_bin_basename` of the server says it"
                        .to_owned(),
            }),
        }
    }

    fn after(&self, number: u32) -> Result<Option<(BinlogName, PathBuf)>, FetchError> {
        Ok(self.all()?.into_iter().find(|(name, _)| name.number > number))
    }
}

fn failed(path: &Path, source: io::Error) -> FetchError {
    FetchError::Io { what: path.display().to_string(), source }
}

/// What stands at the beginning of a file.
#[derive(Debug)]
pub(crate) struct Peek {
    pub(crate) flavour: Flavour,
    pub(crate) server_id: u32,
    /// Seconds since 1970-01-01 UTC at which the file was begun.
    pub(crate) begun: u32,
    /// What had been executed before it; `None` where it does not tell.
    pub(crate) history: Option<GtidSet>,
}

impl Peek {
    pub(crate) async fn read(name: &BinlogName, path: &Path) -> Result<Peek, FetchError> {
        let mut transport = FilesTransport::open_one(name.clone(), path).await?;
        let mut peek = None;
        loop {
            match transport.take()? {
                Some(Item::Event(event)) if event.header.kind == kind::FORMAT_DESCRIPTION => {
                    let description = FormatDescription::read(event.body).map_err(|m| damaged(name, 4, m))?;
                    peek = Some(Peek {
                        flavour: description.flavour,
                        server_id: event.header.server_id,
                        begun: event.header.timestamp,
                        history: None,
                    });
                    continue;
                }
                Some(Item::Event(RawEvent { header, body })) => {
                    let mut peek = peek.ok_or_else(|| damaged(name, 4, NO_DESCRIPTION))?;
                    if matches!(header.kind, kind::PREVIOUS_GTIDS | kind::GTID_LIST) {
                        peek.history = read_set(peek.flavour, body).ok();
                    }
                    return Ok(peek);
                }
                Some(Item::File(..)) => continue,
                None => {}
            }
            if !transport.fill_file().await? {
                return peek.ok_or_else(|| damaged(name, 4, NO_DESCRIPTION));
            }
        }
    }
}

const NO_DESCRIPTION: Malformed = Malformed("the file does not begin with a format description");

fn damaged(name: &BinlogName, offset: u64, Malformed(what): Malformed) -> FetchError {
    FetchError::Damaged { place: format!("{}:{offset}", name.as_str()), what: what.to_owned() }
}

/// See the module.
pub(crate) struct FilesTransport {
    listing: Option<Listing>,
    follow: bool,
    name: BinlogName,
    file: File,
    /// Where the first unread byte stands in the file.
    offset: u64,
    buffer: Buffer,
    /// Bytes that the next event needs.
    needed: usize,
    checksums: Checksums,
    /// What is announced before the next event.
    announce: Option<u64>,
    /// Where to go on after the format description.
    jump: Option<u64>,
    /// The server had the file open when it was copied, or has it open now.
    in_use: bool,
    /// A next file was there when this one seemed to end: one more look at this one decides.
    looked_again: bool,
}

impl FilesTransport {
    /// Begins in that file, at that offset.
    pub(crate) async fn open(options: &FileOptions, place: &Place) -> Result<FilesTransport, FetchError> {
        let listing = Listing::new(options);
        let files = listing.all()?;
        let found = files.into_iter().find(|(name, _)| *name == place.file);
        let (name, path) = found.ok_or_else(|| FetchError::Setup {
            what: format!("the file {} is not there", place.file.as_str()),
            mend: "give the files back, or start with the earliest".to_owned(),
        })?;
        let mut transport = FilesTransport::open_one(name, &path).await?;
        let length = transport.file.metadata().await.map_err(|e| failed(&path, e))?.len();
        if place.offset > length {
            return Err(damaged(
                &place.file,
                place.offset,
                Malformed("the file ends before the place to go on at"),
            ));
        }
        transport.jump = (place.offset > Place::FIRST_OFFSET).then_some(place.offset);
        transport.listing = Some(listing);
        transport.follow = options.follow;
        Ok(transport)
    }

    async fn open_one(name: BinlogName, path: &Path) -> Result<FilesTransport, FetchError> {
        let mut file = File::open(path).await.map_err(|e| failed(path, e))?;
        file.set_max_buf_size(READ_BYTES);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).await.map_err(|e| failed(path, e))?;
        match magic {
            MAGIC => {}
            MAGIC_ENCRYPTED => {
                return Err(FetchError::Setup {
                    what: format!("`{}` is encrypted", path.display()),
                    mend: "read it from the server, which decrypts it".to_owned(),
                });
            }
            _ => return Err(damaged(&name, 0, Malformed("this is no binlog file"))),
        }
        Ok(FilesTransport {
            listing: None,
            follow: false,
            name,
            file,
            offset: Place::FIRST_OFFSET,
            buffer: Buffer::default(),
            needed: HEADER_BYTES,
            checksums: Checksums::default(),
            announce: Some(Place::FIRST_OFFSET),
            jump: None,
            in_use: false,
            looked_again: false,
        })
    }

    pub(crate) fn take(&mut self) -> Result<Option<Item<'_>>, FetchError> {
        if let Some(offset) = self.announce.take() {
            return Ok(Some(Item::File(self.name.clone(), offset)));
        }
        let unread = self.buffer.unread();
        let is_first = self.offset == Place::FIRST_OFFSET;
        if unread.len() < HEADER_BYTES || (self.jump.is_some() && !is_first) {
            self.needed = HEADER_BYTES;
            return Ok(None);
        }
        let header = Header::read(unread).map_err(|m| damaged(&self.name, self.offset, m))?;
        let size = header.size as usize;
        if size > EVENT_BYTES_MAX {
            return Err(damaged(&self.name, self.offset, Malformed("an event is larger than any may be")));
        }
        if is_first && header.kind != kind::FORMAT_DESCRIPTION {
            return Err(damaged(&self.name, self.offset, NO_DESCRIPTION));
        }
        if unread.len() < size {
            self.needed = size;
            return Ok(None);
        }
        self.looked_again = false;
        self.in_use = if is_first { header.flags & FLAG_IN_USE != 0 } else { self.in_use };
        let at = self.offset;
        self.offset += size as u64;
        let event = self.checksums.open(self.buffer.take(size)).map_err(|m| damaged(&self.name, at, m))?;
        Ok(Some(Item::Event(event)))
    }

    pub(crate) async fn fill(&mut self) -> Result<Filled, FetchError> {
        if self.jump.is_some() && self.offset > Place::FIRST_OFFSET {
            self.go_to_jump().await?;
            return Ok(Filled::More);
        }
        if self.fill_file().await? {
            return Ok(Filled::More);
        }
        let next = match &self.listing {
            Some(listing) => listing.after(self.name.number)?,
            None => None,
        };
        match next {
            // The server may have written to this file until it opened the next: look once more.
            Some(_) if !self.looked_again => {
                self.looked_again = true;
                Ok(Filled::More)
            }
            Some((name, path)) => {
                self.switch(name, &path).await?;
                Ok(Filled::More)
            }
            None if self.follow => Ok(Filled::Idle),
            None => self.end(),
        }
    }

    /// The last file has ended: cleanly, or torn where the server had it open.
    fn end(&self) -> Result<Filled, FetchError> {
        let torn = !self.buffer.unread().is_empty();
        if torn && !self.in_use {
            return Err(damaged(&self.name, self.offset, Malformed("the file ends within an event")));
        }
        Ok(Filled::End)
    }

    /// Whether the last file may end within a transaction: its server had it open.
    pub(crate) fn may_be_torn(&self) -> bool {
        self.in_use
    }

    async fn go_to_jump(&mut self) -> Result<(), FetchError> {
        let Some(offset) = self.jump else { return Ok(()) };
        let seek = self.file.seek(SeekFrom::Start(offset)).await;
        seek.map_err(|e| failed(Path::new(self.name.as_str()), e))?;
        // Only now: a call that is dropped while it seeks is made again.
        self.jump = None;
        self.buffer.clear();
        self.offset = offset;
        self.announce = Some(offset);
        Ok(())
    }

    /// Reads on in this file; false at its end.
    async fn fill_file(&mut self) -> Result<bool, FetchError> {
        let room = self.buffer.room(self.needed);
        let read = self.file.read(room).await.map_err(|e| failed(Path::new(self.name.as_str()), e))?;
        self.buffer.filled(read);
        Ok(read > 0)
    }

    async fn switch(&mut self, name: BinlogName, path: &Path) -> Result<(), FetchError> {
        if !self.buffer.unread().is_empty() {
            tracing::warn!(
                file = self.name.as_str(),
                offset = self.offset,
                "the file ends within an event, as after a crash"
            );
        }
        let mut next = FilesTransport::open_one(name, path).await?;
        next.listing = self.listing.take();
        next.follow = self.follow;
        *self = next;
        Ok(())
    }

    /// Files do not tell when they grow.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}
