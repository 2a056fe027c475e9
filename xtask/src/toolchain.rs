//! Which compiler and which linker build the eBPF programs.
//!
//! This file is shared: xtask has it as a module, and `lb-user/build.rs` includes it by path, so
//! that what `cargo xtask setup` finds good is what the build uses. Therefore std only.
//!
//! There are two ways to a `core` for the BPF target. A distribution's compiler may carry it ready
//! built (Debian's `libstd-rust-web-dev-bpf`); or a rustup nightly with the component `rust-src`
//! builds it (`-Z build-std`). Nothing is assumed: each compiler is asked what it has.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

// By path, for this file is in two crates, at two places of their trees.
#[cfg(test)]
#[path = "toolchain/tests.rs"]
mod tests;

/// The target triple of the programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// `cpu=v3` has the atomic instructions that return the old value; BTF is made from debug info.
const RUSTFLAGS: &str = "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3";

/// The oldest rustc that compiles the workspace but xtask: aya as pinned wants 1.87, `if let … &&` 1.88.
pub(crate) const OLDEST_RUSTC: Version = Version {
    major: 1,
    minor: 88,
};

/// The version of bpf-linker that `cargo xtask setup` builds.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// The major version of the LLVM that it is built against: it reads no bitcode of a newer one.
pub(crate) const LINKER_LLVM: u32 = 22;

/// Environment variable that decides between the two ways where both are open:
/// `prebuilt` or `nightly`.
pub(crate) const CHOICE: &str = "BPVS_BPF_TOOLCHAIN";

/// A rustc version, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// Reads the front of `1.96.0`, `1.97.0-nightly` or `1.96.0+dfsg1-1~deb12u2`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.');
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: leading_number(numbers.next()?)?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How a compiler comes by its `core` for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is installed beside the compiler.
    Prebuilt,
    /// It is built from `rust-src`, by a nightly.
    BuildStd,
}

/// A compiler that can build the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) way: Way,
    pub(crate) rustc: PathBuf,
    /// The cargo of the same toolchain.
    pub(crate) cargo: PathBuf,
    pub(crate) version: Version,
    /// Major version of the LLVM inside.
    pub(crate) llvm: u32,
}

/// A bpf-linker that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// The newest LLVM major version whose bitcode it reads, where that is known.
    pub(crate) llvm: Option<u32>,
}

/// Both, fitting each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
}

impl Toolchain {
    /// The command that builds lb-ebpf, of the workspace at `root`, into the folder `target`.
    pub(crate) fn build_command(&self, root: &Path, target: &Path) -> Command {
        let mut command = Command::new(&self.compiler.cargo);
        command
            .env_clear()
            .envs(env::vars_os().filter(|(name, _)| is_kept(name)));
        command
            .env("RUSTC", &self.compiler.rustc)
            .env("RUSTFLAGS", RUSTFLAGS)
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker.path)
            // An empty wrapper is none, whatever a configuration file names.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            // A member's own profile is ignored, and the workspace's is the host's.
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_LTO", "true")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
        command
            .args(["build", "--release", "--manifest-path"])
            .arg(root.join("lb-ebpf/Cargo.toml"));
        command
            .args(["--bin", "bpvs", "--target", TARGET, "--target-dir"])
            .arg(target);
        match self.compiler.way {
            // The programs use unstable features, which a stable compiler opens by this variable.
            Way::Prebuilt => command.env("RUSTC_BOOTSTRAP", "1"),
            Way::BuildStd => command.args(["-Z", "build-std=core"]),
        };
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.compiler.way {
            Way::Prebuilt => "prebuilt core",
            Way::BuildStd => "nightly, core built from rust-src",
        };
        write!(
            f,
            "{} ({}, LLVM {}, {how}), {}",
            self.compiler.rustc.display(),
            self.compiler.version,
            self.compiler.llvm,
            self.linker.path.display()
        )
    }
}

/// What stands in the way of building the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No compiler has `core` for BPF.
    Compiler,
    /// There is a compiler, but no linker that starts and reads its bitcode.
    Linker { compiler: Box<Compiler> },
    /// The variable [`CHOICE`] holds something else than the two words.
    Choice { value: String },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(
                f,
                "no Rust compiler with `core` for {TARGET} (rustc {OLDEST_RUSTC} or newer)"
            ),
            Self::Linker { compiler } => write!(
                f,
                "no bpf-linker that works and reads the LLVM {} bitcode of {}",
                compiler.llvm,
                compiler.rustc.display()
            ),
            Self::Choice { value } => {
                write!(
                    f,
                    "{CHOICE} is `{value}`; it can be `prebuilt` or `nightly`"
                )
            }
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Folders of programs, as in `PATH`.
    pub(crate) path: OsString,
    /// Where a distribution puts its compiler: rustup's own comes first on `PATH` and hides it.
    pub(crate) system_rustc: PathBuf,
    /// Where `cargo xtask setup` puts the linker.
    pub(crate) tools: PathBuf,
    /// The value of [`CHOICE`].
    pub(crate) choice: Option<String>,
}

