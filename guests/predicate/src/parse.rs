//! Tokens to a tree. Types come later, when the table is known.

use crate::token::{Placed, Token, tokens};

/// A parsed predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Its text, for messages.
    pub text: String,
    /// Its tree.
    pub expr: Expr,
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// all of them
    And(Vec<Expr>),
    /// one of them
    Or(Vec<Expr>),
    /// not this
    Not(Box<Expr>),
    /// a leaf
    Test(Test),
}

/// One column, tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The column's name.
    pub column: String,
    /// What is asked of it.
    pub operation: Operation,
}

/// What is asked of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `< 5`
    Compare(Comparison, Literal),
    /// `in (1, 2)`
    OneOf(Vec<Literal>),
    /// `between 1 and 2`, both included
    Between(Literal, Literal),
    /// `like 'a%'`
    Like(String),
    /// `is null`
    IsNull,
    /// `is not null`
    IsNotNull,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value in the text of a predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// plain decimal text
    Number(String),
    /// text, or a date or time
    Text(String),
    /// bytes
    Bytes(Vec<u8>),
    /// true or false
    Bool(bool),
}

impl core::fmt::Display for Literal {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Literal::Number(text) => out.write_str(text),
            Literal::Text(text) => write!(out, "'{}'", text.replace('\'', "''")),
            Literal::Bytes(bytes) => {
                out.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
                out.write_str("'")
            }
            Literal::Bool(value) => write!(out, "{value}"),
        }
    }
}

/// Deeper trees than anyone writes; a bound on the stack that judging takes.
const DEPTH_MAX: usize = 64;

impl Predicate {
    /// Parses a predicate.
    ///
    /// # Errors
    /// What is wrong, at which character, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let in_context = |error: String| format!("predicate {text:?}: {error}");
        let tokens = tokens(text).map_err(in_context)?;
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
        let expr = parser.whole().map_err(in_context)?;
        Ok(Predicate { text: text.to_owned(), expr })
    }
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn whole(&mut self) -> Result<Expr, String> {
        let expr = self.any_of()?;
        match self.peek() {
            None => Ok(expr),
            Some(_) => Err(self.unexpected("`and`, `or` or the end")),
        }
    }

    fn any_of(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.all_of()?];
        while self.take_word("or") {
            parts.push(self.all_of()?);
        }
        Ok(joined(parts, Expr::Or))
    }

    fn all_of(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.negation()?];
        while self.take_word("and") {
            parts.push(self.negation()?);
        }
        Ok(joined(parts, Expr::And))
    }

    fn negation(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels of `not` and parentheses"));
        }
        let expr = if self.take_word("not") { not(self.negation()?) } else { self.primary()? };
        self.depth -= 1;
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        if self.take_symbol("(") {
            let inner = self.any_of()?;
            self.need_symbol(")")?;
            return Ok(inner);
        }
        let column = self.column()?;
        let negated = self.take_word("not");
        let operation = self.operation(negated)?;
        let test = Expr::Test(Test { column, operation });
        Ok(if negated { not(test) } else { test })
    }

    fn column(&mut self) -> Result<String, String> {
        let name = match self.peek() {
            Some(Token::Name(name)) => name.clone(),
            Some(Token::Word(word)) if !is_keyword(word) => word.clone(),
            _ => {
                return Err(
                    self.unexpected("a column (a column that is named like a keyword stands in backquotes)")
                );
            }
        };
        self.at += 1;
        Ok(name)
    }

    fn operation(&mut self, negated: bool) -> Result<Operation, String> {
        if self.take_word("in") {
            return self.list().map(Operation::OneOf);
        }
        if self.take_word("between") {
            let low = self.literal()?;
            self.need_word("and")?;
            return Ok(Operation::Between(low, self.literal()?));
        }
        if self.take_word("like") {
            return self.pattern().map(Operation::Like);
        }
        if negated {
            return Err(self.unexpected("`in`, `between` or `like` after `not`"));
        }
        if self.take_word("is") {
            let is_null = !self.take_word("not");
            self.need_word("null")?;
            return Ok(if is_null { Operation::IsNull } else { Operation::IsNotNull });
        }
        match self.take_comparison() {
            Some(comparison) => Ok(Operation::Compare(comparison, self.literal()?)),
            None if self.ends_here() => Ok(Operation::Compare(Comparison::Equal, Literal::Bool(true))),
            None => Err(self.unexpected("a comparison")),
        }
    }

    /// Whether a column stands by itself.
    fn ends_here(&self) -> bool {
        match self.peek() {
            None | Some(Token::Symbol(")")) => true,
            Some(Token::Word(word)) => word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or"),
            _ => false,
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        self.need_symbol("(")?;
        let mut literals = vec![self.literal()?];
        while self.take_symbol(",") {
            literals.push(self.literal()?);
        }
        self.need_symbol(")")?;
        Ok(literals)
    }

    fn pattern(&mut self) -> Result<String, String> {
        match self.literal()? {
            Literal::Text(pattern) => Ok(pattern),
            other => Err(format!("`like` takes a pattern in quotes, not {other}")),
        }
    }

    fn literal(&mut self) -> Result<Literal, String> {
        let literal = match self.peek() {
            Some(Token::Number(text)) => Literal::Number(text.clone()),
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Bytes(bytes)) => Literal::Bytes(bytes.clone()),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Literal::Bool(true),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Literal::Bool(false),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => {
                return Err(self.unexpected("a value; nothing equals NULL, write `is null` or `is not null`"));
            }
            _ => return Err(self.unexpected("a value (text stands in single quotes)")),
        };
        self.at += 1;
        Ok(literal)
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let Some(Token::Symbol(symbol)) = self.peek() else { return None };
        let comparison = match *symbol {
            "=" => Comparison::Equal,
            "!=" | "<>" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    fn take_word(&mut self, expected: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(expected));
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, expected: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(symbol)) if *symbol == expected);
        self.at += usize::from(found);
        found
    }

    fn need_word(&mut self, expected: &str) -> Result<(), String> {
        if self.take_word(expected) { Ok(()) } else { Err(self.unexpected(&format!("`{expected}`"))) }
    }

    fn need_symbol(&mut self, expected: &str) -> Result<(), String> {
        if self.take_symbol(expected) { Ok(()) } else { Err(self.unexpected(&format!("`{expected}`"))) }
    }

    fn unexpected(&self, expected: &str) -> String {
        match self.tokens.get(self.at) {
            Some(Placed { token, at }) => {
                format!("character {at}: expected {expected}, found {}", shown(token))
            }
            None => format!("it ends where {expected} was expected"),
        }
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Name(text) | Token::Number(text) => format!("`{text}`"),
        Token::Text(text) => format!("'{text}'"),
        Token::Bytes(_) => "x'…'".to_owned(),
        Token::Symbol(symbol) => format!("`{symbol}`"),
    }
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 10] = ["and", "or", "not", "in", "between", "is", "null", "like", "true", "false"];
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

