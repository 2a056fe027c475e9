//! What is said to be missing, and how.

use std::path::PathBuf;

use super::{Need, SETUP, linker, needs, report, wanted};
use crate::toolchain::{Compiler, LINKER_LLVM, Search, Version, Way};

fn compiler_with(llvm: u32) -> Compiler {
    Compiler {
        way: Way::BuildStd,
        rustc: PathBuf::from("/nightly/bin/rustc"),
        cargo: PathBuf::from("/nightly/bin/cargo"),
        version: Version {
            major: 1,
            minor: 99,
        },
        llvm,
    }
}

#[test]
fn an_empty_path_needs_everything() {
    let nowhere = PathBuf::from("/nonexistent");
    let search = Search {
        path: nowhere.clone().into(),
        system_rustc: nowhere.join("rustc"),
        tools: nowhere,
        choice: None,
    };
    let packages = wanted(&needs(&search).unwrap());
    for package in [
        "gcc",
        "curl",
        "rustc-web",
        "libstd-rust-web-dev-bpf",
        "llvm-22-dev",
    ] {
        assert!(
            packages.contains(&package),
            "{package} is not among {packages:?}"
        );
    }
}

#[test]
fn a_wrong_choice_is_an_error_not_a_need() {
    let mut search = Search::here(&crate::machine::root());
    search.choice = Some("gcc".to_owned());
    assert!(
        needs(&search)
            .unwrap_err()
            .to_string()
            .contains("BPVS_BPF_TOOLCHAIN")
    );
}

#[test]
fn each_package_is_asked_for_once() {
    let need = |packages| Need {
        what: String::new(),
        packages,
        elsewhere: String::new(),
        then: None,
    };
    let packages = wanted(&[need(&["curl", "gcc"]), need(&["gcc"])]);
    assert_eq!(packages, ["curl", "gcc"]);
}

#[test]
fn the_report_says_what_and_how() {
    let text = report(&[linker(None)], "not root", SETUP, <[_]>::to_vec);
    assert!(
        text.starts_with("1 thing is missing, and was not installed (not root):\n"),
        "{text}"
    );
    assert!(
        text.contains("apt-get install llvm-22-dev libllvm22\n"),
        "{text}"
    );
    assert!(
        text.contains("then:       LLVM_PREFIX=/usr/lib/llvm-22 cargo install"),
        "{text}"
    );
    assert!(
        text.ends_with("`cargo xtask setup` does all of it"),
        "{text}"
    );
}

#[test]
fn what_is_installed_is_not_asked_for_again() {
    let text = report(&[linker(None)], "not root", SETUP, |_| vec!["libllvm22"]);
    assert!(text.contains("apt-get install libllvm22\n"), "{text}");
    let text = report(&[linker(None)], "not root", SETUP, |_| Vec::new());
    assert!(
        !text.contains("apt-get") && text.contains("cargo install"),
        "{text}"
    );
}

#[test]
fn a_newer_llvm_wants_a_linker_of_its_own() {
    let need = linker(Some(&compiler_with(LINKER_LLVM + 1)));
    let wanted = format!(
        "a bpf-linker that was built with LLVM {} or newer",
        LINKER_LLVM + 1
    );
    assert!(need.elsewhere.contains(&wanted), "{}", need.elsewhere);
    assert_eq!(need.then, None);
}
