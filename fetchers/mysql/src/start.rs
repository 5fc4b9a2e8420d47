//! Where a fetcher begins: what it is asked for, against what the server or the files have.

use std::sync::Arc;

use tidemill_event::{Checkpoint, Position, Scn, Timeline};
use tidemill_fetchers_api::{FetchError, Start};

use crate::assemble::Skip;
use crate::event::Flavour;
use crate::gtid::{GtidSet, NotASet, parse_set};
use crate::options::{FileOptions, ServerOptions};
use crate::place::{BinlogName, Place};
use crate::transport::{
    Connection, Facts, Listing, Peek, Resume, TransportError, begun_of_file, binary_logs,
};

/// The beginning that was settled on.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) flavour: Flavour,
    pub(crate) resume: Resume,
    /// The end of the reader's last window, where it is one of this timeline.
    pub(crate) after: Option<Place>,
    pub(crate) skip: Skip,
}

fn not_a_set(checkpoint: &Checkpoint, NotASet(text): NotASet) -> FetchError {
    FetchError::Lineage {
        at: checkpoint.position,
        what: format!("`{text}` of the checkpoint is no set of GTIDs of this family of servers"),
        mend: "connect to a server of the lineage that the checkpoint is of".to_owned(),
    }
}

/// A checkpoint that was never moved is the beginning.
fn is_blank(checkpoint: &Checkpoint) -> bool {
    checkpoint.position.scn == Scn::ZERO && checkpoint.gtid_set.is_empty()
}

/// Where an earlier reader was, if this one goes on behind it.
pub(crate) fn resumed(start: &Start) -> Option<Position> {
    match start {
        Start::At(checkpoint) if !is_blank(checkpoint) => Some(checkpoint.position),
        _ => None,
    }
}

fn timeline_of(checkpoint: &Checkpoint, identity: &Arc<str>) -> Timeline {
    let server =
        if checkpoint.server.is_empty() { Arc::clone(identity) } else { checkpoint.server.as_str().into() };
    Timeline { number: checkpoint.position.timeline.max(1), server }
}

/// The beginning on a server.
pub(crate) async fn on_server(
    connection: &mut Connection,
    options: &ServerOptions,
    facts: &Facts,
    start: &Start,
) -> Result<Plan, TransportError> {
    let timeline = Timeline { number: 1, server: Arc::clone(&facts.identity) };
    let mut plan = Plan {
        flavour: facts.flavour,
        resume: Resume { timeline, executed: None, place: None },
        after: None,
        skip: Skip::default(),
    };
    match start {
        Start::At(checkpoint) if !is_blank(checkpoint) => return at_checkpoint(facts, checkpoint, plan),
        Start::Earliest | Start::At(_) => {
            let files = binary_logs(connection).await?;
            plan.resume.place = Some(beginning(facts, &files));
        }
        Start::Now if facts.has_gtids && !facts.executed.is_empty() => {
            plan.resume.executed = Some(facts.executed.clone());
        }
        Start::Now => plan.resume.place = Some(facts.end.clone()),
        Start::Time(time) => {
            plan.skip.before_us = Some(*time);
            let files = binary_logs(connection).await?;
            let mut begin = beginning(facts, &files);
            // Files tell whole seconds: one that was begun within that second may begin too late.
            for file in files.iter().rev() {
                if begun_of_file(options, facts, file).await? < time.div_euclid(1_000_000) {
                    begin.file = file.clone();
                    break;
                }
            }
            plan.resume.place = Some(begin);
        }
    }
    Ok(plan)
}

/// Where the oldest file begins.
fn beginning(facts: &Facts, files: &[BinlogName]) -> Place {
    let file = files.first().unwrap_or(&facts.end.file).clone();
    Place { file, offset: Place::FIRST_OFFSET }
}

fn at_checkpoint(facts: &Facts, checkpoint: &Checkpoint, mut plan: Plan) -> Result<Plan, TransportError> {
    let scn = checkpoint.position.scn;
    let set = parse_set(facts.flavour, &checkpoint.gtid_set).map_err(|e| not_a_set(checkpoint, e))?;
    plan.resume.timeline = timeline_of(checkpoint, &facts.identity);
    plan.resume.executed = (!set.is_empty()).then_some(set);
    plan.resume.place = facts.place(scn.binlog_file(), scn.binlog_offset());
    if plan.resume.timeline.server == facts.identity {
        plan.after = plan.resume.place.clone();
    }
    Ok(plan)
}

