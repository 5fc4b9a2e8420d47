//! The one suite that every fetcher passes.
