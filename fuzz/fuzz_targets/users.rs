#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kv_fuzz::users::check(input));