/// The beginning in files.
pub(crate) async fn in_files(options: &FileOptions, start: &Start) -> Result<Plan, FetchError> {
    let files = Listing::new(options).all()?;
    let (first, path) = &files[0];
    let peek = Peek::read(first, path).await?;
    let family = if peek.flavour == Flavour::MySql { "mysql" } else { "mariadb" };
    let identity: Arc<str> =
        options.server.clone().unwrap_or_else(|| format!("{family}-{}", peek.server_id)).into();
    let begin = |file: &BinlogName| Some(Place { file: file.clone(), offset: Place::FIRST_OFFSET });
    let mut plan = Plan {
        flavour: peek.flavour,
        resume: Resume {
            timeline: Timeline { number: 1, server: Arc::clone(&identity) },
            executed: None,
            place: begin(first),
        },
        after: None,
        skip: Skip::default(),
    };
    match start {
        Start::At(checkpoint) if !is_blank(checkpoint) => {
            let timeline = timeline_of(checkpoint, &identity);
            let set = parse_set(peek.flavour, &checkpoint.gtid_set).map_err(|e| not_a_set(checkpoint, e))?;
            match timeline.server == identity {
                true => at_place(&files, checkpoint, set, timeline, &mut plan)?,
                false => at_set(&files, checkpoint, set, timeline, &mut plan).await?,
            }
        }
        Start::Earliest | Start::At(_) => {}
        Start::Now => {
            let (last, path) = &files[files.len() - 1];
            let length = std::fs::metadata(path);
            let length =
                length.map_err(|source| FetchError::Io { what: path.display().to_string(), source })?.len();
            // The last bytes may be half a transaction: what begins before them is passed over whole.
            plan.skip.upto = Scn::from_binlog(last.number, length);
            plan.resume.place = begin(last);
        }
        Start::Time(time) => {
            plan.skip.before_us = Some(*time);
            for (file, path) in files.iter().rev() {
                if i64::from(Peek::read(file, path).await?.begun) < time.div_euclid(1_000_000) {
                    plan.resume.place = begin(file);
                    break;
                }
            }
        }
    }
    Ok(plan)
}

/// The same server's files: the clock value is a place in them.
fn at_place(
    files: &[(BinlogName, std::path::PathBuf)],
    checkpoint: &Checkpoint,
    set: GtidSet,
    timeline: Timeline,
    plan: &mut Plan,
) -> Result<(), FetchError> {
    let scn = checkpoint.position.scn;
    let file = files.iter().map(|(name, _)| name).find(|name| name.number == scn.binlog_file());
    let file = file.ok_or_else(|| FetchError::Lineage {
        at: checkpoint.position,
        what: format!("the file number {} is not among the binlog files", scn.binlog_file()),
        mend: "give the files back, or clone the tables again and start after the clone".to_owned(),
    })?;
    let place = Place { file: file.clone(), offset: scn.binlog_offset() };
    plan.after = Some(place.clone());
    plan.resume = Resume { timeline, executed: (!set.is_empty()).then_some(set), place: Some(place) };
    Ok(())
}

/// Another server's files: from the last one whose beginning the reader has, without what the reader has.
async fn at_set(
    files: &[(BinlogName, std::path::PathBuf)],
    checkpoint: &Checkpoint,
    set: GtidSet,
    timeline: Timeline,
    plan: &mut Plan,
) -> Result<(), FetchError> {
    let lineage = |what: String| FetchError::Lineage {
        at: checkpoint.position,
        what,
        mend:
            "give the files that follow the checkpoint, or clone the tables again and start after the clone"
                .to_owned(),
    };
    if set.is_empty() {
        return Err(lineage(format!(
            "the position is one of server {}, and without GTIDs it cannot be found in the files of {}",
            timeline.server, plan.resume.timeline.server
        )));
    }
    for (file, path) in files.iter().rev() {
        let history = Peek::read(file, path).await?.history;
        if history.is_some_and(|history| history.missing_from(&set).is_empty()) {
            plan.resume.place = Some(Place { file: file.clone(), offset: Place::FIRST_OFFSET });
            plan.resume.executed = Some(set);
            plan.resume.timeline.number = timeline.number + 1;
            plan.skip.known = true;
            return Ok(());
        }
    }
    Err(lineage("the files begin after transactions that were not read yet".to_owned()))
}
