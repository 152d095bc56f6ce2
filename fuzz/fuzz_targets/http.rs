#![no_main]

libfuzzer_sys::fuzz_target!(|input: kv_fuzz::http::Input| kv_fuzz::http::check(&input));
