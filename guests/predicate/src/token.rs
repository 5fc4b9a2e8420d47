//! Text to tokens, each with its place for error messages.

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A plain word: a keyword or a column.
    Word(String),
    /// A column in backquotes or double quotes.
    Name(String),
    /// `-12`, `10.5`
    Number(String),
    /// `'text'`
    Text(String),
    /// `x'00ff'`
    Bytes(Vec<u8>),
    /// An operator, a parenthesis or a comma.
    Symbol(&'static str),
}

/// A token and where it begins, in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Where it begins.
    pub at: usize,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 10] = ["<=", ">=", "<>", "!=", "=", "<", ">", "(", ")", ","];

/// Splits a predicate into tokens.
pub fn tokens(text: &str) -> Result<Vec<Placed>, String> {
    let mut left = Scanner { rest: text, at: 1 };
    let mut tokens = Vec::new();
    loop {
        left.skip_space();
        if left.rest.is_empty() {
            return Ok(tokens);
        }
        let at = left.at;
        tokens.push(Placed { token: left.next()?, at });
    }
}

struct Scanner<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn skip_space(&mut self) {
        let end = self.rest.find(|c: char| !c.is_whitespace()).unwrap_or(self.rest.len());
        self.take(end);
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.at += taken.chars().count();
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Result<Token, String> {
        let first = self.rest.chars().next().unwrap_or_default();
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| self.rest.starts_with(symbol)) {
            self.take(symbol.len());
            return Ok(Token::Symbol(symbol));
        }
        match first {
            '\'' => self.quoted('\'').map(Token::Text),
            '`' | '"' => self.quoted(first).map(Token::Name),
            'x' | 'X' if self.rest[1..].starts_with('\'') => self.bytes(),
            '-' | '+' | '.' | '0'..='9' => self.number(),
            c if c.is_alphabetic() || c == '_' => Ok(Token::Word(self.word().to_owned())),
            c => Err(format!("character {}: {c:?} has no meaning here", self.at)),
        }
    }

    fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// Up to the closing quote; a doubled quote is one.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let at = self.at;
        self.take(quote.len_utf8());
        let mut text = String::new();
        loop {
            let Some(end) = self.rest.find(quote) else {
                return Err(format!("character {at}: the quote {quote} is not closed"));
            };
            text.push_str(self.take(end));
            self.take(quote.len_utf8());
            if !self.rest.starts_with(quote) {
                return Ok(text);
            }
            text.push(quote);
            self.take(quote.len_utf8());
        }
    }

    fn bytes(&mut self) -> Result<Token, String> {
        let at = self.at;
        self.take(1);
        let digits = self.quoted('\'')?;
        let bytes =
            hex(&digits).ok_or_else(|| format!("character {at}: x'…' takes pairs of hexadecimal digits"))?;
        Ok(Token::Bytes(bytes))
    }

    fn number(&mut self) -> Result<Token, String> {
        let at = self.at;
        let end = self.rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_'));
        let text = self.take(end.map_or(self.rest.len(), |end| end + 1));
        match tidemill_guest::Decimal::parse(text.as_bytes()) {
            Some(_) => Ok(Token::Number(text.to_owned())),
            None => Err(format!("character {at}: {text:?} is no number; write 12, -12 or 12.50")),
        }
    }
}

/// Pairs of hexadecimal digits as bytes.
pub fn hex(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|c| c.is_ascii_hexdigit());
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    if is_hex { (0..digits.len()).step_by(2).map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Token, tokens};

    fn check(text: &str, expected: &[Token]) {
        let found: Vec<Token> =
            tokens(text).unwrap_or_else(|error| panic!("{error}")).into_iter().map(|t| t.token).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_token_is_known() {
        use Token::{Bytes, Name, Number, Symbol, Text, Word};
        check("a<=-12", &[Word("a".into()), Symbol("<="), Number("-12".into())]);
        check("`a b`<>'it''s'", &[Name("a b".into()), Symbol("<>"), Text("it's".into())]);
        check("x'00fF',x", &[Bytes(vec![0, 255]), Symbol(","), Word("x".into())]);
        check(" \"é\" ", &[Name("é".into())]);
    }

    #[test]
    fn errors_tell_the_place() {
        for (text, expected) in [
            ("a = 'b", "character 5: the quote ' is not closed"),
            ("é ; b", "character 3: ';' has no meaning here"),
            ("a > 1e5", "character 5: \"1e5\" is no number; write 12, -12 or 12.50"),
            ("a = x'0'", "character 5: x'…' takes pairs of hexadecimal digits"),
        ] {
            assert_eq!(tokens(text), Err(expected.to_owned()), "{text}");
        }
    }
}
