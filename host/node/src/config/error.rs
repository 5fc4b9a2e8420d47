//! Configuration errors: file, line, what is wrong, and the nearest right word.

use std::path::{Path, PathBuf};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something wrong.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and how to mend it.
        what: String,
    },
}

pub(super) fn at(text: &str, path: &Path, offset: usize, what: String) -> ConfigError {
    let line = text[..offset.min(text.len())].matches('\n').count() + 1;
    ConfigError::Wrong { path: path.to_owned(), line, what }
}

/// A parser's error, in our words where it is about a key.
pub(super) fn of_toml(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let what = match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let near = nearest(unknown, known).map_or_else(
                || format!("the keys here are: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            format!("unknown key `{unknown}`; {near}")
        }
        Some((unknown, known)) if message.starts_with("unknown variant") => {
            let near = nearest(unknown, known).map_or_else(
                || format!("write one of: {}", known.join(", ")),
                |n| format!("did you mean `{n}`?"),
            );
            format!("unknown value `{unknown}`; {near}")
        }
        Some((missing, _)) if message.starts_with("missing field") => format!("`{missing}` is missing"),
        _ => message.to_owned(),
    };
    at(text, path, error.span().map_or(0, |span| span.start), what)
}

/// The known word that is at most two edits away, the nearest first.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (edits(word, k), *k));
    scored.filter(|(edits, _)| *edits <= 2).min().map(|(_, k)| k)
}

/// The number of single-character edits between two words.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.pop().expect("a row has at least one place")
}
