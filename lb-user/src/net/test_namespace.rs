//! A network namespace for a test, which vanishes with it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::NetNs;

/// Whether this process may make namespaces. Says why a test is skipped if not.
pub(super) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped, because making network namespaces needs root");
    }
    root
}

/// Deleted on drop, also when a test panics.
#[derive(Debug)]
pub(super) struct TestNamespace {
    pub(super) name: String,
    pub(super) netns: NetNs,
}

impl TestNamespace {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "bpvs-t{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        run("ip", &["netns", "add", &name]);
        // From here on it is deleted, whatever happens.
        let guard = Guard(name.clone());
        let netns = NetNs::open_name(&name).unwrap();
        std::mem::forget(guard);
        Self { name, netns }
    }

    /// Runs `ip -n NAME` with these words, separated by spaces.
    pub(super) fn ip(&self, words: &str) {
        let mut arguments = vec!["-n", self.name.as_str()];
        arguments.extend(words.split(' '));
        run("ip", &arguments);
    }

    /// Runs `bridge -n NAME` with these words, separated by spaces.
    pub(super) fn bridge(&self, words: &str) {
        let mut arguments = vec!["-n", self.name.as_str()];
        arguments.extend(words.split(' '));
        run("bridge", &arguments);
    }

    /// What `ip -n NAME` with these words prints; None if it fails.
    pub(super) fn ip_output(&self, words: &str) -> Option<String> {
        let output = Command::new("ip")
            .args(["-n", self.name.as_str()])
            .args(words.split(' '))
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs many `ip` commands in one process.
    pub(super) fn ip_batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", self.name.as_str(), "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "ip -batch failed");
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        drop(Guard(std::mem::take(&mut self.name)));
    }
}

struct Guard(String);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
}
