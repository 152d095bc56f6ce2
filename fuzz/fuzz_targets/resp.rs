#![no_main]

libfuzzer_sys::fuzz_target!(|input: kv_fuzz::resp::Input| kv_fuzz::resp::check(&input));
