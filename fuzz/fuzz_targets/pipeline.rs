//! `cargo fuzz run pipeline`: any packets, changes and waits, in any order.

#![no_main]

#[path = "../src/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::drive(data));
