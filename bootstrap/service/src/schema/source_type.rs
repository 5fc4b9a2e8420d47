//! Which changes of a type, as the source spells it, leave every value what it was. Two types that are held alike in the
//! stream may differ at the source: `varchar(10)` has cut what `varchar(100)` held.

/// Whether every value of `old` is the same value in `new`. Case and spaces do not count.
pub(super) fn keeps_values(old: &str, new: &str) -> bool {
    let (old, new) = (old.to_lowercase(), new.to_lowercase());
    old == new || widens(&Spelt::of(&old), &Spelt::of(&new))
}

/// `decimal(10,2) unsigned` by its parts.
struct Spelt<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    rest: &'a str,
}

impl<'a> Spelt<'a> {
    fn of(text: &'a str) -> Spelt<'a> {
        let end = text.find(|c: char| c == '(' || c.is_whitespace()).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        match rest.strip_prefix('(').and_then(|rest| rest.rsplit_once(')')) {
            Some((arguments, rest)) => Spelt { name, arguments: split(arguments), rest: rest.trim() },
            None => Spelt { name, arguments: vec![], rest: rest.trim() },
        }
    }

    fn number(&self, at: usize) -> Option<u64> {
        self.arguments.get(at)?.trim().parse().ok()
    }

    /// The bytes or characters of a text of varying length.
    fn length(&self) -> Option<(&'static str, u64)> {
        Some(match self.name {
            "varchar" => ("text", self.number(0)?),
            "varbinary" => ("bytes", self.number(0)?),
            // Texts count bytes, and a character has up to four of them.
            "tinytext" => ("text", 255 / 4),
            "text" => ("text", 65_535 / 4),
            "mediumtext" => ("text", 16_777_215 / 4),
            "longtext" => ("text", u64::from(u32::MAX) / 4),
            "tinyblob" => ("bytes", 255),
            "blob" => ("bytes", 65_535),
            "mediumblob" => ("bytes", 16_777_215),
            "longblob" => ("bytes", u64::from(u32::MAX)),
            _ => return None,
        })
    }

    fn integer(&self) -> Option<usize> {
        ["tinyint", "smallint", "mediumint", "int", "bigint"].iter().position(|name| *name == self.name)
    }
}

/// Commas within quotes are part of a value.
fn split(arguments: &str) -> Vec<&str> {
    let (mut quoted, mut begin, mut parts) = (false, 0, vec![]);
    for (at, c) in arguments.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&arguments[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&arguments[begin..]);
    parts
}

fn widens(old: &Spelt<'_>, new: &Spelt<'_>) -> bool {
    if let (Some(was), Some(is)) = (old.integer(), new.integer()) {
        // The number in parentheses is how wide it is shown, and so is `zerofill`.
        let unsigned = |rest: &str| rest.contains("unsigned") || rest.contains("zerofill");
        return match (unsigned(old.rest), unsigned(new.rest)) {
            (true, false) => was < is,
            (false, true) => false,
            _ => was <= is,
        };
    }
    if old.rest != new.rest {
        return false;
    }
    if let (Some((was, from)), Some((is, to))) = (old.length(), new.length()) {
        return was == is && from <= to;
    }
    match (old.name, new.name) {
        ("float", "double") => old.arguments.is_empty() && new.arguments.is_empty(),
        ("decimal", "decimal") => {
            let shape = |t: &Spelt<'_>| Some((t.number(0)?, t.number(1).unwrap_or(0)));
            matches!((shape(old), shape(new)), (Some((p, s)), Some((q, t))) if s <= t && p - s <= q - t)
        }
        ("datetime" | "timestamp" | "time", name) if name == old.name => {
            old.number(0).unwrap_or(0) <= new.number(0).unwrap_or(0)
        }
        ("enum", "enum") | ("set", "set") => new.arguments.starts_with(&old.arguments),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::keeps_values;

    #[test]
    fn a_type_that_holds_every_value_of_another_keeps_them() {
        for (old, new) in [
            ("INT", "int"),
            ("int(11)", "bigint(20)"),
            ("tinyint unsigned", "smallint"),
            ("int(10) unsigned", "int(10) unsigned zerofill"),
            ("varchar(10)", "varchar(11)"),
            ("varchar(100)", "text"),
            ("blob", "longblob"),
            ("decimal(10,2)", "decimal(12,3)"),
            ("datetime", "datetime(6)"),
            ("enum('a','b,c')", "enum('a','b,c','d')"),
            ("float", "double"),
        ] {
            assert!(keeps_values(old, new), "{old} -> {new}");
        }
    }

    #[test]
    fn a_type_that_changes_values_or_may_does_not() {
        for (old, new) in [
            ("bigint", "int"),
            ("int", "mediumint"),
            ("int", "int unsigned"),
            ("int unsigned", "int"),
            ("varchar(11)", "varchar(10)"),
            ("varchar(100)", "tinytext"),
            ("varchar(10)", "char(10)"),
            ("char(5)", "char(6)"),
            ("binary(5)", "binary(6)"),
            ("text", "blob"),
            ("decimal(10,2)", "decimal(10,3)"),
            ("decimal(10,2)", "decimal(10,1)"),
            ("datetime(6)", "datetime"),
            ("datetime", "timestamp"),
            ("enum('a','b')", "enum('b','a')"),
            ("enum('a','b,c')", "enum('a','b','c')"),
            ("varchar(10)", "json"),
        ] {
            assert!(!keeps_values(old, new), "{old} -> {new}");
        }
    }
}
