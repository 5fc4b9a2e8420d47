//! What is left after a crash or a flipped bit: whole transactions, or an error that says where. Never wrong data.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use support::*;
use tempfile::tempdir;
use tidemill_event::{Part, Remedy};
use tidemill_log::{From, Log, LogConfig, OpenError, ReadError, Writer};

/// Everything that the log of a directory gives, or the error with which it refuses.
fn read_all(config: LogConfig) -> Result<Vec<u64>, String> {
    let log = Log::open_with(config, Arc::new(QuickFiles)).map_err(|e| e.to_string())?;
    let mut reader = log.reader(From::Earliest).map_err(|e| e.to_string())?;
    let mut windows = vec![];
    while let Some(window) = reader.try_next().map_err(|e| e.to_string())? {
        assert_sound(&window);
        windows.push(window);
    }
    Ok(scns(&windows))
}

fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

/// A log as a crash leaves it: only its first window is known to be durable.
fn crashed(dir: &Path) -> PathBuf {
    let log = Log::open(config(dir)).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    writer.append(&window(10, &[20, 30])).unwrap();
    writer.append(&window(30, &[45])).unwrap();
    segments(dir).pop().unwrap()
}

#[test]
fn b10_a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let dir = tempdir().unwrap();
    let (whole, torn) = (dir.path().join("whole"), dir.path().join("torn"));
    let path = crashed(&whole);
    let bytes = fs::read(&path).unwrap();
    let last = bytes.len() - frame_lengths(&bytes).last().unwrap();
    for length in last..bytes.len() {
        copy_dir(&whole, &torn);
        let path = torn.join(path.file_name().unwrap());
        fs::write(&path, &bytes[..length]).unwrap();
        let log = Log::open_with(config(&torn), Arc::new(QuickFiles)).unwrap();
        assert_eq!(
            (end(&log), fs::metadata(&path).unwrap().len()),
            (Some(30), last as u64),
            "{length} bytes"
        );
        log.writer().unwrap().append(&window(30, &[45])).unwrap();
        assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), [10, 20, 30, 45]);
    }
}

#[test]
fn garbage_and_zeros_after_the_tail_are_cut() {
    let dir = tempdir().unwrap();
    let (whole, torn) = (dir.path().join("whole"), dir.path().join("torn"));
    let path = crashed(&whole);
    let bytes = fs::read(&path).unwrap();
    let mut dice = Dice(3);
    for length in [1, 15, 16, 17, 64, 4096] {
        for garbage in [vec![0u8; length], (0..length).map(|_| dice.below(256) as u8).collect()] {
            copy_dir(&whole, &torn);
            fs::write(torn.join(path.file_name().unwrap()), [&bytes[..], &garbage].concat()).unwrap();
            assert_eq!(read_all(config(&torn)), Ok(vec![10, 20, 30, 45]));
        }
    }
}

/// The lengths of a segment's frames, header record first.
fn frame_lengths(bytes: &[u8]) -> Vec<usize> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut lengths = vec![word(8)];
    let mut at = lengths[0];
    while at < bytes.len() {
        lengths.push(word(at));
        at += word(at);
    }
    lengths
}

/// Flips each byte of each segment in turn. What a reader gets then is the truth, or the beginning of it and an
/// error that names the file, or a log that ends earlier.
fn flip_every_byte(
    whole: &Path,
    damaged: &Path,
    truth: &[u64],
    check: impl Fn(&Path, &Result<Vec<u64>, String>),
) {
    let mut dice = Dice(1);
    for path in segments(whole) {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            copy_dir(whole, damaged);
            let path = damaged.join(path.file_name().unwrap());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << dice.below(8);
            fs::write(&path, flipped).unwrap();
            let read = read_all(config(damaged));
            if let Ok(read) = &read {
                assert!(truth.starts_with(read), "byte {at}: {read:?}");
            }
            check(&path, &read);
        }
    }
}

/// For what was durable: it is refused, and the message names the file.
#[test]
fn b19_every_flipped_byte_of_a_closed_log_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let whole = dir.path().join("whole");
    let log = Log::open(LogConfig { segment_bytes: 1, ..config(&whole) }).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10, 20])).unwrap();
    writer.append(&window(20, &[30])).unwrap();
    writer.append(&window(30, &[45])).unwrap();
    writer.close().unwrap();
    drop(log);
    assert_eq!(segments(&whole).len(), 3);
    flip_every_byte(&whole, &dir.path().join("damaged"), &[10, 20, 30, 45], |path, read| {
        let error = read.as_ref().unwrap_err();
        assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
        assert!(error.contains("is damaged at byte"), "{error}");
    });
}

/// For what no sync has confirmed: it is refused or cut, and what is left is true.
#[test]
fn b19_every_flipped_byte_of_a_crashed_log_gives_the_truth_or_less() {
    let dir = tempdir().unwrap();
    let whole = dir.path().join("whole");
    crashed(&whole);
    flip_every_byte(&whole, &dir.path().join("damaged"), &[10, 20, 30, 45], |path, read| match read {
        Ok(read) => assert!(!read.is_empty(), "the first window was durable"),
        Err(error) => assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}"),
    });
}