fn joined(mut parts: Vec<Expr>, join: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

#[cfg(test)]
mod tests {
    use super::{Expr, Predicate};

    /// The tree with every pair of parentheses written out.
    fn shown(expr: &Expr) -> String {
        let list = |parts: &[Expr], word: &str| {
            format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join(word))
        };
        match expr {
            Expr::And(parts) => list(parts, " & "),
            Expr::Or(parts) => list(parts, " | "),
            Expr::Not(inner) => format!("!{}", shown(inner)),
            Expr::Test(test) => test.column.clone(),
        }
    }

    fn check(text: &str, expected: &str) {
        match Predicate::parse(text) {
            Ok(predicate) => assert_eq!(shown(&predicate.expr), expected, "{text}"),
            Err(error) => assert_eq!(error, format!("predicate {text:?}: {expected}")),
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        check("a = 1 or b = 2 and not c = 3", "(a | (b & !c))");
        check("(a = 1 OR b = 2) AND c = 3", "((a | b) & c)");
        check("not (a in (1,2) or b between 1 and 2 and c is null)", "!(a | (b & c))");
        check("a not like 'x%' and `and` is not null and active", "(!a & and & active)");
    }

    #[test]
    fn errors_tell_the_place_and_what_would_be_right() {
        check(
            "a = null",
            "character 5: expected a value; nothing equals NULL, write `is null` or `is not null`, found `null`",
        );
        check("a = active", "character 5: expected a value (text stands in single quotes), found `active`");
        check("a >", "it ends where a value (text stands in single quotes) was expected");
        check("(a = 1", "it ends where `)` was expected");
        check("a = 1 b = 2", "character 7: expected `and`, `or` or the end, found `b`");
        check("a not = 1", "character 7: expected `in`, `between` or `like` after `not`, found `=`");
        check(
            "5 < a",
            "character 1: expected a column (a column that is named like a keyword stands in backquotes), found `5`",
        );
        check(&"(".repeat(100), "more than 64 levels of `not` and parentheses");
    }
}
