//! A projection that misbehaves as its configuration says: `{"do": "wrong-offsets", "k": 2}`.
//!
//! It plans to give every table one computed column more, the text column `evil`, and its answer for that
//! column is wrong. What it does in `project` it does from the k-th call on; before that, `evil` is "ok"
//! in every row. It is never shipped.

use serde::Deserialize;
use tidemill_guest::host::{self, Level};
use tidemill_guest::projection::{Output, Projected, Projection};
use tidemill_guest::{Column, ColumnDef, Error, Physical, RowError, Rows, TableDef, Values, Varlen, build};

/// What the configuration can ask for under `do`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Offsets that go down.
    WrongOffsets,
    /// The last offset is past the data.
    OffsetsPastData,
    /// One offset too few.
    ShortOffsets,
    /// Text that is not UTF-8.
    BadUtf8,
    /// A character cut in two by an offset.
    CutCharacter,
    /// Integers where text was planned.
    WrongLayout,
    /// One row too few.
    ShortColumn,
    /// One row too many.
    LongColumn,
    /// No column at all.
    NoColumn,
    /// A column more than was planned.
    ExtraColumn,
    /// A bitmap of one byte, whatever the batch.
    ShortBitmap,
    /// 48 MiB of text.
    HugeOutput,
    /// 100 000 lines of log in one call.
    LogFlood,
    /// `project` never ends.
    Spin,
    /// `project` panics.
    Panic,
    /// `project` answers `rejected` for row 0.
    ErrorRejected,
    /// The plan keeps a column that is not there.
    PlanSourceOutOfRange,
    /// The plan asks for a column that is not there.
    PlanInputOutOfRange,
    /// The plan gives two columns one name.
    PlanSameName,
    /// The plan leaves the key out.
    PlanWithoutKey,
}

/// The configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "do")]
    deed: Deed,
    #[serde(default = "first")]
    k: u32,
}

fn first() -> u32 {
    1
}

/// The projection.
#[derive(Debug)]
pub struct Evil {
    config: Config,
    calls: std::cell::Cell<u32>,
}

impl Projection for Evil {
    type Config = Config;
    type Plan = ();

