//! What a statement does to the columns of a table, as far as its text proves it. A part of a statement that is not known
//! here is said to be unknown, and who keeps older rows reads the table anew.

use tidemill_event::TableName;
use tidemill_fetchers_api::statement::ColumnChange;

use super::{Text, Token, word};

/// What statements of MySQL and MariaDB do.
pub fn read_statement(table: &TableName, statement: &str) -> Vec<ColumnChange> {
    // With ANSI_QUOTES what is in double quotes is a name: the default of a column would look like one, and is none.
    let Text { mut tokens, is_plain } = Text::of(statement, false);
    if !is_plain {
        return unknown(statement);
    }
    while tokens.last() == Some(&Token::Sign(';')) {
        tokens.pop();
    }
    let words: Vec<String> = tokens.iter().map(keyword).collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w == word);
    match words.first().map(String::as_str) {
        Some("CREATE") if words.iter().take(4).any(|w| w == "INDEX") => vec![],
        Some("DROP") if is(1, "INDEX") || is(1, "TABLE") => vec![],
        // Content moves by events of their own.
        Some("RENAME" | "TRUNCATE") => vec![],
        Some("CREATE") => {
            let at = words.iter().position(|w| w == "TABLE");
            // With IF NOT EXISTS it may have been there, and nobody says so.
            match at.filter(|at| *at <= 3 && !is(at + 1, "IF")) {
                Some(_) => vec![ColumnChange::Created],
                None => unknown(statement),
            }
        }
        Some("ALTER") => match words.iter().take(4).position(|w| w == "TABLE") {
            Some(at) => alter(&tokens[at + 1..], table).unwrap_or_else(|| unknown(statement)),
            None => unknown(statement),
        },
        _ => unknown(statement),
    }
}

fn unknown(statement: &str) -> Vec<ColumnChange> {
    let verb: Vec<&str> = statement.split_whitespace().take(2).collect();
    vec![ColumnChange::Unknown(verb.join(" "))]
}

