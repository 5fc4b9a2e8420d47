//! Style that a machine can hold: who may name whom, and how long files and functions may be. The tests are in
//! `tests/`; this crate has no code of its own.
