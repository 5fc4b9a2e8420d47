//! Consumers: what is done with the changes, transaction by transaction, in commit order.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::bindings::consumer::exports::tidemill::guest::change_consumer as contract;
use crate::row::Row;
use crate::{Error, TableDef, config};

pub use contract::{
    Batch as RawBatch, ChangeSet, Failure, Happening, Interest, Invalidation, Part, Phase, Renaming,
    SchemaChange, TableName,
};

impl From<Error> for Failure {
    /// Nothing of the batch was done.
    fn from(cause: Error) -> Self {
        Failure { done: 0, cause }
    }
}

impl From<crate::NotSetUp> for Failure {
    fn from(cause: crate::NotSetUp) -> Self {
        Error::from(cause).into()
    }
}

/// The columns that a consumer wants of a table, and what it keeps for that table's changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interested<P> {
    /// Ordinals of the columns of after-images.
    pub after: Vec<u32>,
    /// Ordinals of the columns of before-images.
    pub before: Vec<u32>,
    /// Given back with every change of the table.
    pub plan: P,
}

/// A consumer. It keeps nothing between calls that it cannot rebuild: what has to last is in
/// [`state`](crate::state).
pub trait Consumer: Sized + 'static {
    /// Read from the configuration's JSON.
    type Config: DeserializeOwned;
    /// What is prepared once a table.
    type Plan: 'static;
    /// Whether it is told what happened to tables without a change of each row ([`Transaction::items`]). One that is not
    /// is stopped by what would make its copy of a table wrong.
    const TAKES_EVENTS: bool = false;
    /// Called once, first.
    ///
    /// # Errors
    /// `config`.
    fn setup(config: Self::Config) -> Result<Self, Error>;
    /// Called once a table, before its changes. `None`: the table is not wanted.
    ///
    /// # Errors
    /// `config` or `unsupported`.
    fn plan(&self, table: &TableDef) -> Result<Option<Interested<Self::Plan>>, Error>;
    /// Called with each batch.
    ///
    /// # Errors
    /// What stopped it, and how many transactions were done; state and output are those of exactly
    /// these.
    fn process(&mut self, batch: &Batch<'_, Self::Plan>) -> Result<(), Failure>;
    /// Called before an orderly stop.
    fn close(&mut self) {}
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// a new row
    Insert,
    /// a changed row
    Update,
    /// a row less
    Delete,
    /// a row of a snapshot
    Snapshot,
}

impl Op {
    fn of(byte: u8) -> Option<Self> {
        [Op::Insert, Op::Update, Op::Delete, Op::Snapshot].get(usize::from(byte)).copied()
    }
}

/// A batch: whole transactions, or parts of large ones.
#[derive(Debug)]
pub struct Batch<'a, P> {
    raw: &'a contract::Batch,
    /// One a change-set.
    plans: Vec<&'a P>,
    /// For each place, its change-set and the row in it.
    order: Vec<(u32, u32)>,
}

/// One transaction, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a, P> {
    batch: &'a Batch<'a, P>,
    raw: &'a contract::Transaction,
    /// How many transactions of the batch came before it.
    pub index: u32,
    first: usize,
}

/// One change of one row.
#[derive(Debug)]
pub struct Change<'a, P> {
    /// What `plan` prepared for its table.
    pub plan: &'a P,
    /// Which of [`Batch::plans`] that is.
    pub set: usize,
    /// What it does.
    pub op: Op,
    /// Its place in the batch.
    pub place: u32,
    /// The row as it is: not for a delete.
    pub after: Option<Row<'a>>,
    /// The row as it was: for updates and deletes.
    pub before: Option<Row<'a>>,
}

/// Something that happened to a table or to several.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its place in the batch, among the changes.
    pub place: u32,
    /// What happened.
    pub what: &'a Happening,
}

