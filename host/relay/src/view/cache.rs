//! What was evaluated and written for one subscriber and is kept for the others, up to so many bytes over all views. The
//! oldest goes first, unless somebody has asked for it since it was last passed over.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_event::Window;
use tokio::sync::OnceCell;

use crate::format::Chunk;
use crate::{Format, Problem};

/// One window of one view. A window of a log never changes, so that its place names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    view: u64,
    timeline: u32,
    after: u64,
    upto: u64,
    /// Parts of one transaction share a span.
    first_scn: u64,
    change_offset: u64,
}

impl Key {
    pub(crate) fn of(view: u64, window: &Window) -> Key {
        let first = window.transactions.first();
        Key {
            view,
            timeline: window.timeline.number,
            after: window.span.after.0,
            upto: window.span.upto.0,
            first_scn: first.map_or(0, |t| t.scn.0),
            change_offset: first.map_or(0, |t| t.change_offset),
        }
    }
}

/// What is done once: whoever comes first does it, the others wait for it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) evaluated: OnceCell<Result<Arc<Window>, Problem>>,
    chunks: [OnceCell<Result<Arc<Chunk>, Problem>>; 4],
    was_used: AtomicBool,
}

impl Entry {
    pub(crate) fn chunk(&self, format: Format) -> &OnceCell<Result<Arc<Chunk>, Problem>> {
        &self.chunks[format as usize]
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, (Arc<Entry>, usize)>,
    /// In the order of their coming; those of views that are gone stay until they are met.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// The entry of that key, made if it is not there.
    pub(crate) fn entry(&self, key: Key) -> Arc<Entry> {
        let mut state = self.state();
        if let Some((entry, _)) = state.entries.get(&key) {
            entry.was_used.store(true, Ordering::Relaxed);
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry::default());
        state.entries.insert(key, (Arc::clone(&entry), 0));
        state.order.push_back(key);
        entry
    }

    /// An entry has become larger. What is too much goes.
    pub(crate) fn grew(&self, key: Key, entry: &Arc<Entry>, bytes: usize) {
        let mut state = self.state();
        match state.entries.get_mut(&key) {
            Some((kept, size)) if Arc::ptr_eq(kept, entry) => *size += bytes,
            _ => return,
        }
        state.bytes += bytes;
        // Each is passed over once at most.
        let mut chances = state.order.len();
        while state.bytes > self.bytes_max
            && let Some(oldest) = state.order.pop_front()
        {
            let spared =
                state.entries.get(&oldest).is_some_and(|(e, _)| e.was_used.swap(false, Ordering::Relaxed));
            if spared && chances > 0 {
                chances -= 1;
                state.order.push_back(oldest);
            } else {
                state.remove(&oldest);
            }
        }
    }

    /// Forgets an entry, so that the next who asks tries again.
    pub(crate) fn forget(&self, key: Key, entry: &Arc<Entry>) {
        let mut state = self.state();
        if state.entries.get(&key).is_some_and(|(kept, _)| Arc::ptr_eq(kept, entry)) {
            state.remove(&key);
            state.order.retain(|kept| *kept != key);
        }
    }

    /// Forgets everything of a view.
    pub(crate) fn forget_view(&self, view: u64) {
        let mut state = self.state();
        let (gone, kept) = std::mem::take(&mut state.order).into_iter().partition(|key| key.view == view);
        state.order = kept;
        let gone: VecDeque<Key> = gone;
        gone.iter().for_each(|key| state.remove(key));
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some((_, bytes)) = self.entries.remove(key) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(view: u64, upto: u64) -> Key {
        Key { view, timeline: 1, after: 0, upto, first_scn: upto, change_offset: 0 }
    }

    #[test]
    fn the_oldest_that_nobody_asked_for_goes_first() {
        let cache = Cache::new(30);
        for upto in 1..=3 {
            let entry = cache.entry(key(1, upto));
            cache.grew(key(1, upto), &entry, 10);
        }
        let first = cache.entry(key(1, 1));
        let fourth = cache.entry(key(1, 4));
        cache.grew(key(1, 4), &fourth, 10);
        assert_eq!(cache.bytes(), 30);
        assert!(Arc::ptr_eq(&first, &cache.entry(key(1, 1))), "it was asked for");
        let again = cache.entry(key(1, 2));
        assert_eq!(Arc::strong_count(&again), 2, "it went and was made again");
        assert!(again.evaluated.get().is_none());
    }

    #[test]
    fn what_is_larger_than_everything_is_not_kept() {
        let cache = Cache::new(30);
        let entry = cache.entry(key(1, 1));
        cache.grew(key(1, 1), &entry, 31);
        assert_eq!(cache.bytes(), 0);
        cache.grew(key(1, 1), &entry, 10);
        assert_eq!(cache.bytes(), 0, "what was forgotten does not count");
    }

    #[test]
    fn a_view_that_is_gone_leaves_nothing() {
        let cache = Cache::new(30);
        for view in 1..=2 {
            let entry = cache.entry(key(view, 1));
            cache.grew(key(view, 1), &entry, 10);
        }
        cache.forget_view(1);
        assert_eq!((cache.bytes(), cache.state().order.len()), (10, 1));
    }
}
