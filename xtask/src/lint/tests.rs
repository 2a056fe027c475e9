//! Each rule fires on a tree that breaks it, and is silent on one that does not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{check, machine};

/// A workspace in a temporary folder, removed with the value.
struct Tree {
    root: PathBuf,
}

impl Tree {
    /// One that keeps every rule.
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = env::temp_dir().join(format!("bpvs-lint-{}-{number}", process::id()));
        let tree = Self { root };
        tree.put(
            "LICENSE-MIT",
            "Permission is hereby granted, free of charge, to any person",
        );
        tree.put(
            "LICENSE-APACHE",
            "Apache License\nVersion 2.0, January 2004",
        );
        tree.put(
            "Cargo.toml",
            "[workspace.package]\nlicense = \"MIT OR Apache-2.0\"\n",
        );
        for member in ["lb-common", "lb-ebpf", "lb-user", "xtask", "tests"] {
            tree.manifest(member, "");
        }
        tree.put(
            "lb-common/src/lib.rs",
            "#![cfg_attr(not(test), no_std)]\nuse core::fmt;\n",
        );
        tree
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn manifest(&self, member: &str, rest: &str) -> &Self {
        let manifest = format!("[package]\nname = \"{member}\"\nlicense.workspace = true\n{rest}");
        self.put(&format!("{member}/Cargo.toml"), &manifest)
    }

