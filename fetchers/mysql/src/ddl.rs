//! What the text of a statement means for a reader of rows. This is no parser: it knows the words that decide, past
//! comments, quotes and the default database. What it does not know stops the stream.

mod columns;
mod definition;

use tidemill_event::TableName;

pub use columns::read_statement;
pub(crate) use definition::Definition;

/// What a statement is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Begin,
    Commit,
    Rollback,
    /// SAVEPOINT and RELEASE: they change nothing.
    Savepoint,
    /// ROLLBACK TO: part of the rows before it never happened.
    RollbackTo,
    /// A step of an XA transaction.
    Xa(XaStep),
    /// Tables or databases changed, with or without content that the log does not tell.
    Schema(Definition),
    /// Every row of the table vanished.
    Truncate(TableName),
    /// Accounts, maintenance, temporary tables: nothing that we carry.
    Nothing,
    /// A change of rows as text, and the first table that it names.
    Rows(Option<TableName>),
    /// No statement that we know.
    Unknown,
}

/// The steps of an XA transaction that are logged as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XaStep {
    Start,
    End,
    Commit,
    Rollback,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word that is not quoted; keywords compare by its upper case.
    Word(String),
    /// A quoted name.
    Name(String),
    /// The inside of a quoted text, with its backslashes.
    Text(String),
    Sign(char),
}

/// What the statement means where `database` is current.
pub(crate) fn meaning(statement: &str, database: &str, ansi_quotes: bool) -> Meaning {
    let text = Text::of(statement, ansi_quotes);
    let mut tokens = text.tokens.as_slice();
    if is(tokens, 0, "SET") && is(tokens, 1, "STATEMENT") {
        let prefix = tokens.iter().position(|t| word(t).is_some_and(|w| w.eq_ignore_ascii_case("FOR")));
        tokens = prefix.map_or(&[], |at| &tokens[at + 1..]);
    }
    let Some(first) = tokens.first().and_then(word) else { return Meaning::Unknown };
    match first.to_ascii_uppercase().as_str() {
        "BEGIN" => Meaning::Begin,
        "START" if is(tokens, 1, "TRANSACTION") => Meaning::Begin,
        "COMMIT" => Meaning::Commit,
        "ROLLBACK" if tokens.iter().any(|t| word(t).is_some_and(|w| w.eq_ignore_ascii_case("TO"))) => {
            Meaning::RollbackTo
        }
        "ROLLBACK" => Meaning::Rollback,
        "SAVEPOINT" | "RELEASE" => Meaning::Savepoint,
        "XA" => xa(tokens),
        "CREATE" | "ALTER" | "DROP" => definition::definition(tokens, database),
        "RENAME" if is(tokens, 1, "TABLE") || is(tokens, 1, "TABLES") => {
            definition::rename(&tokens[2..], database).map_or(Meaning::Unknown, Meaning::Schema)
        }
        "TRUNCATE" => {
            let rest = if is(tokens, 1, "TABLE") { &tokens[2..] } else { &tokens[1..] };
            name(rest, database).map_or(Meaning::Unknown, |(table, _)| Meaning::Truncate(table))
        }
        "DELETE" => delete(tokens, database),
        "INSERT" | "REPLACE" | "UPDATE" | "LOAD" | "CALL" | "DO" | "WITH" | "SELECT" | "EXECUTE" => {
            Meaning::Rows(changed(tokens, database))
        }
        "GRANT" | "REVOKE" | "SET" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "FLUSH" | "INSTALL"
        | "UNINSTALL" | "RENAME" | "COMMENT" | "LOCK" | "UNLOCK" | "RESET" | "CHANGE" => Meaning::Nothing,
        _ => Meaning::Unknown,
    }
}

fn xa(tokens: &[Token]) -> Meaning {
    let step = [
        ("START", XaStep::Start),
        ("BEGIN", XaStep::Start),
        ("END", XaStep::End),
        ("COMMIT", XaStep::Commit),
        ("ROLLBACK", XaStep::Rollback),
    ];
    let step = step.into_iter().find(|(word, _)| is(tokens, 1, word));
    step.map_or(Meaning::Unknown, |(_, step)| Meaning::Xa(step))
}

/// DELETE without a condition is what a server logs for tables whose rows vanished with a restart.
fn delete(tokens: &[Token], database: &str) -> Meaning {
    let rows = || Meaning::Rows(changed(tokens, database));
    if !is(tokens, 1, "FROM") {
        return rows();
    }
    match name(&tokens[2..], database) {
        Some((table, rest)) if rest.iter().all(|t| *t == Token::Sign(';')) => Meaning::Truncate(table),
        _ => rows(),
    }
}