    fn setup(config: Config) -> Result<Self, Error> {
        Ok(Evil { config, calls: std::cell::Cell::new(0) })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Projected<()>>, Error> {
        let mut output: Vec<Output> =
            table.ordinals().iter().map(|ordinal| Output::keep(table, *ordinal)).collect();
        let mut input = vec![0];
        let mut def = ColumnDef {
            name: "evil".to_owned(),
            logical: "text".to_owned(),
            physical: Physical::Text,
            source_type: "text".to_owned(),
            nullable: true,
        };
        match self.config.deed {
            Deed::PlanSourceOutOfRange => output[0].source = Some(u32::MAX),
            Deed::PlanInputOutOfRange => input = vec![u32::MAX],
            Deed::PlanSameName => def.name.clone_from(&table.columns[0].name),
            Deed::PlanWithoutKey => {
                output.retain(|column| !column.source.is_some_and(|ordinal| table.is_key(ordinal)))
            }
            _ => {}
        }
        output.push(Output::computed(def));
        Ok(Some(Projected { input, output, plan: () }))
    }

    fn project(&self, _: &(), rows: &Rows) -> Result<Vec<Column>, Error> {
        self.calls.set(self.calls.get() + 1);
        let right = build::Texts::of(&vec!["ok"; rows.count as usize]);
        if self.calls.get() < self.config.k {
            Ok(vec![right])
        } else {
            commit(self.config.deed, rows.count as usize, right)
        }
    }
}

/// More than any batch may answer.
const HUGE_BYTES: usize = 48 << 20;

/// Does it. What ends in an answer gives one that is wrong.
fn commit(deed: Deed, count: usize, right: Column) -> Result<Vec<Column>, Error> {
    let answer = match deed {
        Deed::WrongOffsets => text(falling(count), vec![b'x'; count * 2]),
        Deed::OffsetsPastData => text(even(count, 2), vec![b'x'; count]),
        Deed::ShortOffsets => text(even(count.saturating_sub(1), 1), vec![b'x'; count.saturating_sub(1)]),
        Deed::BadUtf8 => text(even(count, 2), [0xc3, 0x28].repeat(count)),
        Deed::CutCharacter => text(cut(count), "ä".repeat(count).into_bytes()),
        Deed::WrongLayout => build::Ints::of(&vec![7; count]),
        Deed::ShortColumn => build::Texts::of(&vec!["ok"; count.saturating_sub(1)]),
        Deed::LongColumn => build::Texts::of(&vec!["ok"; count + 1]),
        Deed::NoColumn => return Ok(Vec::new()),
        Deed::ExtraColumn => return Ok(vec![right.clone(), right]),
        Deed::ShortBitmap => Column { valid: vec![0], ..right },
        Deed::HugeOutput => text(even(count, (HUGE_BYTES / count.max(1)) as u32), vec![b'x'; HUGE_BYTES]),
        Deed::LogFlood => {
            (0..100_000).for_each(|number| host::log(Level::Error, &format!("flood {number}")));
            right
        }
        Deed::Spin => loop {
            std::hint::black_box(());
        },
        Deed::Panic => panic!("evil-projection was asked to panic"),
        Deed::ErrorRejected => {
            return Err(Error::Rejected(vec![RowError { row: 0, message: "asked to reject it".to_owned() }]));
        }
        Deed::PlanSourceOutOfRange
        | Deed::PlanInputOutOfRange
        | Deed::PlanSameName
        | Deed::PlanWithoutKey => right,
    };
    Ok(vec![answer])
}

fn text(offsets: Vec<u32>, data: Vec<u8>) -> Column {
    Column::full(Values::Text(Varlen { offsets, data }))
}

/// Every value has that many bytes.
fn even(count: usize, bytes: u32) -> Vec<u32> {
    (0..).step_by(bytes as usize).take(count + 1).collect()
}

/// Right, but for one step back in the middle; with one row, a first offset that is not 0.
fn falling(count: usize) -> Vec<u32> {
    let mut offsets = even(count, 2);
    match count {
        0 | 1 => offsets[0] = 1,
        _ => offsets[count / 2] = u32::MAX,
    }
    offsets
}

/// Two-byte characters, with the first boundary inside one; with one row, the last.
fn cut(count: usize) -> Vec<u32> {
    let mut offsets = even(count, 2);
    if let Some(boundary) = offsets.get_mut(1) {
        *boundary -= 1;
    }
    offsets
}

tidemill_guest::export_projection!(Evil);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Evil;
    use tidemill_guest::projection::Running;
    use tidemill_guest::{Column, Values, build, testing};

    fn answer(deed: &str) -> Vec<Column> {
        let table = testing::table("shop.orders", &[("id", "int64")], &["id"]);
        let mut evil = Running::<Evil>::setup(&format!(r#"{{"do":"{deed}","k":2}}"#)).unwrap();
        assert_eq!(evil.plan(&table).unwrap().unwrap().output.len(), 2);
        let rows = testing::rows(&table, vec![build::Ints::of(&[1, 2, 3])]);
        assert_eq!(evil.project(&rows).unwrap(), [build::Texts::of(&["ok"; 3])]);
        evil.project(&rows).unwrap()
    }

    fn offsets(columns: &[Column]) -> &[u32] {
        let Values::Text(runs) = &columns[0].values else { panic!("text") };
        &runs.offsets
    }

    #[test]
    fn answers_are_wrong_in_the_way_they_are_named() {
        assert_eq!(offsets(&answer("wrong-offsets")), [0, u32::MAX, 4, 6]);
        assert_eq!(offsets(&answer("offsets-past-data")), [0, 2, 4, 6]);
        assert_eq!(offsets(&answer("short-offsets")), [0, 1, 2]);
        assert_eq!(offsets(&answer("cut-character")), [0, 1, 4, 6]);
        assert_eq!(answer("short-column")[0].len(), 2);
        assert_eq!(answer("long-column")[0].len(), 4);
        assert_eq!((answer("no-column").len(), answer("extra-column").len()), (0, 2));
        let Values::Text(runs) = &answer("bad-utf8")[0].values else { panic!("text") };
        assert!(std::str::from_utf8(&runs.data).is_err());
    }
}
