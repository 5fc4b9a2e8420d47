//! Drives `tidemill_fetchers_mysql::fuzz::json_difference`, which says what the bytes are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fetchers_mysql::fuzz::json_difference(data));
