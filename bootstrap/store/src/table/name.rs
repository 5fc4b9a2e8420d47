//! The folder of a table.

use tidemill_event::TableName;

/// The folder of a table, `database.table`: what a path or a URL could not hold, and the dot, is escaped in both parts as
/// `!` and two hexadecimal digits. Not as `%` and digits: whoever makes a URL of the path would have to escape that once more,
/// and readers do not agree on it. File systems take 255 bytes: what is longer is cut, and told apart by a checksum.
pub fn table_root(name: &TableName) -> String {
    let mut root = format!("{}.{}", escaped(&name.database), escaped(&name.table));
    if root.len() > ROOT_BYTES_MAX {
        // No escape is written like this.
        let sum = format!("!-{:016x}", checksum(root.as_bytes()));
        root.truncate(CUT_ROOT_BYTES - sum.len());
        root += &sum;
    }
    root
}

/// The longest name of a folder, and how long one is that was cut.
const ROOT_BYTES_MAX: usize = 255;
const CUT_ROOT_BYTES: usize = 200;

/// FNV-1a. In the names of folders: keep.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
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
    fn a_name_that_no_file_system_takes_is_cut_and_told_apart_from_others() {
        let long = |end: &str| table_root(&TableName::new("d", format!("{}{end}", "表".repeat(63))));
        assert_eq!(long("一").len(), 200);
        assert!(long("一") != long("二") && long("一").starts_with("d.!E8!A1!A8!E8"), "{}", long("一"));
        assert!(long("一").ends_with("!-9c4db88cccf64bba"), "{}", long("一"));
        let whole = TableName::new("d".repeat(64), "t".repeat(64));
        assert_eq!(table_root(&whole), format!("{}.{}", whole.database, whole.table));
    }

    #[test]
    fn an_ordinary_name_is_its_own_folder() {
        assert_eq!(table_root(&TableName::new("shop", "order_items")), "shop.order_items");
    }
}