/// The first table that a change of rows names: behind FROM, INTO or TABLE, or behind the verb and its modifiers.
fn changed(tokens: &[Token], database: &str) -> Option<TableName> {
    const MODIFIERS: [&str; 10] = [
        "LOW_PRIORITY",
        "HIGH_PRIORITY",
        "DELAYED",
        "CONCURRENT",
        "QUICK",
        "IGNORE",
        "INTO",
        "FROM",
        "TABLE",
        "LOCAL",
    ];
    let is_modifier = |t: &Token| MODIFIERS.iter().any(|m| is(std::slice::from_ref(t), 0, m));
    let verb = tokens.first().and_then(word)?.to_ascii_uppercase();
    let from = match verb.as_str() {
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" => 1,
        // LOAD DATA INFILE 'file' … INTO TABLE t
        "LOAD" => 1 + tokens.iter().position(|t| is(std::slice::from_ref(t), 0, "INTO"))?,
        _ => return None,
    };
    let at = from + tokens[from..].iter().position(|t| !is_modifier(t))?;
    name(&tokens[at..], database).map(|(table, _)| table)
}

impl Meaning {
    /// With every name in lower case, as a server keeps them that takes no notice of case.
    pub(crate) fn in_lower_case(self) -> Meaning {
        let lower = |mut table| {
            definition::lower(&mut table);
            table
        };
        match self {
            Meaning::Schema(definition) => Meaning::Schema(definition.in_lower_case()),
            Meaning::Truncate(table) => Meaning::Truncate(lower(table)),
            Meaning::Rows(table) => Meaning::Rows(table.map(lower)),
            other => other,
        }
    }
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn is(tokens: &[Token], at: usize, keyword: &str) -> bool {
    tokens.get(at).and_then(word).is_some_and(|w| w.eq_ignore_ascii_case(keyword))
}

/// A table's name, with or without its database, and what follows.
fn name<'a>(tokens: &'a [Token], database: &str) -> Option<(TableName, &'a [Token])> {
    let part = |at: usize| match tokens.get(at)? {
        Token::Word(name) | Token::Name(name) => Some(name.clone()),
        _ => None,
    };
    let first = part(0)?;
    match (tokens.get(1), part(2)) {
        (Some(Token::Sign('.')), Some(second)) => Some((TableName::new(first, second), &tokens[3..])),
        _ => Some((TableName::new(database, first), &tokens[1..])),
    }
}

/// A statement's tokens.
struct Text {
    tokens: Vec<Token>,
    /// Every server reads the same in it: no comment is executed by some of them, and every comment and quotation ends.
    is_plain: bool,
}

impl Text {
    fn of(statement: &str, ansi_quotes: bool) -> Text {
        let mut rest = statement;
        let mut text = Text { tokens: Vec::new(), is_plain: true };
        while let Some(first) = rest.chars().next() {
            if let Some((after, is_plain)) = after_comment(rest) {
                rest = after;
                text.is_plain &= is_plain;
                continue;
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
            let (token, length) = match first {
                '\'' | '"' | '`' => {
                    let (inside, length) = quoted(rest, first);
                    text.is_plain &= length.is_some();
                    let is_name = first == '`' || first == '"' && ansi_quotes;
                    let token = if is_name { Token::Name(inside) } else { Token::Text(inside) };
                    (Some(token), length.unwrap_or(rest.len()))
                }
                c if is_word(c) => {
                    let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                    (Some(Token::Word(rest[..length].to_owned())), length)
                }
                c if c.is_whitespace() => (None, c.len_utf8()),
                c => (Some(Token::Sign(c)), c.len_utf8()),
            };
            text.tokens.extend(token);
            rest = &rest[length..];
        }
        text
    }
}

/// What follows a comment that the text begins with, and whether it is one for every server. The inside of an executable one
/// is not skipped, only its marks.
fn after_comment(text: &str) -> Option<(&str, bool)> {
    for mark in ["/*!", "/*M!"] {
        if let Some(inside) = text.strip_prefix(mark) {
            return Some((inside.trim_start_matches(|c: char| c.is_ascii_digit()), false));
        }
    }
    if let Some(end) = text.strip_prefix("*/") {
        return Some((end, false));
    }
    if let Some(inside) = text.strip_prefix("/*") {
        return Some(inside.find("*/").map_or(("", false), |end| (&inside[end + 2..], true)));
    }
    let is_line = text.starts_with('#')
        || text.strip_prefix("--").is_some_and(|t| t.is_empty() || t.starts_with(char::is_whitespace));
    is_line.then(|| (text.find('\n').map_or("", |end| &text[end + 1..]), true))
}

/// The inside of a quotation and its length with the marks; `None`: it does not end. A doubled mark is one, and in texts a
/// backslash escapes.
fn quoted(text: &str, mark: char) -> (String, Option<usize>) {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if mark != '`' => {
                inside.push(c);
                inside.extend(chars.next().map(|(_, escaped)| escaped));
            }
            c if c != mark => inside.push(c),
            _ if chars.peek().is_some_and(|(_, next)| *next == mark) => {
                chars.next();
                inside.push(mark);
            }
            _ => return (inside, Some(at + 1)),
        }
    }
    (inside, None)
}

