//! Predicates as text: the part of SQL's WHERE that a table's rows can be pruned by. What they mean is the sandbox's; whether
//! there is such a table or column is found out later.
//!
//! ```text
//! shop.orders: total >= 100 and state in ('paid', 'sent'); shop.items: note is null
//! ```
//!
//! Conditions are joined by `and`: `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`, `between … and …`, `in (…)`, `is null`,
//! `is not null`. Literals: `-12`, `10.50`, `'text'` (`''` is one quote), `x'00ff'`, `true`, `false`; dates and times stand in
//! quotes. A column that is no plain word stands in backquotes or double quotes. So a predicate is one of the catalogue's
//! `where` filter as well.

use tidemill_event::TableName;
use tidemill_sandbox::{ColumnCondition, Comparison, Predicate};

use crate::TablePattern;

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 11] = ["<=", ">=", "<>", "!=", "=", "<", ">", "(", ")", ",", ";"];

/// So many conditions and literals as a request may have.
const TOKENS_MAX: usize = 4096;

/// Predicates of a request: `TABLE: CONDITION and CONDITION; TABLE: …`.
pub(crate) fn parse_all(text: &str) -> Result<Vec<Predicate>, String> {
    let mut rest = text;
    let mut all: Vec<Predicate> = vec![];
    loop {
        let (table, conditions) = rest.split_once(':').ok_or_else(|| unnamed(rest))?;
        let pattern = TablePattern::parse(table.trim()).ok_or_else(|| unnamed(table))?;
        let (Some(database), Some(name)) = (pattern.database, pattern.table) else {
            return Err(unnamed(table));
        };
        let table = TableName::new(database, name);
        if all.iter().any(|other| other.table == table) {
            return Err(format!("it names {table} twice; join all of its conditions with `and`"));
        }
        let mut tokens = Tokens::of(conditions)?;
        let conditions = tokens.conditions()?;
        all.push(Predicate { table, conditions });
        match tokens.rest_of_tables() {
            Some(left) => rest = left,
            None => return Ok(all),
        }
    }
}

/// The predicate of one table.
pub fn parse_predicate(table: &str, text: &str) -> Result<Predicate, String> {
    let mut all = parse_all(&format!("{table}:{text}"))?;
    match (all.pop(), all.is_empty()) {
        (Some(predicate), true) => Ok(predicate),
        _ => Err("it holds a `;`; give each table a predicate of its own".to_owned()),
    }
}

