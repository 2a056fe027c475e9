//! Builds the eBPF programs (`lb-ebpf`) and hands the object to this crate.
//!
//! The object's path is in `BPVS_BPF_OBJECT` at compile time. The nested build has a compiler, a
//! target folder and an environment of its own: the compiler of the host build may know nothing of
//! BPF, and must not pass on its flags or wrappers.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use toolchain::{CHOICE, Search, TARGET};

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "shared with xtask, which uses all of it")]
mod toolchain;

fn main() -> ExitCode {
    match build() {
        Ok(Some(object)) => {
            println!("cargo::rustc-env=BPVS_BPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        // The compiler has said what is wrong; cargo shows it when a script fails.
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            // One clear error by cargo's own means, instead of a failed script's whole output.
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::SUCCESS
        }
    }
}

/// The path of the object, or `None` where its sources do not compile.
fn build() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = package
        .parent()
        .ok_or("this package has no workspace around it")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);

    println!("cargo::rerun-if-env-changed={CHOICE}");
    for input in [
        "lb-ebpf/src",
        "lb-ebpf/Cargo.toml",
        "lb-common/src",
        "lb-common/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        "xtask/src/toolchain.rs",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    let toolchain = Search::here(root).toolchain().map_err(|missing| {
        format!(
            "the eBPF programs cannot be built: {missing}\n\
             `cargo xtask setup` installs what is needed, or says how to"
        )
    })?;
    println!(
        "cargo::rerun-if-changed={}",
        toolchain.compiler.rustc.display()
    );
    println!(
        "cargo::rerun-if-changed={}",
        toolchain.linker.path.display()
    );

    let target = target_folder(&out);
    let status = toolchain
        .build_command(root, &target)
        .status()
        .map_err(|error| format!("{}: {error}", toolchain.compiler.cargo.display()))?;
    if !status.success() {
        return Ok(None);
    }

    let built = target.join(TARGET).join("release/bpvs");
    let object = out.join("bpvs.bpf.o");
    fs::copy(&built, &object).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(Some(object))
}

/// A folder beside the profiles, so that debug, release and clippy share one build of the programs;
/// not the outer build's own, whose lock is taken.
fn target_folder(out: &Path) -> PathBuf {
    // TARGET/PROFILE/build/PACKAGE/out, or deeper.
    let build = out.ancestors().find(|folder| folder.ends_with("build"));
    let target = build.and_then(Path::parent).and_then(Path::parent);
    target.unwrap_or(out).join("bpf")
}