    fn findings(&self) -> Vec<String> {
        check(&self.root)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Exactly one finding, which begins and goes on like this.
    #[track_caller]
    fn fires(&self, place: &str, words: &str) {
        let findings = self.findings();
        let [finding] = findings.as_slice() else {
            panic!("not one finding: {findings:#?}")
        };
        assert!(
            finding.starts_with(place) && finding.contains(words),
            "{finding}"
        );
    }

    #[track_caller]
    fn is_silent(&self) {
        assert_eq!(self.findings(), Vec::<String>::new());
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // A folder that is left behind in /tmp is no reason to fail.
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn the_house_keeps_its_rules() {
    let findings = check(&machine::root()).unwrap();
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn a_clean_tree_is_silent() {
    Tree::new().is_silent();
}

#[test]
fn lb_common_takes_network_types_and_optional_crates() {
    let tree = Tree::new();
    tree.manifest(
        "lb-common",
        "[dependencies]\nnetwork-types = \"0.2\"\naya = { version = \"1\", optional = true }\n\
         [dev-dependencies]\nproptest = \"1\"\n",
    );
    tree.is_silent();
    tree.manifest("lb-common", "[dependencies]\nlibc = \"0.2\"\n");
    tree.fires("lb-common/Cargo.toml:5: `libc`", "network-types");
}

#[test]
fn lb_ebpf_takes_lb_common_and_its_family() {
    let tree = Tree::new();
    tree.manifest(
        "lb-ebpf",
        "[dependencies]\naya-ebpf = \"1\"\nlb-common.workspace = true\n",
    );
    tree.is_silent();
    tree.manifest("lb-ebpf", "[dependencies]\nbytes = \"1\"\n");
    tree.fires("lb-ebpf/Cargo.toml:5: `bytes`", "lb-ebpf is thin");
}

#[test]
fn lb_user_does_not_know_the_lab() {
    let tree = Tree::new();
    tree.manifest(
        "lb-user",
        "[dev-dependencies]\nlab = { path = \"../tests\" }\n",
    );
    tree.fires(
        "lb-user/Cargo.toml:5: `lab` among its dev-dependencies",
        "no other member",
    );
}

#[test]
fn xtask_imports_no_member_under_any_name() {
    let tree = Tree::new();
    tree.manifest(
        "xtask",
        "[target.'cfg(unix)'.dependencies]\nx = { package = \"lb-user\" }\n",
    );
    tree.fires("xtask/Cargo.toml:5: `lb-user`", "must compile without them");
}

#[test]
fn the_tests_import_the_libraries_only() {
    let tree = Tree::new();
    tree.manifest(
        "tests",
        "[dependencies]\nlb-user.workspace = true\nxtask.workspace = true\n",
    );
    tree.fires("tests/Cargo.toml:6: `xtask`", "not the programs");
}

#[test]
fn lb_common_is_no_std() {
    let tree = Tree::new();
    tree.put("lb-common/src/lib.rs", "use core::fmt;\n");
    tree.fires("lb-common/src/lib.rs:1:", "no_std");
}

#[test]
fn lb_common_names_std_in_tests_only() {
    let tree = Tree::new();
    tree.put(
        "lb-common/src/conn.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests { use std::vec; }\n",
    );
    tree.put("lb-common/src/parse.rs", "#[cfg(test)]\nmod host;\n");
    tree.put("lb-common/src/parse/host.rs", "use std::vec;\n");
    tree.is_silent();
    tree.put(
        "lb-common/src/conn.rs",
        "#[cfg(test)]\nuse std::vec;\n\nfn f() { std::mem(); }\n",
    );
    tree.fires("lb-common/src/conn.rs:4: `std`", "kernel");
    tree.put(
        "lb-common/src/conn.rs",
        "#[cfg(not(test))]\nextern crate alloc;\n",
    );
    tree.fires("lb-common/src/conn.rs:2: `alloc`", "kernel");
}

#[test]
fn only_datapath_names_aya() {
    let tree = Tree::new();
    tree.put("lb-user/src/datapath/loader.rs", "use aya::Ebpf;\n");
    tree.put(
        "lb-user/src/cli/run.rs",
        "//! Not aya.\nconst A: &str = \"aya::\"; // aya::\n",
    );
    tree.is_silent();
    for source in [
        "use aya::Ebpf;",
        "use aya as bpf;",
        "fn f(_: &aya::Ebpf) {}",
    ] {
        tree.put("lb-user/src/cli/run.rs", source);
        tree.fires("lb-user/src/cli/run.rs:1: `aya`", "only `datapath`");
    }
    tree.put(
        "lb-user/src/cli/run.rs",
        "#[cfg(test)]\nmod tests { use aya_obj::Object; }",
    );
    tree.fires("lb-user/src/cli/run.rs:2: `aya_obj`", "only `datapath`");
}

#[test]
fn model_has_no_form_and_no_user() {
    let tree = Tree::new();
    let place = "lb-user/src/model/service.rs";
    tree.put(
        place,
        "use std::fmt;\nuse super::server::Server;\nuse crate::model::Mark;\n",
    );
    tree.is_silent();
    for (source, named) in [
        ("#[derive(serde::Serialize)]\nstruct S;", "`serde`"),
        ("use clap::Args;", "`clap`"),
        ("use crate::control::Op;", "`crate::control`"),
        (
            "use crate::{\n    model::Mark, config::{self, File},\n};",
            "`crate::config`",
        ),
        ("use super::super::net;", "`crate::net`"),
    ] {
        tree.put(place, source);
        tree.fires(place, named);
    }
}

#[test]
fn control_does_no_io_and_reads_no_clock() {
    let tree = Tree::new();
    let place = "lb-user/src/control/diff.rs";
    tree.put(
        place,
        "use crate::{datapath::{Datapath, Op}, model::Table};\nuse std::time::Instant;\n\
         fn f(now: Instant) -> crate::datapath::Op {}\n\
         #[cfg(test)]\nmod tests { use crate::datapath::fake::Fake; use tokio::time; }\n",
    );
    tree.is_silent();
    for (source, named) in [
        ("use tokio::time;", "`tokio`"),
        ("use crate::datapath::loader;", "`crate::datapath`"),
        ("use crate::datapath::{Op, loader};", "`crate::datapath`"),
        ("use crate::daemon;", "`crate::daemon`"),
        ("fn f() { std::time::Instant::now(); }", "`Instant::now`"),
        ("use std::time::SystemTime;", "`SystemTime`"),
    ] {
        tree.put(place, source);
        tree.fires(place, named);
    }
}

#[test]
fn no_source_is_longer_than_the_limit() {
    let tree = Tree::new();
    tree.put("lb-user/src/net/hops.rs", &"\n".repeat(600));
    tree.put(
        "lb-user/src/net/names.rs",
        &format!("// @generated\n{}", "\n".repeat(700)),
    );
    tree.is_silent();
    tree.put("lb-user/src/net/hops.rs", &"\n".repeat(601));
    tree.fires("lb-user/src/net/hops.rs: 601 lines", "600 is the limit");
}

#[test]
fn nothing_is_left_for_later() {
    let tree = Tree::new();
    tree.put(
        "lb-ebpf/src/main.rs",
        concat!("// todo", "!\nfn f() {\n    todo", "!()\n}\n"),
    );
    tree.fires("lb-ebpf/src/main.rs:3: `todo!`", "not offered");
}

#[test]
fn a_machines_paths_stay_out() {
    let tree = Tree::new();
    tree.put(
        "docs/building.md",
        "see network/work/plan and $HOME/work/x\n",
    );
    tree.is_silent();
    tree.put("docs/building.md", concat!("\nsee /wo", "rk/main\n"));
    tree.fires("docs/building.md:2: a machine's path", "/wo");
}

#[test]
fn bare_words_have_better_names() {
    let tree = Tree::new();
    tree.put("README.md", "The word `backend` is quoted.\n");
    tree.put("ARCHITECTURE.md", "Docker says VIP.\n");
    tree.put(
        "lb-user/src/swarm.rs",
        "const MODE: &str = \"vip\";\nstruct Viper;\n",
    );
    tree.is_silent();
    tree.put("README.md", "Each backend gets its share.\n");
    tree.fires("README.md:1: `backend`", "real server");
    tree.put("README.md", "");
    tree.put(
        "lb-user/src/swarm.rs",
        "fn f() {}\n\nstruct VipTable;\nlet a = 1;\n",
    );
    tree.fires("lb-user/src/swarm.rs:3: `vip`", "service address");
    tree.put("lb-user/src/swarm.rs", "/* one\n * upstream */\n");
    tree.fires("lb-user/src/swarm.rs:2: `upstream`", "real server");
}

#[test]
fn the_licence_is_stated_everywhere() {
    let tree = Tree::new();
    tree.put(
        "lb-user/Cargo.toml",
        "[package]\nname = \"lb-user\"\nlicense = \"GPL-2.0\"\n",
    );
    tree.fires("lb-user/Cargo.toml:", "license.workspace = true");
    tree.manifest("lb-user", "");
    fs::remove_file(Path::new(&tree.root).join("LICENSE-MIT")).unwrap();
    tree.fires("LICENSE-MIT:", "missing");
}

#[test]
fn xtask_keeps_to_the_oldest_compiler() {
    let tree = Tree::new();
    let chain = "fn f() {\n    if a\n        && let Some(b) = c\n    {}\n}\n";
    tree.put("lb-user/src/new.rs", chain);
    tree.is_silent();
    tree.put("xtask/src/new.rs", chain);
    tree.fires("xtask/src/new.rs:3", "Rust 1.85");
}
