//! The guests that ship inside the binary: `module = "builtin:where"`. `build.rs` builds them from
//! `guests/`.

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")).as_slice())),+]
    };
}

/// Name and component of each.
static CATALOGUE: [(&str, &[u8]); 7] =
    embedded!["select", "where", "partition", "mask", "print", "mirror", "replica-check"];

/// The component of that name, which is what stands after `builtin:`.
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    CATALOGUE.iter().find(|(known, _)| *known == name).map(|(_, wasm)| *wasm)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::{builtin, names};

    #[test]
    fn every_name_is_a_component() {
        // The preamble of a component: magic, version 13, layer 1.
        let preamble = b"\0asm\x0d\0\x01\0";
        assert_eq!(names().count(), 7);
        for name in names() {
            assert!(builtin(name).is_some_and(|wasm| wasm.starts_with(preamble)), "{name}");
        }
        assert_eq!(builtin("nothing"), None);
    }
}
