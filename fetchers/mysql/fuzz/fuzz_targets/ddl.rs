//! Drives `tidemill_fetchers_mysql::fuzz::definition`, which says what the bytes are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fetchers_mysql::fuzz::definition(data));
