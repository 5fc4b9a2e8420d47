//! What a definition (CREATE, ALTER, DROP, RENAME) is about: the tables that it names, and what it does to their content
//! without a row for each. What its columns are is not read here: the table maps behind it tell.

use tidemill_event::{EventKind, TableName};

use super::{Meaning, Token, is, name, word};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Definition {
    /// The tables that it defines or changes.
    pub(crate) tables: Vec<TableName>,
    /// What it does to content, in order.
    pub(crate) effects: Vec<Effect>,
}

/// What becomes of rows although none is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Drop(TableName),
    DropDatabase(String),
    Rename { from: TableName, to: TableName },
    Invalidate(TableName, String),
}

impl Definition {
    fn of(tables: Vec<TableName>) -> Definition {
        Definition { tables, effects: vec![] }
    }

    /// Whether the columns of that table may be others after it. Names are compared whatever their case: too often is
    /// better than not at all.
    pub(crate) fn concerns(&self, table: &TableName) -> bool {
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        self.tables.iter().any(|t| same(&t.database, &table.database) && same(&t.table, &table.table))
            || self
                .effects
                .iter()
                .any(|e| matches!(e, Effect::DropDatabase(database) if same(database, &table.database)))
    }

    /// The events that tell readers of it: first what became of rows, then that schemas changed.
    pub(crate) fn events(self, database: &str, statement: &str) -> impl Iterator<Item = EventKind> {
        let change = EventKind::SchemaChange {
            database: database.to_owned(),
            tables: self.tables,
            statement: Some(statement.to_owned()),
        };
        self.effects.into_iter().map(Effect::event).chain([change])
    }

    /// With every name in lower case, as a server keeps them that takes no notice of case.
    pub(crate) fn in_lower_case(mut self) -> Definition {
        self.tables.iter_mut().for_each(lower);
        for effect in &mut self.effects {
            match effect {
                Effect::Drop(table) | Effect::Invalidate(table, _) => lower(table),
                Effect::DropDatabase(database) => *database = database.to_lowercase(),
                Effect::Rename { from, to } => [from, to].into_iter().for_each(lower),
            }
        }
        self
    }
}

pub(super) fn lower(name: &mut TableName) {
    *name = TableName::new(name.database.to_lowercase(), name.table.to_lowercase());
}

impl Effect {
    fn event(self) -> EventKind {
        match self {
            Effect::Drop(table) => EventKind::Drop { table },
            Effect::DropDatabase(database) => EventKind::DropDatabase { database },
            Effect::Rename { from, to } => EventKind::Rename { from, to },
            Effect::Invalidate(table, reason) => EventKind::Invalidate { table, reason },
        }
    }
}

/// CREATE, ALTER, DROP: the first word that names a kind of object decides.
pub(super) fn definition(tokens: &[Token], database: &str) -> Meaning {
    const OTHERS: [&str; 16] = [
        "USER",
        "ROLE",
        "FUNCTION",
        "PROCEDURE",
        "TRIGGER",
        "EVENT",
        "SERVER",
        "TABLESPACE",
        "LOGFILE",
        "PACKAGE",
        "UNDO",
        "REFERENCE",
        "INSTANCE",
        "RESOURCE",
        "LIBRARY",
        "SEQUENCE",
    ];
    for (at, token) in tokens.iter().enumerate().skip(1) {
        let Some(word) = word(token).map(str::to_ascii_uppercase) else { continue };
        let rest = &tokens[at + 1..];
        let definition = match word.as_str() {
            "TEMPORARY" => return Meaning::Nothing,
            other if OTHERS.contains(&other) => return Meaning::Nothing,
            "TABLE" | "TABLES" => table(&tokens[..at], rest, database),
            "DATABASE" | "SCHEMA" => Some(of_database(tokens, rest)),
            "INDEX" => index(rest, database),
            "VIEW" => Some(Definition::default()),
            _ => continue,
        };
        return definition.map_or(Meaning::Unknown, Meaning::Schema);
    }
    Meaning::Unknown
}

/// `head`: the words before TABLE; `rest`: what follows it.
fn table(head: &[Token], rest: &[Token], database: &str) -> Option<Definition> {
    let rest = past_if_exists(rest);
    if is(head, 0, "DROP") {
        let tables = names(rest, database)?;
        let effects = tables.iter().cloned().map(Effect::Drop).collect();
        return Some(Definition { tables, effects });
    }
    let (table, rest) = name(rest, database)?;
    let mut definition = Definition::of(vec![table.clone()]);
    if is(head, 0, "CREATE") {
        // OR REPLACE: whatever had the name is dropped.
        if head.iter().any(|t| word(t).is_some_and(|w| w.eq_ignore_ascii_case("REPLACE"))) {
            definition.effects.push(Effect::Drop(table));
        }
        return Some(definition);
    }
    if head.iter().any(|t| word(t).is_some_and(|w| w.eq_ignore_ascii_case("IGNORE"))) {
        let reason = "ALTER IGNORE removed the rows that did not fit".to_owned();
        definition.effects.push(Effect::Invalidate(table.clone(), reason));
    }
    alter(&table, rest, database, &mut definition);
    Some(definition)
}

