#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::api_change(data));