fn unnamed(text: &str) -> String {
    let start: String = text.trim().chars().take(64).collect();
    format!("\"{start}\" names no table; write database.table: column >= 100 and other = 'text'")
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A keyword or a column.
    Word(String),
    /// A column in quotes.
    Name(String),
    /// A literal: its text, and how it stood there.
    Literal(String),
    Symbol(&'static str),
}

/// The tokens of one table's conditions, and what follows them.
struct Tokens<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    rest: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    /// Up to a `;` or the end.
    fn of(text: &'a str) -> Result<Tokens<'a>, String> {
        let (mut tokens, mut rest) = (vec![], text.trim_start());
        while !rest.is_empty() {
            let (token, length) = token(rest)?;
            rest = rest[length..].trim_start();
            if token == Token::Symbol(";") {
                return Ok(Tokens { tokens: tokens.into_iter().peekable(), rest: Some(rest) });
            }
            tokens.push(token);
            if tokens.len() > TOKENS_MAX {
                return Err(format!(
                    "it has more than {TOKENS_MAX} words; ask for less, or register a filter"
                ));
            }
        }
        Ok(Tokens { tokens: tokens.into_iter().peekable(), rest: None })
    }

    fn rest_of_tables(&self) -> Option<&'a str> {
        self.rest.filter(|rest| !rest.is_empty())
    }

    fn conditions(&mut self) -> Result<Vec<ColumnCondition>, String> {
        let mut all = vec![];
        loop {
            self.condition(&mut all)?;
            match self.tokens.next() {
                None => break,
                Some(token) if is_keyword(&token, "and") => {}
                Some(token) if is_keyword(&token, "or") => {
                    return Err("it has an `or`; write `in (…)` where it is about one column, or register a `where` filter \
                                at the relay"
                        .to_owned());
                }
                Some(token) => return Err(format!("{} stands where `and` belongs", shown(Some(&token)))),
            }
        }
        Ok(all)
    }

    fn condition(&mut self, all: &mut Vec<ColumnCondition>) -> Result<(), String> {
        let column = match self.tokens.next() {
            Some(Token::Word(word) | Token::Name(word)) => word,
            other => return Err(format!("{} stands where a column belongs", shown(other.as_ref()))),
        };
        let mut add = |comparison, literals| {
            all.push(ColumnCondition { column: column.clone(), comparison, literals });
        };
        match self.tokens.next() {
            Some(Token::Symbol(symbol)) if comparison(symbol).is_some() => {
                add(comparison(symbol).expect("it was looked at"), vec![self.literal()?]);
            }
            Some(token) if is_keyword(&token, "is") => {
                let is_not = self.tokens.next_if(|token| is_keyword(token, "not")).is_some();
                self.expect("null")?;
                add(if is_not { Comparison::IsNotNull } else { Comparison::IsNull }, vec![]);
            }
            Some(token) if is_keyword(&token, "between") => {
                add(Comparison::Ge, vec![self.literal()?]);
                self.expect("and")?;
                add(Comparison::Le, vec![self.literal()?]);
            }
            Some(token) if is_keyword(&token, "in") => add(Comparison::OneOf, self.list()?),
            other => {
                return Err(format!(
                    "{} follows column `{column}`, where =, !=, <, <=, >, >=, between, in, or is [not] null belongs",
                    shown(other.as_ref())
                ));
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.symbol("(")?;
        let mut literals = vec![self.literal()?];
        while self.tokens.next_if_eq(&Token::Symbol(",")).is_some() {
            literals.push(self.literal()?);
        }
        self.symbol(")")?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Literal(text)) => Ok(text),
            Some(Token::Word(word)) if ["true", "false"].contains(&&*word.to_ascii_lowercase()) => {
                Ok(word.to_ascii_lowercase())
            }
            other => Err(format!(
                "{} stands where a literal belongs; write a number, or text in single quotes",
                shown(other.as_ref())
            )),
        }
    }

    fn expect(&mut self, keyword: &str) -> Result<(), String> {
        match self.tokens.next() {
            Some(token) if is_keyword(&token, keyword) => Ok(()),
            other => Err(format!("{} stands where `{keyword}` belongs", shown(other.as_ref()))),
        }
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), String> {
        match self.tokens.next() {
            Some(Token::Symbol(found)) if found == symbol => Ok(()),
            other => Err(format!("{} stands where `{symbol}` belongs", shown(other.as_ref()))),
        }
    }
}

fn comparison(symbol: &str) -> Option<Comparison> {
    Some(match symbol {
        "=" => Comparison::Eq,
        "!=" | "<>" => Comparison::Ne,
        "<" => Comparison::Lt,
        "<=" => Comparison::Le,
        ">" => Comparison::Gt,
        ">=" => Comparison::Ge,
        _ => return None,
    })
}

fn is_keyword(token: &Token, keyword: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "the end".to_owned(),
        Some(Token::Word(text) | Token::Name(text) | Token::Literal(text)) => {
            format!("\"{}\"", text.chars().take(64).collect::<String>())
        }
        Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
    }
}