#[test]
fn damage_stays_an_error_and_readers_elsewhere_go_on() {
    let dir = tempdir().unwrap();
    let on_disk = LogConfig { memory_bytes: 0, segment_bytes: 1, ..config(dir.path()) };
    let log = Log::open(on_disk).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    let path = &segments(dir.path())[4];
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
    let mut reader = log.reader(From::Earliest).unwrap();
    for _ in 0..4 {
        assert_sound(&reader.try_next().unwrap().unwrap());
    }
    for _ in 0..3 {
        let error = reader.try_next().unwrap_err();
        assert!(matches!(&error, ReadError::Damaged(d) if d.path == *path && d.offset > 0), "{error}");
        assert_eq!(error.remedy(), Remedy::Fix);
    }
    assert_eq!(reader.position(), Some(at_scn(80)));
    assert_eq!(scns(&drain(&mut log.reader(From::After(at_scn(100))).unwrap())), tens(110, 200));
}

fn at_scn(scn: u64) -> tidemill_event::Position {
    at(1, scn)
}

#[test]
fn an_index_that_is_missing_damaged_or_foreign_is_made_again() {
    let dir = tempdir().unwrap();
    let small = LogConfig { memory_bytes: 0, segment_bytes: 2048, ..config(dir.path()) };
    let log = Log::open(small.clone()).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    writer.close().unwrap();
    drop(log);
    let paths = files(dir.path(), "idx");
    let kept: Vec<_> = paths.iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(paths.len() > 2);
    let spoil: [&dyn Fn(usize); 3] = [
        &|i| fs::remove_file(&paths[i]).unwrap(),
        &|i| fs::write(&paths[i], &kept[i][..kept[i].len() - 5]).unwrap(),
        &|i| fs::write(&paths[i], &kept[(i + 1) % paths.len()]).unwrap(),
    ];
    for spoil in spoil {
        (0..paths.len()).for_each(spoil);
        let log = Log::open(small.clone()).unwrap();
        for scn in (0..200).step_by(10) {
            let rest = scns(&drain(&mut log.reader(From::After(at_scn(scn))).unwrap()));
            assert_eq!(rest, tens(scn + 10, 200));
        }
        let again: Vec<_> = paths.iter().map(|p| fs::read(p).unwrap()).collect();
        assert!(again == kept, "the indexes are those that were written");
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let dir = tempdir().unwrap();
    let log = Log::open(LogConfig { segment_bytes: 1, ..config(dir.path()) }).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    writer.close().unwrap();
    drop(log);
    let paths = segments(dir.path());
    let kept = fs::read(&paths[5]).unwrap();
    fs::remove_file(&paths[5]).unwrap();
    let error = Log::open(config(dir.path())).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged(d) if d.path == paths[6]), "{error}");
    // Restored, it is read; removed with all later ones, as the message says, the log ends earlier.
    fs::write(&paths[5], kept).unwrap();
    assert_eq!(read_all(config(dir.path())), Ok(tens(10, 200)));
    paths[5..].iter().for_each(|p| fs::remove_file(p).unwrap());
    assert_eq!(read_all(config(dir.path())), Ok(tens(10, 100)));
}

/// The last synced place is a byte offset: what lies before it and is gone was not torn by a crash.
#[test]
fn a_durable_end_that_is_gone_is_damage() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    writer.close().unwrap();
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let last = bytes.len() - frame_lengths(&bytes).last().unwrap();
    for length in [bytes.len() - 1, last, last - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = Log::open(config(dir.path())).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged(d) if d.path == path), "{error}");
    }
}

const CHILD: &str = "TIDEMILL_LOG_TEST_CHILD";

/// Appends for ever, whole transactions, fragments and idle times, and says what was acknowledged.
fn append_for_ever(directory: &Path) {
    let log =
        Log::open(LogConfig { segment_bytes: 20_000, memory_bytes: 10_000, ..config(directory) }).unwrap();
    let mut writer = log.writer().unwrap();
    let mut last = end(&log).unwrap_or(0);
    loop {
        last = append_one(&mut writer, last);
        println!("ack {last}");
        if last.is_multiple_of(170) {
            writer.sync().unwrap();
        }
    }
}

/// The next transaction: its SCN is the next multiple of ten.
fn append_one(writer: &mut Writer, last: u64) -> u64 {
    let next = last / 10 * 10 + 10;
    match next / 10 % 4 {
        0 => {
            for (part, offset) in [(Part::First, 0), (Part::Middle, 2), (Part::Last, 4)] {
                writer.append(&fragment(last, next, part, offset)).unwrap();
            }
        }
        1 => {
            writer.append(&idle(last, next - 1)).unwrap();
            writer.append(&window(next - 1, &[next])).unwrap();
        }
        _ => {
            writer.append(&window(last, &[next])).unwrap();
        }
    }
    next
}

/// After kill -9 at any moment nothing acknowledged is lost and nothing torn is shown.
#[test]
fn b10_a_killed_writer_loses_nothing_acknowledged() {
    if let Some(directory) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&directory));
    }
    let dir = tempdir().unwrap();
    let mut dice = Dice(20);
    for round in 0..20 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["b10_a_killed_writer_loses_nothing_acknowledged", "--exact", "--nocapture"]);
        let mut child = command.env(CHILD, dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acks = lines.filter_map(|line| line.strip_prefix("ack ").map(|n| n.parse::<u64>().unwrap()));
        let mut acknowledged = 0;
        for _ in 0..1 + dice.below(120) {
            acknowledged = acks.next().unwrap();
        }
        child.kill().unwrap();
        acknowledged = acks.last().unwrap_or(acknowledged);
        child.wait().unwrap();
        let log = Log::open(config(dir.path())).unwrap();
        let stored = scns(&drain(&mut log.reader(From::Earliest).unwrap()));
        assert!(stored.last() >= Some(&acknowledged), "round {round}: {acknowledged} was acknowledged");
        assert_eq!(stored, tens(10, *stored.last().unwrap()), "round {round}");
    }
}
