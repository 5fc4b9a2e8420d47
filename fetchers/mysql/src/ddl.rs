//! What the text of a statement means for a reader of rows. This is no parser: it knows the words that decide, past
//! comments, quotes and the default database. What it does not know stops the stream.

use tidemill_event::TableName;

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
    Schema {
        /// The table whose content changed without rows, and how.
        invalidates: Option<(TableName, &'static str)>,
    },
    /// Every row of the table vanished.
    Truncate(TableName),
    /// Accounts, maintenance, temporary tables: nothing that we carry.
    Nothing,
    /// A change of rows as text.
    Rows,
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
    Text,
    Sign(char),
}

/// What the statement means where `database` is current.
pub(crate) fn meaning(statement: &str, database: &str, ansi_quotes: bool) -> Meaning {
    let tokens = tokens(statement, ansi_quotes);
    let mut tokens = tokens.as_slice();
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
        "CREATE" | "ALTER" | "DROP" => definition(tokens, database),
        "RENAME" if is(tokens, 1, "TABLE") || is(tokens, 1, "TABLES") => {
            Meaning::Schema { invalidates: None }
        }
        "TRUNCATE" => {
            let rest = if is(tokens, 1, "TABLE") { &tokens[2..] } else { &tokens[1..] };
            name(rest, database).map_or(Meaning::Unknown, |(table, _)| Meaning::Truncate(table))
        }
        "DELETE" => delete(tokens, database),
        "INSERT" | "REPLACE" | "UPDATE" | "LOAD" | "CALL" | "DO" | "WITH" | "SELECT" | "EXECUTE" => {
            Meaning::Rows
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

/// CREATE, ALTER, DROP: the first word that names a kind of object decides.
fn definition(tokens: &[Token], database: &str) -> Meaning {
    const OURS: [&str; 6] = ["TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "VIEW"];
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
        match word.as_str() {
            "TEMPORARY" => return Meaning::Nothing,
            other if OTHERS.contains(&other) => return Meaning::Nothing,
            ours if OURS.contains(&ours) => {
                let invalidates = if is(tokens, 0, "ALTER") && ours == "TABLE" {
                    invalidated(&tokens[at + 1..], database)
                } else {
                    None
                };
                return Meaning::Schema { invalidates };
            }
            _ => {}
        }
    }
    Meaning::Unknown
}

/// Whether ALTER TABLE changes content for which no rows are logged.
fn invalidated(tokens: &[Token], database: &str) -> Option<(TableName, &'static str)> {
    const SILENT: [([&str; 2], &str); 5] = [
        (["TRUNCATE", "PARTITION"], "a partition was truncated"),
        (["DROP", "PARTITION"], "a partition was dropped"),
        (["EXCHANGE", "PARTITION"], "a partition was exchanged with a table"),
        (["DISCARD", "TABLESPACE"], "its tablespace was discarded"),
        (["IMPORT", "TABLESPACE"], "its tablespace was imported"),
    ];
    let (table, _) = name(tokens, database)?;
    let found = SILENT.iter().find(|(words, _)| {
        (0..tokens.len()).any(|at| is(tokens, at, words[0]) && is(tokens, at + 1, words[1]))
    });
    // IF EXISTS and its kin stand before the name and are rare here: the reason tells the statement's kind all the same.
    found.map(|(_, reason)| (table, *reason))
}

/// DELETE without a condition is what a server logs for tables whose rows vanished with a restart.
fn delete(tokens: &[Token], database: &str) -> Meaning {
    if !is(tokens, 1, "FROM") {
        return Meaning::Rows;
    }
    match name(&tokens[2..], database) {
        Some((table, rest)) if rest.iter().all(|t| *t == Token::Sign(';')) => Meaning::Truncate(table),
        _ => Meaning::Rows,
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

fn tokens(statement: &str, ansi_quotes: bool) -> Vec<Token> {
    let mut rest = statement;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some(after) = after_comment(rest) {
            rest = after;
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let (token, length) = match first {
            '\'' => (Some(Token::Text), quoted(rest, first).1),
            '"' if !ansi_quotes => (Some(Token::Text), quoted(rest, first).1),
            '`' | '"' => {
                let (name, length) = quoted(rest, first);
                (Some(Token::Name(name)), length)
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Some(Token::Word(rest[..length].to_owned())), length)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}

/// What follows a comment that the text begins with. The inside of an executable one is not skipped, only its marks.
fn after_comment(text: &str) -> Option<&str> {
    for mark in ["/*!", "/*M!"] {
        if let Some(inside) = text.strip_prefix(mark) {
            return Some(inside.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    if let Some(end) = text.strip_prefix("*/") {
        return Some(end);
    }
    if let Some(inside) = text.strip_prefix("/*") {
        return Some(inside.find("*/").map_or("", |end| &inside[end + 2..]));
    }
    let is_line = text.starts_with('#')
        || text.strip_prefix("--").is_some_and(|t| t.is_empty() || t.starts_with(char::is_whitespace));
    is_line.then(|| text.find('\n').map_or("", |end| &text[end + 1..]))
}

/// The inside of a quotation and its length with the marks. A doubled mark is one, and in texts a backslash escapes.
fn quoted(text: &str, mark: char) -> (String, usize) {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if mark != '`' => drop(chars.next()),
            c if c != mark => inside.push(c),
            _ if chars.peek().is_some_and(|(_, next)| *next == mark) => {
                chars.next();
                inside.push(mark);
            }
            _ => return (inside, at + 1),
        }
    }
    (inside, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(statement: &str) -> Meaning {
        meaning(statement, "shop", false)
    }

    const SCHEMA: Meaning = Meaning::Schema { invalidates: None };

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
            ("create table t (i int)", SCHEMA),
            ("CREATE OR REPLACE TABLE t (i int)", SCHEMA),
            ("/* app */ ALTER /* online */ TABLE t ADD c INT", SCHEMA),
            ("-- note\nDROP TABLE `a`, `b`", SCHEMA),
            ("/*!50708 CREATE */ UNIQUE INDEX i ON t (c)", SCHEMA),
            ("RENAME TABLE a TO b", SCHEMA),
            ("SET STATEMENT max_statement_time=1 FOR ALTER TABLE t FORCE", SCHEMA),
            ("CREATE TEMPORARY TABLE t (i int)", Meaning::Nothing),
            ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS t", Meaning::Nothing),
            ("CREATE USER a IDENTIFIED BY 'table'", Meaning::Nothing),
            ("CREATE DEFINER=`r`@`h` TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN END", Meaning::Nothing),
            ("GRANT ALL ON *.* TO a", Meaning::Nothing),
            ("INSERT INTO t VALUES (1)", Meaning::Rows),
            ("DELETE FROM t WHERE i = 1", Meaning::Rows),
            ("DELETE t FROM t JOIN u", Meaning::Rows),
            ("# Dummy event replacing event type 160 that slave cannot handle.", Meaning::Unknown),
            ("", Meaning::Unknown),
            ("FROBNICATE t", Meaning::Unknown),
        ] {
            assert_eq!(of(statement), expected, "{statement}");
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
    fn content_that_changes_without_rows_is_told() {
        for statement in ["ALTER TABLE t TRUNCATE PARTITION p0", "ALTER TABLE shop.t DISCARD TABLESPACE"] {
            let Meaning::Schema { invalidates: Some((table, _)) } = of(statement) else {
                panic!("{statement}")
            };
            assert_eq!(table, TableName::new("shop", "t"));
        }
        assert_eq!(of("ALTER TABLE t COMMENT 'DROP PARTITION'"), SCHEMA);
    }
}