/// The first token of a text that does not begin with a blank, and its length.
fn token(text: &str) -> Result<(Token, usize), String> {
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol)) {
        return Ok((Token::Symbol(symbol), symbol.len()));
    }
    let first = text.chars().next().expect("the text is not empty");
    match first {
        '\'' => quoted(text, '\'').map(|(text, length)| (Token::Literal(text), length)),
        '`' | '"' => quoted(text, first).map(|(text, length)| (Token::Name(text), length)),
        'x' | 'X' if text[1..].starts_with('\'') => {
            quoted(&text[1..], '\'').map(|(text, length)| (Token::Literal(text), length + 1))
        }
        '-' | '.' | '0'..='9' => {
            let is_of = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
            let length = text.find(|c| !is_of(c)).unwrap_or(text.len());
            Ok((Token::Literal(text[..length].to_owned()), length))
        }
        c if c.is_alphanumeric() || matches!(c, '_' | '$') => {
            let is_of = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
            let length = text.find(|c| !is_of(c)).unwrap_or(text.len());
            Ok((Token::Word(text[..length].to_owned()), length))
        }
        other => Err(format!("\"{other}\" is no part of a condition; text stands in single quotes")),
    }
}

/// What stands between quotes, which are written twice within, and the length with them.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            inner.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            inner.push(quote);
        } else {
            return Ok((inner, at + quote.len_utf8()));
        }
    }
    Err(format!("a quote {quote} is opened and not closed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn conditions(text: &str) -> Vec<(String, Comparison, String)> {
        let predicate = parse_predicate("shop.orders", text).unwrap();
        let conditions = predicate.conditions.into_iter();
        conditions.map(|c| (c.column, c.comparison, c.literals.join("|"))).collect()
    }

    #[track_caller]
    fn check(text: &str, column: &str, comparison: Comparison, literals: &str) {
        assert_eq!(conditions(text), [(column.to_owned(), comparison, literals.to_owned())], "{text}");
    }

    #[test]
    fn every_comparison_has_its_form() {
        check("total >= 100", "total", Comparison::Ge, "100");
        check("total<>-10.50", "total", Comparison::Ne, "-10.50");
        check("state = 'it''s; a:b'", "state", Comparison::Eq, "it's; a:b");
        check("`odd name`!='é'", "odd name", Comparison::Ne, "é");
        check("\"and\" < 1e-9", "and", Comparison::Lt, "1e-9");
        check("hash = x'00fF'", "hash", Comparison::Eq, "00fF");
        check("gift = TRUE", "gift", Comparison::Eq, "true");
        check("note IS NULL", "note", Comparison::IsNull, "");
        check("note is Not null", "note", Comparison::IsNotNull, "");
        check("state IN ('a', 'b',3)", "state", Comparison::OneOf, "a|b|3");
        assert_eq!(conditions("n between 1 and 5 and m > 2").len(), 3);
    }

    #[test]
    fn several_tables_have_predicates_of_their_own() {
        let all = parse_all("shop.orders: total >= 100; shop.items:qty = 1;").unwrap();
        let names: Vec<String> = all.iter().map(|one| one.table.to_string()).collect();
        assert_eq!(names, ["shop.orders", "shop.items"]);
    }

    #[test]
    fn what_is_no_predicate_says_what_belongs_there() {
        let cases = [
            (
                "total",
                "the end follows column `total`, where =, !=, <, <=, >, >=, between, in, or is [not] null belongs",
            ),
            ("total >=", "the end stands where a literal belongs; write a number, or text in single quotes"),
            (
                "state = paid",
                "\"paid\" stands where a literal belongs; write a number, or text in single quotes",
            ),
            (
                "a = 1 or b = 2",
                "it has an `or`; write `in (…)` where it is about one column, or register a `where` filter at \
              the relay",
            ),
            ("a = 1 b = 2", "\"b\" stands where `and` belongs"),
            ("a = 'x", "a quote ' is opened and not closed"),
            ("a in 1", "\"1\" stands where `(` belongs"),
            ("a is 1", "\"1\" stands where `null` belongs"),
            ("a = 1 and", "the end stands where a column belongs"),
            ("a # 1", "\"#\" is no part of a condition; text stands in single quotes"),
            ("a = 1; shop.b: c = 2", "it holds a `;`; give each table a predicate of its own"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_predicate("shop.orders", text).unwrap_err(), expected, "{text}");
        }
        for text in ["", "total > 1", "shop: a = 1", "shop.*: a = 1", "shop.a: b = 1; shop.a: c = 1"] {
            assert!(parse_all(text).is_err(), "{text}");
        }
    }
}
