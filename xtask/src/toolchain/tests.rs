//! Detection, on folders with stand-ins for the programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Compiler, LINKER_LLVM, Missing, Search, TARGET, Toolchain, Version, Way};

/// A machine in a temporary folder, removed with the value.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = env::temp_dir().join(format!("bpvs-toolchain-{}-{number}", process::id()));
        Self { root }
    }

    /// A program. A shell writes it: a file that this process has open for writing, and that a
    /// fork of another test's inherits, cannot be started (ETXTBSY).
    fn script(&self, path: &str, body: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf '%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        let written = shell
            .arg(&path)
            .arg(format!("#!/bin/sh\n{body}"))
            .status()
            .unwrap();
        assert!(written.success());
        path
    }

    /// A rustc of this version at `sysroot`/bin, with its cargo.
    fn rustc(&self, sysroot: &str, version: &str, llvm: u32) -> PathBuf {
        self.script(&format!("{sysroot}/bin/cargo"), "");
        let sysroot_path = self.root.join(sysroot);
        self.script(
            &format!("{sysroot}/bin/rustc"),
            &format!(
                "case $1 in +*) exit 1;; --print) echo {};;\n\
                 -vV) echo 'release: {version}'; echo 'LLVM version: {llvm}.1.8';; esac",
                sysroot_path.display()
            ),
        )
    }

    /// The distribution's compiler with a ready-built core.
    fn distribution(&self, version: &str) -> PathBuf {
        let library = self.root.join("usr/lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&library).unwrap();
        fs::write(library.join("libcore-0123.rlib"), "").unwrap();
        self.rustc("usr", version, 22)
    }

    /// rustup's proxy on PATH, and the nightly behind it.
    fn nightly(&self, llvm: u32, with_source: bool) -> PathBuf {
        let rustc = self.rustc("nightly", "1.97.0-nightly", llvm);
        let library = self
            .root
            .join("nightly/lib/rustlib/src/rust/library/core/src");
        if with_source {
            fs::create_dir_all(&library).unwrap();
            fs::write(library.join("lib.rs"), "").unwrap();
        }
        self.script(
            "rustup/rustc",
            &format!(
                "[ \"$1\" = +nightly ] || exit 1; shift; exec {} \"$@\"",
                rustc.display()
            ),
        );
        rustc
    }

    /// The linker that setup builds.
    fn own_linker(&self) -> PathBuf {
        self.script("tools/bpf-linker", "echo bpf-linker 0.13.0")
    }

    fn search(&self) -> Search {
        Search {
            path: env::join_paths([self.root.join("rustup"), self.root.join("bin")]).unwrap(),
            system_rustc: self.root.join("usr/bin/rustc"),
            tools: self.root.join("tools"),
            choice: None,
        }
    }

    fn found(&self) -> Toolchain {
        self.search().toolchain().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A folder that is left behind in /tmp is no reason to fail.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn way(search: &Search) -> Result<Way, Missing> {
    search.toolchain().map(|toolchain| toolchain.compiler.way)
}

#[test]
fn versions_are_read_as_rustc_and_debian_write_them() {
    let version = |text| Version::parse(text).map(|version| version.to_string());
    assert_eq!(version("1.96.0"), Some("1.96".to_owned()));
    assert_eq!(version("1.97.0-nightly"), Some("1.97".to_owned()));
    assert_eq!(version("1.85.0+dfsg3-1~deb12u3"), Some("1.85".to_owned()));
    assert_eq!(version("nonsense"), None);
    assert!(Version::parse("1.100.0") > Version::parse("1.87.0"));
}

#[test]
fn a_bare_machine_has_no_compiler() {
    let machine = Machine::new();
    assert_eq!(machine.search().toolchain(), Err(Missing::Compiler));
}

#[test]
fn the_distributions_compiler_is_used_with_its_own_cargo() {
    let machine = Machine::new();
    let rustc = machine.distribution("1.96.0");
    let linker = machine.own_linker();
    let found = machine.found();
    let cargo = machine.root.join("usr/bin/cargo");
    let version = Version {
        major: 1,
        minor: 96,
    };
    let compiler = Compiler {
        way: Way::Prebuilt,
        rustc,
        cargo,
        version,
        llvm: 22,
    };
    assert_eq!(found.compiler, compiler);
    assert_eq!(found.linker.path, linker);
}

#[test]
fn a_compiler_that_is_too_old_or_has_no_core_is_none() {
    let machine = Machine::new();
    machine.own_linker();
    machine.distribution("1.85.0");
    assert_eq!(machine.search().toolchain(), Err(Missing::Compiler));
    machine.distribution("1.96.0");
    assert_eq!(way(&machine.search()), Ok(Way::Prebuilt));
    fs::remove_dir_all(machine.root.join("usr/lib/rustlib")).unwrap();
    assert_eq!(machine.search().toolchain(), Err(Missing::Compiler));
}

#[test]
fn a_nightly_counts_with_its_source_only() {
    let machine = Machine::new();
    machine.own_linker();
    machine.nightly(22, false);
    assert_eq!(machine.search().toolchain(), Err(Missing::Compiler));
    let rustc = machine.nightly(22, true);
    let found = machine.found();
    assert_eq!(
        (found.compiler.way, found.compiler.rustc),
        (Way::BuildStd, rustc)
    );
    assert_eq!(found.compiler.cargo, machine.root.join("nightly/bin/cargo"));
}

#[test]
fn with_both_the_prebuilt_one_comes_first_and_the_variable_decides() {
    let machine = Machine::new();
    machine.own_linker();
    machine.distribution("1.96.0");
    machine.nightly(22, true);
    let mut search = machine.search();
    assert_eq!(way(&search), Ok(Way::Prebuilt));
    search.choice = Some("nightly".to_owned());
    assert_eq!(way(&search), Ok(Way::BuildStd));
    search.choice = Some("gcc".to_owned());
    let error = search.toolchain().unwrap_err();
    assert_eq!(
        error.to_string(),
        "BPVS_BPF_TOOLCHAIN is `gcc`; it can be `prebuilt` or `nightly`"
    );
}

#[test]
fn a_compiler_without_a_linker_says_so() {
    let machine = Machine::new();
    machine.distribution("1.96.0");
    let error = machine.search().toolchain().unwrap_err();
    assert!(matches!(error, Missing::Linker { .. }), "{error}");
    // One that does not start, because its LLVM is gone, is none.
    machine.script("tools/bpf-linker", "exit 127");
    assert!(matches!(
        machine.search().toolchain(),
        Err(Missing::Linker { .. })
    ));
}

#[test]
fn a_linker_on_path_is_taken_and_ours_comes_first() {
    let machine = Machine::new();
    machine.distribution("1.96.0");
    let on_path = machine.script("bin/bpf-linker", "echo bpf-linker 0.14.0");
    assert_eq!(machine.found().linker.path, on_path);
    let own = machine.own_linker();
    assert_eq!(machine.found().linker.path, own);
}

#[test]
fn our_linker_reads_no_bitcode_of_a_newer_llvm() {
    let machine = Machine::new();
    machine.own_linker();
    machine.nightly(LINKER_LLVM + 1, true);
    assert!(matches!(
        machine.search().toolchain(),
        Err(Missing::Linker { .. })
    ));
    let on_path = machine.script("bin/bpf-linker", "echo bpf-linker 0.14.0");
    assert_eq!(machine.found().linker.path, on_path);
    // With a compiler that fits ours, that one is used instead.
    fs::remove_file(&on_path).unwrap();
    machine.distribution("1.96.0");
    assert_eq!(way(&machine.search()), Ok(Way::Prebuilt));
}

#[test]
fn the_machine_itself_answers_one_way_or_the_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    match Search::here(root).toolchain() {
        Ok(toolchain) => assert!(toolchain.compiler.version >= super::OLDEST_RUSTC),
        Err(missing) => assert!(!missing.to_string().is_empty()),
    }
}
