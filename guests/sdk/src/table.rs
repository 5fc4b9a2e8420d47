//! Tables as a plan sees them: columns found by name, types read, errors that tell how to mend.

use crate::{ColumnDef, Error, Logical, Pattern, TableDef};

impl TableDef {
    /// The table's name with its schema: `shop.orders`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether a pattern `schema.table` names it.
    pub fn is_named_by(&self, pattern: &Pattern) -> bool {
        pattern.matches(&[&self.schema, &self.name])
    }

    /// The ordinal of the column of that name.
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        let found = self.columns.iter().position(|column| column.name == name)?;
        Some(u32::try_from(found).expect("a table has fewer columns than u32"))
    }

    /// The ordinal and definition of the column of that name.
    ///
    /// # Errors
    /// `unsupported`, with the columns that there are.
    pub fn column(&self, name: &str) -> Result<(u32, &ColumnDef), Error> {
        match self.ordinal(name) {
            Some(ordinal) => Ok((ordinal, &self.columns[ordinal as usize])),
            None => Err(Error::Unsupported(self.no_column(name))),
        }
    }

    /// All ordinals, in order.
    pub fn ordinals(&self) -> Vec<u32> {
        (0u32..).take(self.columns.len()).collect()
    }

    /// Whether the column of that ordinal is part of the primary key.
    pub fn is_key(&self, ordinal: u32) -> bool {
        self.key.contains(&ordinal)
    }

    /// What to tell when a configuration names a column that is not there.
    pub fn no_column(&self, name: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let hint = match nearest(name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it has {}", names.join(", ")),
        };
        format!("table {} has no column {name:?}; {hint}", self.path())
    }
}

impl ColumnDef {
    /// What the values mean.
    pub fn meaning(&self) -> Logical {
        Logical::parse(&self.logical)
    }
}

/// The name that a slip of the hand may have meant.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = names.iter().map(|other| (edits(name, other), *other)).min()?;
    (distance <= 1 + name.len() / 4).then_some(best)
}

/// How many single-character edits lie between two names, whatever their case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest};
    use crate::{Error, testing};

    #[test]
    fn a_slip_is_answered_with_the_name_that_was_meant() {
        let table = testing::table("shop.orders", &[("id", "int64"), ("amount", "int64")], &["id"]);
        let Err(Error::Unsupported(message)) = table.column("amuont") else {
            panic!("there is no such column")
        };
        assert_eq!(message, "table shop.orders has no column \"amuont\"; did you mean \"amount\"?");
        let Err(Error::Unsupported(message)) = table.column("zip") else { panic!("there is no such column") };
        assert_eq!(message, "table shop.orders has no column \"zip\"; it has id, amount");
    }

    #[test]
    fn edits_are_counted_whatever_the_case() {
        assert_eq!(edits("Status", "status"), 0);
        assert_eq!(edits("amount", "amunt"), 1);
        assert_eq!(nearest("emial", &["id", "email"]), Some("email"));
    }
}