/// The actions of an ALTER TABLE; `None`: its table is not the one that is asked about.
fn alter(tokens: &[Token], table: &TableName) -> Option<Vec<ColumnChange>> {
    let tokens = if keyword(tokens.first()?) == "IF" { tokens.get(2..)? } else { tokens };
    let (named, actions) = super::name(tokens, &table.database)?;
    // A server may take no notice of case.
    if named.table.to_lowercase() != table.table.to_lowercase() {
        return None;
    }
    const REARRANGING: [&str; 8] =
        ["ADD", "REORGANIZE", "COALESCE", "REBUILD", "OPTIMIZE", "ANALYZE", "CHECK", "REPAIR"];
    let word = |at: usize| actions.get(at).map(keyword).unwrap_or_default();
    if word(1) == "PARTITION" && REARRANGING.contains(&word(0).as_str()) {
        return Some(vec![]);
    }
    let (mut depth, mut changes, mut begin) = (0usize, vec![], 0);
    for (at, token) in actions.iter().enumerate() {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.checked_sub(1)?,
            Token::Sign(',') if depth == 0 => {
                changes.extend(action(&actions[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    changes.extend(action(&actions[begin..]));
    Some(changes)
}

/// What one action does.
fn action(tokens: &[Token]) -> Vec<ColumnChange> {
    let words: Vec<String> = tokens.iter().map(keyword).collect();
    let not_known = || vec![ColumnChange::Unknown(words.join(" "))];
    let at = |at: usize| words.get(at).map_or("", String::as_str);
    const KEYS: [&str; 9] =
        ["INDEX", "KEY", "UNIQUE", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "FULLTEXT", "SPATIAL"];
    const OPTIONS: [&str; 14] = [
        "ENGINE",
        "COMMENT",
        "AUTO_INCREMENT",
        "ALGORITHM",
        "LOCK",
        "ROW_FORMAT",
        "STATS_PERSISTENT",
        "STATS_AUTO_RECALC",
        "STATS_SAMPLE_PAGES",
        "KEY_BLOCK_SIZE",
        "FORCE",
        "WAIT",
        "NOWAIT",
        "COMPRESSION",
    ];
    // A primary key is what rows are told apart by.
    let primary =
        at(0) != "DROP" && words.iter().any(|w| w == "PRIMARY") || (at(0), at(1)) == ("DROP", "PRIMARY");
    match (at(0), at(1)) {
        ("", _) if tokens.is_empty() => vec![],
        _ if primary => not_known(),
        ("ADD" | "DROP" | "RENAME", word) if KEYS.contains(&word) => vec![],
        ("ALTER", "INDEX" | "CHECK" | "CONSTRAINT") | ("DISABLE" | "ENABLE", "KEYS") => vec![],
        (word, _) if OPTIONS.contains(&word) => vec![],
        // It moves the table, which an event of its own says.
        ("RENAME", word) if word != "COLUMN" => vec![],
        ("DEFAULT", "CHARACTER" | "CHARSET" | "COLLATE") | ("REMOVE", "PARTITIONING") => vec![],
        ("RENAME", "COLUMN") if at(3) == "TO" => match (name(tokens, 2), name(tokens, 4)) {
            (Some(from), Some(to)) => vec![ColumnChange::Renamed { from, to }],
            _ => not_known(),
        },
        ("ALTER", _) => {
            column(tokens, 1).filter(|(_, at)| tokens.len() > *at).map_or_else(not_known, |_| vec![])
        }
        ("ADD", _) => column(tokens, 1).map_or_else(not_known, |(name, rest)| added(name, &tokens[rest..])),
        ("DROP", "PARTITION") => vec![],
        ("DROP", _) => match column(tokens, 1) {
            Some((name, rest)) if matches!(at(rest), "" | "RESTRICT" | "CASCADE") => {
                vec![ColumnChange::Dropped(name)]
            }
            _ => not_known(),
        },
        ("MODIFY", _) => match column(tokens, 1) {
            Some((name, rest)) if is_plain(&tokens[rest..]) => vec![retyped(name, &tokens[rest..])],
            _ => not_known(),
        },
        ("CHANGE", _) => changed(tokens).unwrap_or_else(not_known),
        _ => not_known(),
    }
}

/// A word as keywords are compared; nothing else is one.
fn keyword(token: &Token) -> String {
    word(token).map(str::to_ascii_uppercase).unwrap_or_default()
}

fn name(tokens: &[Token], at: usize) -> Option<String> {
    match tokens.get(at)? {
        Token::Word(name) | Token::Name(name) => Some(name.clone()),
        _ => None,
    }
}

/// The column's name behind COLUMN and IF EXISTS, and where the rest begins.
fn column(tokens: &[Token], mut at: usize) -> Option<(String, usize)> {
    let word = |at: usize| tokens.get(at).map(keyword).unwrap_or_default();
    if word(at) == "COLUMN" {
        at += 1;
    }
    // IF [NOT] EXISTS: whether it did anything shows in the columns.
    if word(at) == "IF" {
        at += if word(at + 1) == "NOT" { 3 } else { 2 };
    }
    Some((name(tokens, at)?, at + 1))
}

/// `CHANGE a b type …`
fn changed(tokens: &[Token]) -> Option<Vec<ColumnChange>> {
    let (from, at) = column(tokens, 1)?;
    let to = name(tokens, at)?;
    if !is_plain(&tokens[at + 1..]) {
        return None;
    }
    let retyped = retyped(to.clone(), &tokens[at + 1..]);
    Some(if from == to { vec![retyped] } else { vec![ColumnChange::Renamed { from, to }, retyped] })
}

fn retyped(name: String, definition: &[Token]) -> ColumnChange {
    let words: Vec<String> = definition.iter().map(keyword).collect();
    let is_key = words.iter().any(|word| word == "PRIMARY");
    let nullable = !is_key && !words.windows(2).any(|pair| pair[0] == "NOT" && pair[1] == "NULL");
    ColumnChange::Retyped { name, to: spelt(definition), nullable }
}

/// The type of a definition, as information_schema spells it; `None` where that depends on what the statement does not say.
fn spelt(definition: &[Token]) -> Option<String> {
    let mut spelt = match keyword(definition.first()?).as_str() {
        "INTEGER" => "int".to_owned(),
        "NUMERIC" | "DEC" => "decimal".to_owned(),
        word => word.to_lowercase(),
    };
    let mut rest = &definition[1..];
    if rest.first() == Some(&Token::Sign('(')) {
        let end = rest.iter().position(|token| *token == Token::Sign(')'))?;
        for token in &rest[..=end] {
            match token {
                Token::Word(word) => spelt += word,
                Token::Text(text) => spelt += &format!("'{}'", text.replace('\'', "''")),
                Token::Sign(sign) => spelt.push(*sign),
                Token::Name(_) => return None,
            }
        }
        rest = &rest[end + 1..];
    }
    // They say what the values are written in, or are the second word of a type.
    const MORE: [&str; 9] =
        ["CHARACTER", "CHARSET", "CHAR", "COLLATE", "BINARY", "ASCII", "UNICODE", "BYTE", "VARYING"];
    for word in rest.iter().map(keyword) {
        match word.as_str() {
            "UNSIGNED" | "ZEROFILL" => spelt += &format!(" {}", word.to_lowercase()),
            word if MORE.contains(&word) => return None,
            _ => {}
        }
    }
    Some(spelt)
}

/// A new column: older rows have NULL in it where nothing says otherwise. Several at once, in parentheses, are not read.
fn added(name: String, definition: &[Token]) -> Vec<ColumnChange> {
    let words: Vec<String> = definition.iter().map(keyword).collect();
    let default = words.iter().position(|w| w == "DEFAULT");
    let is_null = default.is_none_or(|at| words.get(at + 1).is_some_and(|w| w == "NULL"));
    let not_null = words.windows(2).any(|pair| pair[0] == "NOT" && pair[1] == "NULL");
    // TIMESTAMP may be NOT NULL with a default although nobody says so; SERIAL is a counter.
    let implied = words.first().is_some_and(|w| w == "TIMESTAMP" || w == "SERIAL")
        && !words.iter().any(|w| w == "NULL");
    if is_null && !not_null && !implied && is_plain(definition) {
        return vec![ColumnChange::Added(name)];
    }
    vec![ColumnChange::Unknown(format!("ADD COLUMN {name} with a value for older rows"))]
}

/// Whether a column's definition computes no value.
fn is_plain(definition: &[Token]) -> bool {
    const COMPUTED: [&str; 6] = ["GENERATED", "AS", "AUTO_INCREMENT", "VIRTUAL", "STORED", "PERSISTENT"];
    !definition.is_empty() && !definition.iter().any(|t| COMPUTED.contains(&keyword(t).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(statement: &str) -> Vec<ColumnChange> {
        read_statement(&TableName::new("shop", "orders"), statement)
    }

    fn added(name: &str) -> ColumnChange {
        ColumnChange::Added(name.to_owned())
    }

    #[test]
    fn what_a_statement_proves_is_read() {
        let dropped = |name: &str| ColumnChange::Dropped(name.to_owned());
        let renamed = |from: &str, to: &str| ColumnChange::Renamed { from: from.into(), to: to.into() };
        let retyped = |name: &str, to: &str| ColumnChange::Retyped {
            name: name.to_owned(),
            to: Some(to.to_owned()),
            nullable: true,
        };
        for (statement, changes) in [
            ("CREATE TABLE orders (id INT PRIMARY KEY)", vec![ColumnChange::Created]),
            ("create table shop.orders like other", vec![ColumnChange::Created]),
            ("CREATE OR REPLACE TABLE orders (id INT)", vec![ColumnChange::Created]),
            ("ALTER TABLE orders ADD COLUMN note TEXT", vec![added("note")]),
            (
                "alter table `shop`.`orders` add `no``te` varchar(10) null default null after id",
                vec![added("no`te")],
            ),
            (
                "ALTER TABLE orders ADD a INT, ADD COLUMN b DECIMAL(10,2) COMMENT 'x, DEFAULT 5'",
                vec![added("a"), added("b")],
            ),
            ("ALTER TABLE orders ADD COLUMN t TIMESTAMP NULL", vec![added("t")]),
            ("ALTER TABLE orders DROP a, DROP COLUMN IF EXISTS b", vec![dropped("a"), dropped("b")]),
            ("ALTER TABLE orders DROP COLUMN a, ADD COLUMN a INT", vec![dropped("a"), added("a")]),
            ("ALTER TABLE orders RENAME COLUMN a TO b", vec![renamed("a", "b")]),
            ("ALTER TABLE orders CHANGE a b BIGINT", vec![renamed("a", "b"), retyped("b", "bigint")]),
            (
                "ALTER TABLE orders CHANGE COLUMN a a BIGINT, MODIFY c INT FIRST",
                vec![retyped("a", "bigint"), retyped("c", "int")],
            ),
            (
                "ALTER TABLE orders MODIFY a NUMERIC(10, 2) UNSIGNED DEFAULT 5 COMMENT 'BINARY'",
                vec![retyped("a", "decimal(10,2) unsigned")],
            ),
            ("ALTER TABLE orders MODIFY a ENUM('a', 'it''s') NULL", vec![retyped("a", "enum('a','it''s')")]),
            ("/* by hand */ ALTER ONLINE TABLE orders ENGINE=InnoDB, ALGORITHM=INPLACE, LOCK=NONE;", vec![]),
            ("ALTER TABLE orders ADD INDEX i (a, b), DROP KEY j, RENAME INDEX k TO l", vec![]),
            ("ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES other (id)", vec![]),
            ("ALTER TABLE orders ALTER COLUMN a SET DEFAULT 5", vec![]),
            ("CREATE UNIQUE INDEX i ON orders (a)", vec![]),
            ("ALTER TABLE orders RENAME TO archive", vec![]),
            ("ALTER TABLE orders REORGANIZE PARTITION a, b INTO (PARTITION c VALUES LESS THAN (9))", vec![]),
            ("ALTER TABLE orders ADD PARTITION (PARTITION c VALUES LESS THAN (9))", vec![]),
        ] {
            assert_eq!(read(statement), changes, "{statement}");
        }
    }

    #[test]
    fn what_a_definition_says_of_values_is_read() {
        let of = |definition: &str| match &read(&format!("ALTER TABLE orders MODIFY a {definition}"))[..] {
            [ColumnChange::Retyped { to, nullable, .. }] => (to.clone(), *nullable),
            other => panic!("{definition}: {other:?}"),
        };
        assert_eq!(of("INT NOT NULL"), (Some("int".into()), false));
        for definition in ["VARCHAR(9) CHARACTER SET latin1", "TEXT COLLATE utf8mb4_bin", "CHAR VARYING(9)"] {
            assert_eq!(of(definition), (None, true), "{definition}");
        }
    }

    #[test]
    fn what_a_statement_does_not_prove_is_unknown() {
        for statement in [
            "CREATE TABLE IF NOT EXISTS orders (id INT)",
            "ALTER TABLE orders ADD COLUMN a INT DEFAULT 5",
            "ALTER TABLE orders ADD COLUMN a INT NOT NULL",
            "ALTER TABLE orders ADD COLUMN t TIMESTAMP",
            "ALTER TABLE orders ADD COLUMN a INT AS (b + 1) STORED",
            "ALTER TABLE orders ADD (a INT, b INT)",
            "ALTER TABLE orders ADD PRIMARY KEY (a)",
            "ALTER TABLE orders DROP PRIMARY KEY",
            "ALTER TABLE orders ADD CONSTRAINT p PRIMARY KEY (a)",
            "ALTER TABLE orders MODIFY a INT PRIMARY KEY",
            "ALTER TABLE orders CONVERT TO CHARACTER SET latin1",
            "ALTER TABLE orders /*!80000 ADD COLUMN a INT DEFAULT 5 */",
            "ALTER TABLE orders ADD COLUMN a INT DEFAULT 'unended",
            "ALTER TABLE other ADD COLUMN a INT",
            "SOMETHING else",
            "",
        ] {
            let changes = read(statement);
            assert!(matches!(changes[..], [ColumnChange::Unknown(_)]), "{statement}: {changes:?}");
        }
    }
}
