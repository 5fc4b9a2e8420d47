//! The folder of a table.

use tidemill_event::TableName;

/// The folder of a table, `database.table`: what a path or a URL could not hold, and the dot, is escaped in both parts as
/// `!` and two hexadecimal digits. Not as `%` and digits: whoever makes a URL of the path would have to escape that once more,
/// and readers do not agree on it.
pub fn table_root(name: &TableName) -> String {
    format!("{}.{}", escaped(&name.database), escaped(&name.table))
}

fn escaped(part: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'$' => text.push(char::from(byte)),
            _ => write!(text, "!{byte:02X}").expect("text takes text"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_different_tables_differ() {
        let names = [("a", "b.c"), ("a.b", "c"), ("a", "b/c"), ("a", "b!2Fc"), ("a", "B.c"), ("ä", "b")];
        let roots: std::collections::BTreeSet<String> =
            names.iter().map(|(database, table)| table_root(&TableName::new(*database, *table))).collect();
        assert_eq!(roots.len(), names.len());
        assert!(roots.contains("a.b!2Ec") && roots.contains("!C3!A4.b"), "{roots:?}");
    }

    #[test]
    fn an_ordinary_name_is_its_own_folder() {
        assert_eq!(table_root(&TableName::new("shop", "order_items")), "shop.order_items");
    }
}