#[cfg(test)]
mod tests {
    use super::definition::Effect;
    use super::*;

    fn of(statement: &str) -> Meaning {
        meaning(statement, "shop", false)
    }

    fn t(name: &str) -> TableName {
        let (database, table) = name.split_once('.').unwrap_or(("shop", name));
        TableName::new(database, table)
    }

    /// The tables and what becomes of content, in short.
    fn definition(statement: &str) -> (Vec<String>, Vec<String>) {
        let Meaning::Schema(definition) = of(statement) else { panic!("{statement}: {:?}", of(statement)) };
        let effect = |effect: &Effect| match effect {
            Effect::Drop(table) => format!("drop {table}"),
            Effect::DropDatabase(database) => format!("drop {database}"),
            Effect::Rename { from, to } => format!("{from} to {to}"),
            Effect::Invalidate(table, _) => format!("anew {table}"),
        };
        let tables = definition.tables.iter().map(ToString::to_string).collect();
        (tables, definition.effects.iter().map(effect).collect())
    }

    fn check(statement: &str, tables: &[&str], effects: &[&str]) {
        let (found, effects_found) = definition(statement);
        assert_eq!(found, tables, "{statement}");
        assert_eq!(effects_found, effects, "{statement}");
    }

    #[test]
    fn statements_are_known_by_their_words() {
        for (statement, expected) in [
            ("BEGIN", Meaning::Begin),
            ("COMMIT /* x */", Meaning::Commit),
            ("ROLLBACK", Meaning::Rollback),
            ("ROLLBACK TO `half`", Meaning::RollbackTo),
            ("SAVEPOINT half", Meaning::Savepoint),
            ("XA START X'6162',X'',1", Meaning::Xa(XaStep::Start)),
            ("xa commit 'a'", Meaning::Xa(XaStep::Commit)),
            ("CREATE TEMPORARY TABLE t (i int)", Meaning::Nothing),
            ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS t", Meaning::Nothing),
            ("CREATE USER a IDENTIFIED BY 'table'", Meaning::Nothing),
            ("CREATE DEFINER=`r`@`h` TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN END", Meaning::Nothing),
            ("GRANT ALL ON *.* TO a", Meaning::Nothing),
            ("INSERT INTO t VALUES (1)", Meaning::Rows(Some(t("t")))),
            ("REPLACE LOW_PRIORITY `x`.`t` VALUES (1)", Meaning::Rows(Some(t("x.t")))),
            ("UPDATE IGNORE t SET a = 1", Meaning::Rows(Some(t("t")))),
            ("LOAD DATA INFILE 'f' REPLACE INTO TABLE `t` (`a`)", Meaning::Rows(Some(t("t")))),
            ("DELETE FROM t WHERE i = 1", Meaning::Rows(Some(t("t")))),
            ("DELETE t FROM t JOIN u", Meaning::Rows(Some(t("t")))),
            ("# Dummy event replacing event type 160 that slave cannot handle.", Meaning::Unknown),
            ("", Meaning::Unknown),
            ("FROBNICATE t", Meaning::Unknown),
            ("DROP TABLE", Meaning::Unknown),
        ] {
            assert_eq!(of(statement), expected, "{statement}");
        }
    }

    #[test]
    fn l62_a_definition_names_its_tables_however_it_is_written() {
        for (statement, tables) in [
            ("create table t (i int)", &["shop.t"][..]),
            ("CREATE TABLE IF NOT EXISTS `x`.t LIKE u", &["x.t"]),
            ("/* app */ ALTER /* online */ TABLE t ADD c INT", &["shop.t"]),
            ("ALTER ONLINE TABLE IF EXISTS t ADD c INT", &["shop.t"]),
            ("/*!50708 CREATE */ UNIQUE INDEX i ON t (c)", &["shop.t"]),
            ("DROP INDEX IF EXISTS `on` ON x . t", &["x.t"]),
            ("SET STATEMENT max_statement_time=1 FOR ALTER TABLE t FORCE", &["shop.t"]),
            ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX c TO d", &["shop.t"]),
            ("ALTER TABLE t REORGANIZE PARTITION p0 INTO (PARTITION p1 VALUES LESS THAN (9))", &["shop.t"]),
            ("ALTER TABLE t COALESCE PARTITION 2", &["shop.t"]),
            ("ALTER TABLE t COMMENT 'DROP PARTITION'", &["shop.t"]),
            ("ALTER TABLE größe ADD `a\\` INT COMMENT 'it''s'", &["shop.größe"]),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", &[]),
            ("ALTER DATABASE x CHARACTER SET utf8mb4", &[]),
            ("CREATE SCHEMA IF NOT EXISTS x", &[]),
        ] {
            check(statement, tables, &[]);
        }
        let Meaning::Schema(quoted) = meaning("ALTER TABLE \"a\".\"b\" FORCE", "shop", true) else {
            panic!("ANSI_QUOTES make names of them")
        };
        assert_eq!(quoted.tables, [t("a.b")]);
        let Meaning::Schema(lower) = of("ALTER TABLE Shop.Orders RENAME Old").in_lower_case() else {
            panic!("a definition")
        };
        assert_eq!(lower.tables, [t("shop.orders"), t("shop.old")]);
        assert!(lower.concerns(&t("SHOP.Old")) && !lower.concerns(&t("shop.b")));
    }