/// The actions of ALTER TABLE that change content, or move it to another name.
fn alter(table: &TableName, tokens: &[Token], database: &str, definition: &mut Definition) {
    const SILENT: [(&str, &str, &str); 7] = [
        ("TRUNCATE", "PARTITION", "a partition was truncated"),
        ("DROP", "PARTITION", "a partition was dropped"),
        ("EXCHANGE", "PARTITION", "a partition was exchanged with a table"),
        ("CONVERT", "PARTITION", "a partition became a table"),
        ("CONVERT", "TABLE", "a table became a partition"),
        ("DISCARD", "TABLESPACE", "its tablespace was discarded"),
        ("IMPORT", "TABLESPACE", "its tablespace was imported"),
    ];
    let mut depth = 0usize;
    for at in 0..tokens.len() {
        match &tokens[at] {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > 0 {
            continue;
        }
        let begins = at == 0 || tokens[at - 1] == Token::Sign(',');
        if begins && is(tokens, at, "RENAME") {
            rename_to(table, &tokens[at + 1..], database, definition);
        }
        let silent = SILENT.iter().find(|(verb, object, _)| {
            is(tokens, at, verb)
                && tokens[at + 1..].iter().take(2).any(|t| is(std::slice::from_ref(t), 0, object))
                || (is(tokens, at, verb)
                    && is(tokens, at + 1, "PARTITION")
                    && tokens[at + 2..].iter().any(|t| is(std::slice::from_ref(t), 0, object)))
        });
        if let Some((verb, _, reason)) = silent {
            definition.effects.push(Effect::Invalidate(table.clone(), (*reason).to_owned()));
            if matches!(*verb, "EXCHANGE" | "CONVERT") {
                definition.partner(&tokens[at + 1..], database, reason);
            }
            return;
        }
    }
}

impl Definition {
    /// The other table of EXCHANGE PARTITION … WITH TABLE and of CONVERT: the one behind the word TABLE.
    fn partner(&mut self, tokens: &[Token], database: &str, reason: &str) {
        let found = tokens.iter().position(|t| is(std::slice::from_ref(t), 0, "TABLE"));
        if let Some((other, _)) = found.and_then(|at| name(&tokens[at + 1..], database)) {
            self.effects.push(Effect::Invalidate(other.clone(), reason.to_owned()));
            self.tables.push(other);
        }
    }
}

/// `ALTER TABLE a RENAME [TO|AS|=] b`; columns and indexes are renamed by the same word.
fn rename_to(from: &TableName, tokens: &[Token], database: &str, definition: &mut Definition) {
    if ["COLUMN", "INDEX", "KEY", "CONSTRAINT"].iter().any(|w| is(tokens, 0, w)) {
        return;
    }
    let has_filler = is(tokens, 0, "TO") || is(tokens, 0, "AS") || tokens.first() == Some(&Token::Sign('='));
    if let Some((to, _)) = name(&tokens[usize::from(has_filler)..], database) {
        definition.tables.push(to.clone());
        definition.effects.extend(renamed(&[(from.clone(), to)]));
    }
}

/// `RENAME TABLE a TO b, c TO a`, what follows TABLE. `None`: not understood.
pub(super) fn rename(tokens: &[Token], database: &str) -> Option<Definition> {
    let mut rest = past_if_exists(tokens);
    let mut pairs = vec![];
    loop {
        let (from, after) = name(rest, database)?;
        // MariaDB: how long to wait for the table.
        let to_at = after.iter().take(3).position(|t| is(std::slice::from_ref(t), 0, "TO"))?;
        let (to, after) = name(&after[to_at + 1..], database)?;
        pairs.push((from, to));
        match after.first() {
            Some(Token::Sign(',')) => rest = &after[1..],
            _ => break,
        }
    }
    let mut tables = vec![];
    for table in pairs.iter().flat_map(|(from, to)| [from, to]) {
        if !tables.contains(table) {
            tables.push(table.clone());
        }
    }
    Some(Definition { tables, effects: renamed(&pairs) })
}

/// Each step, then the names that now hold rows which came under another one.
fn renamed(pairs: &[(TableName, TableName)]) -> Vec<Effect> {
    let step = |(from, to): &(TableName, TableName)| Effect::Rename { from: from.clone(), to: to.clone() };
    let mut effects: Vec<Effect> = pairs.iter().map(step).collect();
    // Current name and the one that its rows came under.
    let mut origins: Vec<(TableName, TableName)> = vec![];
    for (from, to) in pairs {
        match origins.iter_mut().find(|(current, _)| current == from) {
            Some(entry) => entry.0 = to.clone(),
            None => origins.push((to.clone(), from.clone())),
        }
    }
    for (current, origin) in origins {
        if current != origin {
            let reason =
                format!("it was renamed from {origin}: its rows came under that name, if they came at all");
            effects.push(Effect::Invalidate(current, reason));
        }
    }
    effects
}

fn of_database(tokens: &[Token], rest: &[Token]) -> Definition {
    let mut definition = Definition::default();
    let named = past_if_exists(rest).first();
    if let (true, Some(Token::Word(name) | Token::Name(name))) = (is(tokens, 0, "DROP"), named) {
        definition.effects.push(Effect::DropDatabase(name.clone()));
    }
    definition
}

/// CREATE and DROP INDEX … ON the table.
fn index(rest: &[Token], database: &str) -> Option<Definition> {
    let on = rest.iter().position(|t| is(std::slice::from_ref(t), 0, "ON"))?;
    let (table, _) = name(&rest[on + 1..], database)?;
    Some(Definition::of(vec![table]))
}

/// IF EXISTS and IF NOT EXISTS stand before a name.
fn past_if_exists(tokens: &[Token]) -> &[Token] {
    match (is(tokens, 0, "IF"), is(tokens, 1, "NOT")) {
        (true, true) if is(tokens, 2, "EXISTS") => &tokens[3..],
        (true, _) if is(tokens, 1, "EXISTS") => &tokens[2..],
        _ => tokens,
    }
}

/// `a, b, c`
fn names(mut tokens: &[Token], database: &str) -> Option<Vec<TableName>> {
    let mut names = vec![];
    loop {
        let (table, rest) = name(tokens, database)?;
        names.push(table);
        match rest.first() {
            Some(Token::Sign(',')) => tokens = &rest[1..],
            _ => return Some(names),
        }
    }
}
