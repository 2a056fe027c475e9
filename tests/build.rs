//! Builds the program of the Swarm's tasks (`src/swarm/task.rs`), statically: an image is made of nothing else.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    const SOURCE: &str = "src/swarm/task.rs";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=src/pattern.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let output = PathBuf::from(variable("OUT_DIR")).join("swarm-task");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-name", "swarm_task"])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "target-feature=+crt-static"])
        .arg("-o")
        .arg(&output)
        .arg(SOURCE)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{SOURCE}: rustc ended with {status}"),
        Err(error) => panic!("{SOURCE}: cannot start rustc: {error}"),
    }
}