    #[test]
    fn l61_a_drop_tells_every_table_or_database_that_is_gone() {
        check(
            "-- note\nDROP TABLE IF EXISTS `a`, x.b RESTRICT",
            &["shop.a", "x.b"],
            &["drop shop.a", "drop x.b"],
        );
        check("CREATE OR REPLACE TABLE t (i int)", &["shop.t"], &["drop shop.t"]);
        check("DROP DATABASE IF EXISTS `x`", &[], &["drop x"]);
        let Meaning::Schema(gone) = of("DROP SCHEMA x") else { panic!("a definition") };
        assert!(gone.concerns(&t("x.any")) && !gone.concerns(&t("shop.any")));
    }

    #[test]
    fn l61_a_chain_of_renames_is_told_step_by_step_then_what_holds_other_rows() {
        check(
            "RENAME TABLE a TO _a_del, _a_gho TO a",
            &["shop.a", "shop._a_del", "shop._a_gho"],
            &["shop.a to shop._a_del", "shop._a_gho to shop.a", "anew shop._a_del", "anew shop.a"],
        );
        // A swap by a third name, which keeps nothing.
        check(
            "RENAME TABLES `a` TO t, b TO a, t TO b",
            &["shop.a", "shop.t", "shop.b"],
            &["shop.a to shop.t", "shop.b to shop.a", "shop.t to shop.b", "anew shop.b", "anew shop.a"],
        );
        check("RENAME TABLE IF EXISTS a WAIT 5 TO x.b", &["shop.a", "x.b"], &["shop.a to x.b", "anew x.b"]);
        check(
            "RENAME TABLE a TO b, b TO a",
            &["shop.a", "shop.b"],
            &["shop.a to shop.b", "shop.b to shop.a"],
        );
        let renamed = &["shop.a to shop.b", "anew shop.b"];
        for filler in ["", "TO ", "AS ", "= "] {
            check(&format!("ALTER TABLE a ADD c INT, RENAME {filler}b"), &["shop.a", "shop.b"], renamed);
        }
    }

    #[test]
    fn a_truncated_table_is_named_however_it_is_written() {
        for (statement, table) in [
            ("TRUNCATE TABLE t", TableName::new("shop", "t")),
            ("truncate `a``b`.`c.d`", TableName::new("a`b", "c.d")),
            ("DELETE FROM `m`.`heap` /* generated by server */", TableName::new("m", "heap")),
            ("/* x; TRUNCATE TABLE y */ TRUNCATE größe", TableName::new("shop", "größe")),
        ] {
            assert_eq!(of(statement), Meaning::Truncate(table), "{statement}");
        }
        let table = TableName::new("a", "b");
        assert_eq!(meaning("TRUNCATE \"a\".\"b\"", "shop", true), Meaning::Truncate(table));
    }

    #[test]
    fn l59_content_that_changes_without_rows_is_told() {
        for statement in [
            "ALTER TABLE t TRUNCATE PARTITION p0",
            "ALTER TABLE t DROP PARTITION IF EXISTS p0, p1",
            "ALTER TABLE shop.t DISCARD TABLESPACE",
            "ALTER TABLE t IMPORT PARTITION p0, p1 TABLESPACE",
            "ALTER IGNORE TABLE t ADD UNIQUE (a)",
        ] {
            check(statement, &["shop.t"], &["anew shop.t"]);
        }
        // Both tables of an exchange hold other rows.
        for statement in [
            "ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE x.u WITHOUT VALIDATION",
            "ALTER TABLE t CONVERT PARTITION p0 TO TABLE x.u",
            "ALTER TABLE t CONVERT TABLE x.u TO PARTITION p0 VALUES LESS THAN (5)",
        ] {
            check(statement, &["shop.t", "x.u"], &["anew shop.t", "anew x.u"]);
        }
    }
}
