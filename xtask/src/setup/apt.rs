//! Debian's packages: what is installed, what could be, and installing it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    console::{self, note},
    machine,
    toolchain::{OLDEST_RUSTC, Version},
};

/// Installs those of `packages` that are not there.
///
/// # Errors
///
/// When a package is not offered, or too old, or apt fails. Packages are not removed, but for the
/// release's first Rust, which cannot be beside the newer one: where apt would have to remove others,
/// it fails and says which.
pub(crate) fn install(packages: &[&'static str]) -> Result<()> {
    let absent = absent(packages)?;
    if absent.is_empty() {
        return Ok(());
    }
    let mut apt = Apt::default();
    let mut updated = false;
    // Fresh machines have no package lists, and old lists name versions that are gone.
    if let Some(problem) = apt.unavailable(&absent)? {
        note(&format!("setup: {problem}; reading the package lists anew"));
        apt.update()?;
        updated = true;
    }
    if let Some(problem) = apt.unavailable(&absent)? {
        note(&format!(
            "setup: {problem}; adding Debian's security suite for this installation"
        ));
        apt.add_security()?;
        apt.update()?;
    }
    if let Some(problem) = apt.unavailable(&absent)? {
        bail!(
            "{problem}, in its security suite neither\n\
             hint: a nightly builds the programs as well: \
             rustup toolchain install nightly --component rust-src"
        );
    }
    let replaced = apt.replaced(&absent)?;
    if !replaced.is_empty() {
        note(&format!(
            "setup: {} give way to newer ones of the same Debian (cargo-web, rustc-web)",
            replaced.join(" and ")
        ));
    }
    note(&format!("setup: apt-get install {}", absent.join(" ")));
    let keep = replaced.is_empty();
    match console::run(&mut apt.install_command(&absent, keep)) {
        Err(_) if !updated => {
            apt.update()?;
            console::run(&mut apt.install_command(&absent, keep))
        }
        done => done,
    }
    .context(
        "apt could not install it; where it says that packages would have to be removed, \
         that is yours to decide",
    )
}

/// apt, with its sources.
#[derive(Debug, Default)]
struct Apt {
    /// A folder of sources in place of `/etc/apt/sources.list.d`.
    sources: Option<PathBuf>,
}

impl Apt {
    /// Why one of these packages cannot be installed as things stand, if so.
    fn unavailable(&self, packages: &[&str]) -> Result<Option<String>> {
        for package in packages {
            let output = self
                .command("apt-cache")
                .args(["policy", package])
                .env("LC_ALL", "C")
                .output()
                .context("cannot start apt-cache")?;
            match candidate(&String::from_utf8_lossy(&output.stdout)) {
                None => return Ok(Some(format!("apt offers no package {package}"))),
                Some(version) if !is_new_enough(package, version) => {
                    return Ok(Some(format!(
                        "apt offers {package} {version}, and {OLDEST_RUSTC} or newer is needed"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Has the release's security suite, where the compiler's new versions come from, among the
    /// sources. Every installed Debian has; a base fresh from debootstrap has not. The machine's
    /// own configuration stays as it is.
    fn add_security(&mut self) -> Result<()> {
        let sources = machine::root().join("target/tools/apt");
        let shown = || sources.display().to_string();
        fs::create_dir_all(&sources).with_context(shown)?;
        for entry in Path::new("/etc/apt/sources.list.d")
            .read_dir()
            .into_iter()
            .flatten()
            .flatten()
        {
            let copy = sources.join(entry.file_name());
            fs::copy(entry.path(), &copy).with_context(|| copy.display().to_string())?;
        }
        // The security archive lies beside the main one, wherever this machine has that from.
        let output = self
            .command("apt-get")
            .args(["indextargets", "--format", "$(SITE)"])
            .output()
            .context("cannot start apt-get")?;
        let sites = String::from_utf8_lossy(&output.stdout);
        let Some(site) = sites
            .lines()
            .map(|site| site.trim_end_matches('/'))
            .find(|site| site.ends_with("/debian"))
        else {
            bail!("apt has no source of Debian's main archive");
        };
        let line = format!(
            "deb {site}-security {}-security main\n",
            codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        );
        fs::write(sources.join("bpvs-security.list"), line).with_context(shown)?;
        self.sources = Some(sources);
        Ok(())
    }

    fn update(&self) -> Result<()> {
        console::run(self.command("apt-get").args(["update", "-q"]))
            .context("apt could not read its package lists")
    }

    /// The packages of an older Rust that these replace; none, where others would have to go too.
    fn replaced(&self, packages: &[&str]) -> Result<Vec<String>> {
        let output = self
            .command("apt-get")
            .args(["install", "-s", "-q", "--no-install-recommends"])
            .args(packages)
            .env("LC_ALL", "C")
            .output()
            .context("cannot start apt-get")?;
        Ok(older_rust(&String::from_utf8_lossy(&output.stdout)))
    }

    /// `keep`: nothing may be removed.
    fn install_command(&self, packages: &[&str], keep: bool) -> Command {
        let mut command = self.command("apt-get");
        command.args(["install", "-y", "-q", "--no-install-recommends"]);
        if keep {
            command.arg("--no-remove");
        }
        command.args(packages);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(sources) = &self.sources {
            command
                .arg("-o")
                .arg(format!("Dir::Etc::SourceParts={}", sources.display()));
        }
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }
}

/// What a simulated installation would remove, if that is the release's first Rust and nothing else.
fn older_rust(simulated: &str) -> Vec<String> {
    let removed: Vec<String> = simulated
        .lines()
        .filter_map(|line| line.strip_prefix("Remv "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let is_rust = |name: &String| {
        [
            "cargo",
            "rustc",
            "rustfmt",
            "rust-clippy",
            "libstd-rust-dev",
        ]
        .contains(&name.as_str())
    };
    if removed.iter().all(is_rust) {
        removed
    } else {
        Vec::new()
    }
}

/// Those of `packages` that are not installed.
///
/// # Errors
///
/// When dpkg-query cannot be started.
pub(crate) fn absent(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    // It fails where a package is unknown, which is an answer too: the others are still listed.
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${Package} ${db:Status-Status} ${Version}\n",
        ])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .context("cannot start dpkg-query")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !is_installed(&listed, package))
        .collect())
}

/// Whether dpkg's list has this package, installed and not too old.
fn is_installed(listed: &str, package: &str) -> bool {
    listed.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(package)
            && words.next() == Some("installed")
            && words
                .next()
                .is_some_and(|version| is_new_enough(package, version))
    })
}

/// The version in what `apt-cache policy` says of one package.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?
        .trim();
    (version != "(none)").then_some(version)
}

/// The compiler's packages carry the compiler's version; any version of another one does.
fn is_new_enough(package: &str, version: &str) -> bool {
    let is_compiler = matches!(
        package,
        "rustc-web" | "cargo-web" | "libstd-rust-web-dev-bpf"
    );
    let bare = version
        .split_once(':')
        .map_or(version, |(_epoch, bare)| bare);
    !is_compiler || Version::parse(bare).is_some_and(|version| version >= OLDEST_RUSTC)
}

/// The name of a Debian release, out of its os-release.
fn codename(os_release: &str) -> &str {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map_or("stable", |name| name.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "gcc installed 4:12.2.0-3\n\
                          curl not-installed \n\
                          rustc-web installed 1.85.0+dfsg3-1~deb12u3\n\
                          cargo-web installed 1.96.0+dfsg1-1~deb12u2\n";

    #[test]
    fn a_package_counts_when_dpkg_says_installed() {
        assert!(is_installed(LISTED, "gcc"));
        assert!(
            !is_installed(LISTED, "curl"),
            "removed, its configuration left"
        );
        assert!(!is_installed(LISTED, "iproute2"), "unknown");
    }

    #[test]
    fn a_compiler_that_is_too_old_counts_as_absent() {
        assert!(!is_installed(LISTED, "rustc-web"));
        assert!(is_installed(LISTED, "cargo-web"));
    }

    #[test]
    fn the_candidate_is_read_from_the_policy() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        assert_eq!(candidate(policy), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(
            candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate(""), None, "apt has never heard of it");
    }

    #[test]
    fn only_the_compilers_version_matters() {
        assert!(is_new_enough("llvm-22-dev", "1:22.1.8-1~deb12u1"));
        assert!(is_new_enough("rustc-web", "1:1.88.0"));
        assert!(!is_new_enough("rustc-web", "1.85.0+dfsg3-1~deb12u3"));
    }

    #[test]
    fn further_sources_are_for_one_run() {
        let apt = Apt {
            sources: Some(PathBuf::from("/x")),
        };
        assert_eq!(
            console::show(&apt.command("apt-get")),
            "apt-get -o Dir::Etc::SourceParts=/x"
        );
    }

    #[test]
    fn the_release_has_a_name() {
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=bookworm\n"),
            "bookworm"
        );
        assert_eq!(codename(""), "stable");
    }

    #[test]
    fn nothing_is_removed_and_nothing_is_asked() {
        let shown = console::show(&Apt::default().install_command(&["curl"], true));
        assert_eq!(
            shown,
            "apt-get install -y -q --no-install-recommends --no-remove curl"
        );
        assert_eq!(older_rust("Inst curl (8.0)\n"), Vec::<String>::new());
    }

    #[test]
    fn an_older_rust_gives_way_and_nothing_with_it() {
        let rust = "Remv cargo [1.85.0]\nRemv rustc [1.85.0]\nInst rustc-web (1.96.0)\n";
        assert_eq!(older_rust(rust), ["cargo", "rustc"]);
        let more = format!("{rust}Remv somebodys-compiler [1.0]\n");
        assert_eq!(older_rust(&more), Vec::<String>::new());
    }
}
