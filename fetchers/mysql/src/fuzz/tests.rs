//! A bounded run of every target on any toolchain: its corpus, then seeded mutations of it, with a limit on the memory
//! that one input may take. An input that fails is written to a file, whose path the failure says.
//!
//! `TIDEMILL_FUZZ_SEED=N` begins with other mutations, `TIDEMILL_FUZZ_ROUNDS=N` makes so many times as many, and
//! `TIDEMILL_FUZZ_INPUT=PATH` runs that file alone, through the target that the test is named by.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

/// What one input may take at once. The largest that a mutation grows to is 64 KiB.
const MEMORY_BYTES_MAX: isize = 64 << 20;
const INPUT_BYTES_MAX: usize = 64 << 10;
const MUTATIONS: u64 = 30_000;
const CORPUS_BYTES_MAX: u64 = 1 << 20;

thread_local! {
    /// Bytes that this thread holds, and the most that it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no counter any more, and nothing to say.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain cell that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The most that the call held beyond what was held before.
fn memory_of(call: impl FnOnce()) -> isize {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    call();
    HELD.with(|held| held.get().1) - before
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder().join("corpus").join(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// SplitMix64: a seed gives the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Numbers at which lengths, signs and widths change.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    250,
    251,
    252,
    254,
    255,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let length = random.below((input.len() - at).min(64) + 1);
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 if at < input.len() => input[at] = input[at].wrapping_add(random.below(17) as u8).wrapping_sub(8),
        3 | 4 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            input.iter_mut().skip(at).zip(&edge[..width]).for_each(|(byte, edge)| *byte = *edge);
        }
        5 => drop(input.drain(at..at + length)),
        6 => {
            let copy = input[at..at + length].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        7 => {
            let from = random.below(other.len() + 1);
            let until = from + random.below((other.len() - from).min(256) + 1);
            input.splice(at..at, other[from..until].iter().copied());
        }
        _ => input.truncate(at),
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Runs one input; what is wrong with it, if anything is.
fn fault(target: Target, input: &[u8]) -> Option<String> {
    let mut memory = 0;
    let ended = catch_unwind(AssertUnwindSafe(|| memory = memory_of(|| target(input))));
    match ended {
        Err(_) => Some("it panics".to_owned()),
        Ok(()) if memory > MEMORY_BYTES_MAX => Some(format!("it takes {} MiB", memory >> 20)),
        Ok(()) => None,
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn check(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).unwrap();
    let Some(fault) = fault(*target, input) else { return };
    let path = std::env::temp_dir().join(format!("tidemill-fuzz-{name}-{:08x}", crc32fast::hash(input)));
    std::fs::write(&path, input).unwrap();
    panic!("{fault}; TIDEMILL_FUZZ_INPUT={} gives it again", path.display());
}

fn run(name: &str) {
    if let Some(path) = std::env::var_os("TIDEMILL_FUZZ_INPUT") {
        return check(name, &std::fs::read(path).unwrap());
    }
    let corpus = corpus(name);
    corpus.iter().for_each(|input| check(name, input));
    let mut random = Random(number("TIDEMILL_FUZZ_SEED", 7));
    for _ in 0..MUTATIONS * number("TIDEMILL_FUZZ_ROUNDS", 1) {
        let mut input = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())];
        for _ in 0..=random.below(4) {
            mutate(&mut input, other, &mut random);
        }
        check(name, &input);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// One test a target, named by it.
        mod any_bytes_are_read_or_refused {
            $(#[test]
            fn $name() {
                super::run(stringify!($name));
            })*
        }
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets!(event control gtid_set payload compressed ddl table_map rows json json_difference decimal temporal charset stream);

/// Names in a folder of `fuzz/`, without their extensions.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_file_a_corpus_and_a_test() {
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(names(&folder().join("fuzz_targets")), targets);
    assert_eq!(names(&folder().join("corpus")), targets);
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(tested, targets);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    assert!(targets.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
}

#[test]
fn the_corpus_is_small_and_no_target_is_without_one() {
    let mut total = 0;
    for (name, _) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        total += corpus.iter().map(|input| input.len() as u64).sum::<u64>();
    }
    assert!(total <= CORPUS_BYTES_MAX, "{total} bytes; minimise it with cargo fuzz cmin");
}

#[test]
fn a_panic_and_a_flood_of_memory_are_faults() {
    assert_eq!(fault(|_| (), &[]), None);
    assert_eq!(fault(|data| assert!(data.is_empty()), &[1]), Some("it panics".to_owned()));
    let flood = fault(|data| drop(vec![1u8; data.len() << 27]), &[1]);
    assert_eq!(flood, Some("it takes 128 MiB".to_owned()));
}
