//! The `partition` parameter, as the configuration of the catalogue's guest of that name. The guest checks what only it
//! can know: whether the column is there and has an order.

use serde_json::{Value, json};

use super::parameters::{bad, shown};
use crate::asked::Part;
use crate::problem::Problem;

/// More parts than any group has members.
const PARTS_MAX: u64 = 65_536;

/// `hash:TAKE/OF`, `mod:TAKE/OF:COLUMN`, `range:TAKE:B1+B2+…:COLUMN`. A part of the key's hash may name a column too.
///
/// A bound that reads as a number is one; a text that reads as a number stands in `'…'`.
pub(crate) fn read(text: &str) -> Result<Part, Problem> {
    let unreadable = || {
        bad(format!(
            "`partition` cannot be \"{}\"; give hash:TAKE/OF, mod:TAKE/OF:COLUMN or range:TAKE:BOUND+BOUND:COLUMN, where \
             TAKE is one part from 0 on, or several with +",
            shown(text)
        ))
    };
    let config = config(text).ok_or_else(unreadable)?;
    Ok(Part { config: config.to_string() })
}

fn config(text: &str) -> Option<Value> {
    let (by, rest) = text.split_once(':')?;
    match by {
        "hash" => {
            let (parts, column) = rest.split_once(':').map_or((rest, None), |(p, c)| (p, Some(c)));
            let (take, of) = parts.split_once('/')?;
            let of = count(of)?;
            let mut config = json!({ "by": "hash", "of": of, "take": taken(take, of)? });
            if let Some(column) = column {
                config["column"] = json!(named(column)?);
            }
            Some(config)
        }
        "mod" => {
            let (parts, column) = rest.split_once(':')?;
            let (take, of) = parts.split_once('/')?;
            let of = count(of)?;
            Some(json!({ "by": "mod", "of": of, "take": taken(take, of)?, "column": named(column)? }))
        }
        "range" => {
            let (take, rest) = rest.split_once(':')?;
            // Bounds may be times, which hold colons; columns hold none.
            let (bounds, column) = rest.rsplit_once(':')?;
            let bounds: Vec<Value> = bounds.split('+').map(bound).collect::<Option<_>>()?;
            let take = taken(take, bounds.len() as u64 + 1)?;
            Some(json!({ "by": "range", "bounds": bounds, "take": take, "column": named(column)? }))
        }
        _ => None,
    }
}

fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| (1..=PARTS_MAX).contains(count))
}

fn named(column: &str) -> Option<&str> {
    (!column.is_empty()).then_some(column)
}

/// The parts, ascending, so that equal choices are equal texts.
fn taken(text: &str, of: u64) -> Option<Vec<u64>> {
    let mut take: Vec<u64> = text.split('+').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    take.sort_unstable();
    let is_sound =
        take.windows(2).all(|pair| pair[0] < pair[1]) && take.last().is_some_and(|last| *last < of);
    is_sound.then_some(take)
}

fn bound(text: &str) -> Option<Value> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return quoted.strip_suffix('\'').map(Value::from);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = is_number.then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    (!text.is_empty()).then(|| number.unwrap_or_else(|| Value::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(read(text).unwrap().config, expected);
    }

    #[test]
    fn a_part_is_the_configuration_of_the_guest() {
        check("hash:0/4", r#"{"by":"hash","of":4,"take":[0]}"#);
        check("hash:3+0/8", r#"{"by":"hash","of":8,"take":[0,3]}"#);
        check("hash:0/4:region", r#"{"by":"hash","column":"region","of":4,"take":[0]}"#);
        check("mod:1/4:customer_id", r#"{"by":"mod","column":"customer_id","of":4,"take":[1]}"#);
        check("range:1:-5+10.5:amount", r#"{"bounds":[-5,10.5],"by":"range","column":"amount","take":[1]}"#);
        check("range:0+1:m+'7':name", r#"{"bounds":["m","7"],"by":"range","column":"name","take":[0,1]}"#);
        check(
            "range:0:2026-01-01T00:00:00:at",
            r#"{"bounds":["2026-01-01T00:00:00"],"by":"range","column":"at","take":[0]}"#,
        );
    }

    #[test]
    fn a_part_that_is_none_is_refused() {
        for text in [
            "",
            "hash",
            "hash:",
            "hash:0",
            "hash:4/4",
            "hash:0+0/4",
            "hash:/4",
            "hash:0/0",
            "hash:0/65537",
            "hash:-1/4",
            "mod:0/4",
            "mod:0/4:",
            "range:0:c",
            "range:2:5:c",
            "range:0::c",
            "range:0:5+:c",
            "range:0:'5:c",
            "list:0/4",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
