//! Builds the catalogue: the guests that ship inside the binary. `src/catalogue.rs` embeds them.

#[path = "../../guests/builder.rs"]
mod builder;

use std::path::Path;

use builder::{build, fail};

/// Packages of `guests/` that are in the catalogue; `src/catalogue.rs` names them again.
const CATALOGUE: [&str; 7] = ["select", "where", "partition", "mask", "print", "mirror", "replica-check"];

fn main() {
    let guests =
        Path::new("../../guests").canonicalize().unwrap_or_else(|error| fail(&format!("guests: {error}")));
    build(&guests, &CATALOGUE.map(str::to_owned));
}