impl Search {
    /// The machine as it is, for the workspace at `root`.
    pub(crate) fn here(root: &Path) -> Self {
        Self {
            path: env::var_os("PATH").unwrap_or_default(),
            system_rustc: PathBuf::from("/usr/bin/rustc"),
            tools: root.join("target/tools/bin"),
            choice: env::var(CHOICE).ok().filter(|choice| !choice.is_empty()),
        }
    }

    /// The compiler and linker to use.
    ///
    /// A prebuilt `core` comes first where there are both: it is the one that does not change from
    /// night to night. A compiler without a fitting linker gives way to one that has it.
    ///
    /// # Errors
    ///
    /// [`Missing`] says which of the two is not there.
    pub(crate) fn toolchain(&self) -> Result<Toolchain, Missing> {
        let compilers = self.compilers()?;
        let linkers = self.linkers();
        for compiler in &compilers {
            let fits = |linker: &&Linker| linker.llvm.is_none_or(|llvm| compiler.llvm <= llvm);
            if let Some(linker) = linkers.iter().find(fits) {
                return Ok(Toolchain {
                    compiler: compiler.clone(),
                    linker: linker.clone(),
                });
            }
        }
        match compilers.into_iter().next() {
            Some(compiler) => Err(Missing::Linker {
                compiler: Box::new(compiler),
            }),
            None => Err(Missing::Compiler),
        }
    }

    /// Every compiler here that has `core` for BPF, the preferred one first.
    pub(crate) fn compilers(&self) -> Result<Vec<Compiler>, Missing> {
        let ways: &[Way] = match self.choice.as_deref() {
            None => &[Way::Prebuilt, Way::BuildStd],
            Some("prebuilt") => &[Way::Prebuilt],
            Some("nightly") => &[Way::BuildStd],
            Some(other) => {
                return Err(Missing::Choice {
                    value: other.to_owned(),
                });
            }
        };
        let found = ways.iter().filter_map(|way| match way {
            Way::Prebuilt => prebuilt(&self.system_rustc),
            Way::BuildStd => self.on_path("rustc").find_map(|rustc| nightly(&rustc)),
        });
        Ok(found.collect())
    }

    /// Every bpf-linker that starts: the workspace's own, then that on `PATH`.
    pub(crate) fn linkers(&self) -> Vec<Linker> {
        let own = Linker {
            path: self.tools.join("bpf-linker"),
            llvm: Some(LINKER_LLVM),
        };
        let others = self
            .on_path("bpf-linker")
            .map(|path| Linker { path, llvm: None });
        // A linker whose LLVM was uninstalled is still there, and does not start.
        [own]
            .into_iter()
            .chain(others)
            .filter(|linker| answer(&linker.path, &["--version"]).is_some())
            .collect()
    }

    /// Every program of this name on `PATH`, in its order.
    pub(crate) fn on_path(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let found: Vec<PathBuf> = env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .filter(|program| program.is_file())
            .collect();
        found.into_iter()
    }
}

/// The compiler `rustc`, if a `core` for BPF is installed with it.
fn prebuilt(rustc: &Path) -> Option<Compiler> {
    let sysroot = PathBuf::from(answer(rustc, &["--print", "sysroot"])?.trim());
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let has_core = library.read_dir().ok()?.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    });
    if !has_core {
        return None;
    }
    compiler(
        Way::Prebuilt,
        rustc.to_owned(),
        rustc.with_file_name("cargo"),
    )
}

/// The nightly behind `rustc`, if that is rustup's and the nightly has `rust-src`.
fn nightly(rustc: &Path) -> Option<Compiler> {
    let sysroot = PathBuf::from(answer(rustc, &["+nightly", "--print", "sysroot"])?.trim());
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
    {
        return None;
    }
    compiler(
        Way::BuildStd,
        sysroot.join("bin/rustc"),
        sysroot.join("bin/cargo"),
    )
}

/// Asks for the versions; no compiler that is too old, and none without its cargo.
fn compiler(way: Way, rustc: PathBuf, cargo: PathBuf) -> Option<Compiler> {
    let verbose = answer(&rustc, &["-vV"])?;
    let version = Version::parse(field(&verbose, "release:")?)?;
    let llvm = leading_number(field(&verbose, "LLVM version:")?)?;
    (version >= OLDEST_RUSTC && cargo.is_file()).then_some(Compiler {
        way,
        rustc,
        cargo,
        version,
        llvm,
    })
}

/// The version of a rustc, or `None` where it does not answer.
pub(crate) fn rustc_version(rustc: &Path) -> Option<Version> {
    Version::parse(field(&answer(rustc, &["-vV"])?, "release:")?)
}

/// What a program says on its standard output, if it exits well.
pub(crate) fn answer(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        // To ask is not to install: `+nightly` must not make rustup fetch one.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().ok()
}

/// Cargo and clippy speak to their compiler through `CARGO_…` and `RUST…` variables: those that
/// describe the outer build stay outside, those about the network and the terminal go in.
fn is_kept(name: &OsStr) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
        "RUSTUP_HOME",
    ];
    let Some(name) = name.to_str() else {
        return true;
    };
    let speaks = ["CARGO", "RUST", "CLIPPY"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    !speaks || KEPT.iter().any(|prefix| name.starts_with(prefix))
}
