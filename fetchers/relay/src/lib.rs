//! A relay as a source: follows an upstream relay and gives its windows as they are, frames included, so that a chained
//! log holds the same bytes.