/// A change, or something that happened.
#[derive(Debug)]
pub enum Item<'a, P> {
    /// A change of one row.
    Change(Change<'a, P>),
    /// Something that happened to a table; only where [`Consumer::TAKES_EVENTS`] is set.
    Event(Event<'a>),
}

impl TableName {
    /// `schema.name`
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// In [`Batch::order`]: not a change-set, but an event.
const EVENT: u32 = u32::MAX - 1;
/// In [`Batch::order`]: nothing came for that place.
const NOTHING: u32 = u32::MAX;

impl<'a, P> Batch<'a, P> {
    fn new(raw: &'a contract::Batch, planned: &'a BTreeMap<u32, P>) -> Result<Self, Error> {
        let plan = |set: &ChangeSet| planned.get(&set.table).ok_or_else(|| crate::not_planned(set.table));
        let plans = raw.changes.iter().map(plan).collect::<Result<_, _>>()?;
        let total: usize = raw.transactions.iter().map(|transaction| transaction.changes as usize).sum();
        let broken = || Error::Fatal("the batch's places are not those of its transactions".to_owned());
        let mut order = vec![(NOTHING, 0); total];
        for (number, set) in (0u32..).zip(&raw.changes) {
            if set.places.len() != set.ops.len() || set.ops.iter().any(|op| Op::of(*op).is_none()) {
                return Err(broken());
            }
            for (row, place) in (0u32..).zip(&set.places) {
                *order.get_mut(*place as usize).ok_or_else(broken)? = (number, row);
            }
        }
        for (index, event) in (0u32..).zip(&raw.events) {
            *order.get_mut(event.place as usize).ok_or_else(broken)? = (EVENT, index);
        }
        if order.iter().any(|(number, _)| *number == NOTHING) {
            return Err(broken());
        }
        Ok(Batch { raw, plans, order })
    }

    /// Where the subscription is.
    pub fn phase(&self) -> Phase {
        self.raw.phase
    }

    /// How many changes and events it has.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it has neither change nor event.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The plans of the tables that have changes here, one a change-set.
    pub fn plans(&self) -> &[&'a P] {
        &self.plans
    }

    /// The transactions, in commit order.
    pub fn transactions(&self) -> impl Iterator<Item = Transaction<'_, P>> {
        (0u32..).zip(&self.raw.transactions).scan(0, |first, (index, raw)| {
            let transaction = Transaction { batch: self, raw, index, first: *first };
            *first += raw.changes as usize;
            Some(transaction)
        })
    }

    fn item(&self, place: usize) -> Item<'_, P> {
        let (number, row) = self.order[place];
        if number == EVENT {
            return Item::Event(Event { place: place as u32, what: &self.raw.events[row as usize].what });
        }
        let set = &self.raw.changes[number as usize];
        let op = Op::of(set.ops[row as usize]).expect("checked when the batch came");
        let image = |columns| Row::new(columns, row as usize);
        Item::Change(Change {
            plan: self.plans[number as usize],
            set: number as usize,
            op,
            place: place as u32,
            after: (op != Op::Delete).then(|| image(&set.after)),
            before: matches!(op, Op::Update | Op::Delete).then(|| image(&set.before)),
        })
    }
}

impl<'a, P> Transaction<'a, P> {
    /// The same in every redelivery, and in every part.
    pub fn id(&self) -> &'a str {
        &self.raw.id
    }

    /// Its place on the source's clock.
    pub fn scn(&self) -> u64 {
        self.raw.scn
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn committed(&self) -> i64 {
        self.raw.committed
    }

    /// Whether this is all of it.
    pub fn part(&self) -> Part {
        self.raw.part
    }

    /// Whether more of it follows in another batch.
    pub fn goes_on(&self) -> bool {
        matches!(self.raw.part, Part::First | Part::Middle)
    }

    /// Whether an earlier batch had its beginning.
    pub fn has_begun(&self) -> bool {
        matches!(self.raw.part, Part::Middle | Part::Last)
    }

    /// Its changes and what happened among them, in the order of its statements.
    pub fn items(&self) -> impl Iterator<Item = Item<'a, P>> {
        let batch = self.batch;
        (self.first..self.first + self.raw.changes as usize).map(|place| batch.item(place))
    }

    /// Its changes, in the order of its statements.
    pub fn changes(&self) -> impl Iterator<Item = Change<'a, P>> {
        self.items().filter_map(|item| match item {
            Item::Change(change) => Some(change),
            Item::Event(_) => None,
        })
    }
}

