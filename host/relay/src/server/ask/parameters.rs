//! The parameters of a request as texts: from a query, or from the members of a JSON object. Each at most once. What they
//! mean is not known here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::problem::{Code, Problem};

/// Names and values.
#[derive(Debug, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

/// What people call their tokens when they put them where everybody on the way can read them.
const SECRETS: [&str; 7] =
    ["token", "access_token", "auth", "authorization", "bearer", "api_key", "password"];

impl Parameters {
    /// Adds those of a query. `%XX` is decoded; a `+` is a plus sign, since times and lists have some.
    pub(crate) fn add_query(&mut self, query: &str) -> Result<(), Problem> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => self.add(name, value)?,
                _ => return Err(bad("the query is not percent-encoded UTF-8")),
            }
        }
        Ok(())
    }

    /// Adds the members of a JSON object: texts, numbers, and true or false.
    pub(crate) fn add_json(&mut self, body: &[u8]) -> Result<(), Problem> {
        let unreadable = || bad("the body is not a JSON object; send the parameters as its members");
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return Err(unreadable()) };
        for (name, value) in members {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(bool) => bool.to_string(),
                _ => return Err(bad(format!("`{}` is not a text, a number, true or false", shown(&name)))),
            };
            self.add(name, text)?;
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: String) -> Result<(), Problem> {
        if self.0.contains_key(&name) {
            return Err(bad(format!("`{}` is given twice", shown(&name))));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Takes one out, if it is there.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Refuses what nobody took. `known`: the names that there are.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), Problem> {
        let Some(name) = self.0.into_keys().next() else { return Ok(()) };
        if SECRETS.contains(&name.to_ascii_lowercase().as_str()) {
            let detail = "a token does not belong into a URL or a body, where others read it; send it as \
                          `Authorization: Bearer TOKEN`, and replace this one";
            return Err(bad(detail));
        }
        let known = match known {
            [] => "this path takes none".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        Err(bad(format!("there is no parameter `{}`; {known}", shown(&name))))
    }
}

/// A parameter that cannot be read.
pub(crate) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadParameter, detail)
}

/// So much of a name or value as an answer repeats.
pub(crate) fn shown(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}

/// Decodes `%XX`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((digit(digits[0])? << 4 | digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut parameters = Parameters::default();
        parameters.add_query(text).map_err(|problem| problem.detail)?;
        Ok(parameters.0.into_iter().collect())
    }

    #[test]
    fn a_query_is_decoded_and_keeps_its_plus_signs() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query("columns=shop.orders:id+note&from=time:2026-11-20T08:00:00%2B01:00&x").unwrap(),
            [
                pair("columns", "shop.orders:id+note"),
                pair("from", "time:2026-11-20T08:00:00+01:00"),
                pair("x", "")
            ]
        );
        for broken in ["a=%", "a=%4", "a=%gg", "a=%ff", "a=1&a=2", "%61=1&a=2"] {
            assert!(query(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_members_of_a_body_are_parameters() {
        let mut parameters = Parameters::default();
        parameters.add_json(br#"{"tables":"shop.*","bytes":12,"follow":false}"#).unwrap();
        assert_eq!(parameters.take("bytes").unwrap(), "12");
        assert_eq!(parameters.take("follow").unwrap(), "false");
        for broken in [&b"[]"[..], b"", b"{\"a\":null}", b"{\"a\":[1]}", b"{\"tables\":\"a.b\"}"] {
            assert!(parameters.add_json(broken).is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn b53_a_token_in_a_url_is_refused_and_not_repeated() {
        let mut parameters = Parameters::default();
        parameters.add_query("access_token=s3cret").unwrap();
        let problem = parameters.finish(&["from"]).unwrap_err();
        assert_eq!(problem.code, Code::BadParameter);
        assert!(problem.detail.contains("Authorization") && !problem.detail.contains("s3cret"));
    }
}
