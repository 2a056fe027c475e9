//! The files that fuzzing kept, and those that once broke a rule, in an ordinary test.

#[path = "../../fuzz/src/drive.rs"]
mod drive;

use std::{fs, path::Path};

fn play(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz")
        .join(folder);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}", path.display());
        drive::drive(&data);
        count += 1;
    }
    count
}

#[test]
fn the_corpus_breaks_no_rule() {
    assert_ne!(play("corpus/pipeline"), 0, "the corpus is there");
}

#[test]
fn what_once_broke_a_rule_does_not_any_more() {
    play("regressions/pipeline");
}

/// Without a fuzzer, some noise at least.
#[test]
fn noise_breaks_no_rule() {
    let mut state = 1_u64;
    for _ in 0..3000 {
        let data: Vec<u8> = (0..300)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        drive::drive(&data);
    }
}