/// One instance of a consumer with its tables: what the export macro calls, and native tests too.
pub struct Running<C: Consumer> {
    consumer: C,
    plans: BTreeMap<u32, C::Plan>,
}

impl<C: Consumer> Running<C> {
    /// `lifecycle.setup`
    ///
    /// # Errors
    /// The guest's own.
    pub fn setup(config: &str) -> Result<Self, Error> {
        Ok(Running { consumer: C::setup(config::read(config)?)?, plans: BTreeMap::new() })
    }

    /// `change-consumer.takes-events`
    #[must_use]
    pub fn takes_events(&self) -> bool {
        C::TAKES_EVENTS
    }

    /// `change-consumer.plan`
    ///
    /// # Errors
    /// The guest's own.
    pub fn plan(&mut self, table: &TableDef) -> Result<Option<Interest>, Error> {
        Ok(self.consumer.plan(table)?.map(|Interested { after, before, plan }| {
            self.plans.insert(table.id, plan);
            Interest { after, before }
        }))
    }

    /// `change-consumer.process`
    ///
    /// # Errors
    /// The guest's own; `fatal` for a batch that is not what the contract says.
    pub fn process(&mut self, batch: &contract::Batch) -> Result<(), Failure> {
        let batch = Batch::new(batch, &self.plans)?;
        self.consumer.process(&batch)
    }

    /// `change-consumer.close`
    pub fn close(&mut self) {
        self.consumer.close();
    }
}

/// Exports a [`Consumer`] as the component's `lifecycle` and `change-consumer`.
#[macro_export]
macro_rules! export_consumer {
    ($guest:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::consumer::exports::tidemill::guest::change_consumer;
            $crate::running!($crate::consumer::Running<$guest>);
            impl change_consumer::Guest for Component {
                fn takes_events() -> bool {
                    // The host asks after `setup`, and without one there is nothing to take.
                    running(|guest| Ok::<_, $crate::Error>(guest.takes_events())).unwrap_or(false)
                }
                fn plan(table: $crate::TableDef) -> Result<Option<change_consumer::Interest>, $crate::Error> {
                    running(|guest| guest.plan(&table))
                }
                fn process(input: change_consumer::Batch) -> Result<(), change_consumer::Failure> {
                    running(|guest| guest.process(&input))
                }
                fn close() {
                    let _: Result<(), $crate::Error> = running(|guest| {
                        guest.close();
                        Ok(())
                    });
                }
            }
    $crate::bindings::consumer::export_consumer!(Component with_types_in $crate::bindings::consumer);
        };
        // Natively nothing is exported; the guest still counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> Result<$crate::consumer::Running<$guest>, $crate::Error> =
            $crate::consumer::Running::<$guest>::setup;
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Batch, Consumer, Failure, Happening, Interested, Item, Op, Part, Phase, Running};
    use crate::config::NoConfig;
    use crate::testing::{self, Deliveries};
    use crate::{Error, TableDef, build};

    /// Writes down what it gets.
    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Consumer for Notes {
        type Config = NoConfig;
        type Plan = String;
        fn setup(_: NoConfig) -> Result<Self, Error> {
            Ok(Notes::default())
        }
        fn plan(&self, table: &TableDef) -> Result<Option<Interested<String>>, Error> {
            Ok(Some(Interested {
                after: table.ordinals(),
                before: table.key.clone(),
                plan: table.name.clone(),
            }))
        }
        fn process(&mut self, batch: &Batch<'_, String>) -> Result<(), Failure> {
            for transaction in batch.transactions() {
                for item in transaction.items() {
                    let change = match item {
                        Item::Change(change) => change,
                        Item::Event(event) => {
                            self.0.push(format!("{} event {}", transaction.id(), event.place));
                            continue;
                        }
                    };
                    let after = change.after.and_then(|row| row.get::<i64>(0));
                    let before = change.before.and_then(|row| row.get::<i64>(0));
                    self.0.push(format!(
                        "{} {} {:?} {after:?} {before:?}",
                        transaction.id(),
                        change.plan,
                        change.op
                    ));
                }
            }
            Ok(())
        }
    }

    #[test]
    fn changes_come_in_commit_order_over_all_tables() {
        let orders = testing::table("shop.orders", &[("id", "int64")], &["id"]);
        let items = TableDef { id: 2, ..testing::table("shop.items", &[("id", "int64")], &["id"]) };
        let mut notes = Running::<Notes>::setup("").unwrap();
        notes.plan(&orders).unwrap();
        notes.plan(&items).unwrap();
        let ints = |values: &[i64]| vec![build::Ints::of(values)];
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries.begin("t1", Part::Whole).changes(&orders, &[0, 1], ints(&[1, 2]), ints(&[0, 1]));
        deliveries.begin("t2", Part::Whole).changes(&items, &[2], ints(&[0]), ints(&[9]));
        let mut batch = deliveries.batch();
        // The second transaction also changes orders: one set, two runs of places.
        batch.transactions[1].changes = 2;
        batch.changes[0].places = vec![0, 1, 3];
        batch.changes[0].ops = vec![0, 1, 3];
        batch.changes[0].after = ints(&[1, 2, 3]);
        batch.changes[0].before = ints(&[0, 1, 0]);
        notes.process(&batch).unwrap();
        assert_eq!(
            notes.consumer.0,
            [
                "t1 orders Insert Some(1) None",
                "t1 orders Update Some(2) Some(1)",
                "t2 items Delete None Some(9)",
                "t2 orders Snapshot Some(3) None",
            ]
        );
    }

    #[test]
    fn what_happened_comes_in_its_place_among_the_changes() {
        let orders = testing::table("shop.orders", &[("id", "int64")], &["id"]);
        let mut notes = Running::<Notes>::setup("").unwrap();
        notes.plan(&orders).unwrap();
        let ints = |values: &[i64]| vec![build::Ints::of(values)];
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries
            .begin("t1", Part::Whole)
            .changes(&orders, &[0], ints(&[1]), ints(&[0]))
            .event(Happening::Truncated(testing::name("shop.orders")))
            .changes(&orders, &[0], ints(&[2]), ints(&[0]));
        notes.process(&deliveries.batch()).unwrap();
        let inserted = |id| format!("t1 orders Insert Some({id}) None");
        assert_eq!(notes.consumer.0, [inserted(1), "t1 event 1".to_owned(), inserted(2)]);
    }

    #[test]
    fn a_batch_that_does_not_add_up_is_refused() {
        let orders = testing::table("shop.orders", &[("id", "int64")], &["id"]);
        let mut notes = Running::<Notes>::setup("").unwrap();
        notes.plan(&orders).unwrap();
        let whole = || {
            let mut deliveries = Deliveries::new(Phase::Live);
            let columns = vec![build::Ints::of(&[1, 2])];
            deliveries.begin("t1", Part::Whole).changes(
                &orders,
                &[0, 0],
                columns,
                vec![build::Ints::of(&[0, 0])],
            );
            deliveries.batch()
        };
        let mut refused = |change: fn(&mut super::RawBatch)| {
            let mut batch = whole();
            change(&mut batch);
            matches!(notes.process(&batch), Err(Failure { done: 0, cause: Error::Fatal(_) }))
        };
        assert!(refused(|batch| batch.changes[0].places[1] = 0));
        assert!(refused(|batch| batch.changes[0].places[1] = 2));
        assert!(refused(|batch| batch.transactions[0].changes = 3));
        assert!(refused(|batch| batch.changes[0].ops[0] = 9));
        assert!(refused(|batch| batch.changes[0].table = 7));
        assert!(!refused(|_| ()));
        assert_eq!(Op::of(4), None);
    }
}
