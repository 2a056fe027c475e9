//! Who may name whom in the sources: the layers of lb-user, and the purity of lb-common.

use super::{
    Finding,
    tokens::{Kind, Token},
    tree::File,
};

/// Another part of the same crate, as a path names it: `crate::first::second`.
#[derive(Clone, Copy)]
struct Part<'a> {
    first: &'a str,
    second: Option<&'a str>,
    line: usize,
}

/// What one module of lb-user may name.
struct Layer {
    module: &'static str,
    /// Crates that it may not name.
    crates: &'static [&'static str],
    /// Whether it may name this part of lb-user.
    parts: fn(&Part<'_>) -> bool,
    /// Paths of standard library clocks that it may not name, as their words.
    clocks: &'static [&'static [&'static str]],
    why: &'static str,
}

const LAYERS: [Layer; 2] = [
    Layer {
        module: "model",
        crates: &["axum", "clap", "serde", "serde_json", "tokio", "toml"],
        parts: |part| part.first == "model",
        clocks: &[],
        why: "`model` is the domain's words, and knows neither their forms nor their users",
    },
    Layer {
        module: "control",
        crates: &["axum", "clap", "tokio"],
        parts: |part| match part.first {
            "control" | "model" => true,
            // The words of its interface, and the in-memory one; not what is behind them.
            "datapath" => part
                .second
                .is_some_and(|word| word == "fake" || word.starts_with(char::is_uppercase)),
            _ => false,
        },
        clocks: &[&["SystemTime"], &["Instant", "now"]],
        why: "`control` is sans-IO: it stands on `model`, and time comes in as an argument",
    },
];

/// Everything in the tree's sources that breaks a layer.
pub(super) fn check(files: &[(&File, Vec<Token<'_>>)]) -> Vec<Finding> {
    let gated: Vec<String> = files
        .iter()
        .flat_map(|(file, tokens)| gated_modules(&file.path, tokens))
        .collect();
    let mut findings = Vec::new();
    for (file, tokens) in files {
        let path = file.path.as_str();
        let code: Vec<_> = tokens
            .iter()
            .filter(|t| t.kind != Kind::Comment)
            .copied()
            .collect();
        if let Some(inside) = path.strip_prefix("lb-user/src/") {
            findings.extend(only_datapath_names_aya(path, inside, &code));
            if !is_gated(&gated, path) {
                findings.extend(layer(path, inside, &production(&code)));
            }
        }
        if path.starts_with("lb-common/src/") && !is_gated(&gated, path) {
            findings.extend(no_std(path, &code));
        }
    }
    findings
}

/// aya stays behind one door.
fn only_datapath_names_aya(path: &str, inside: &str, code: &[Token<'_>]) -> Vec<Finding> {
    if module_of(inside) == "datapath" {
        return Vec::new();
    }
    let named = crates(code).into_iter().filter(|(name, _)| is_aya(name));
    named
        .map(|(name, line)| {
            Finding::new(path, line, format!("`{name}`: only `datapath` knows aya"))
        })
        .collect()
}

/// The rules of this module's layer, if it has some.
fn layer(path: &str, inside: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let Some(layer) = LAYERS
        .iter()
        .find(|layer| layer.module == module_of(inside))
    else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut found = |line, what: String| {
        findings.push(Finding::new(path, line, format!("`{what}`: {}", layer.why)));
    };
    for (name, line) in crates(code) {
        if layer.crates.contains(&name) {
            found(line, name.to_owned());
        }
    }
    for part in parts(code, depth_of(inside)) {
        if !(layer.parts)(&part) {
            found(part.line, format!("crate::{}", part.first));
        }
    }
    for clock in layer.clocks {
        for at in 0..code.len() {
            if names(&code[at..], clock) {
                found(code[at].line, clock.join("::"));
            }
        }
    }
    findings
}

/// lb-common runs in the kernel too.
fn no_std(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let says_no_std = code.iter().any(|token| token.is_word("no_std"));
    if path == "lb-common/src/lib.rs" && !says_no_std {
        findings.push(Finding::new(path, 1, "no `#![no_std]`"));
    }
    for (name, line) in crates(&production(code)) {
        if matches!(name, "std" | "alloc") {
            let message = format!("`{name}`: lb-common also runs in the kernel; `core` only");
            findings.push(Finding::new(path, line, message));
        }
    }
    findings
}

/// The first word of every path that does not begin in this crate, and where.
fn crates<'a>(code: &[Token<'a>]) -> Vec<(&'a str, usize)> {
    let mut found = Vec::new();
    for (at, token) in code.iter().enumerate() {
        if token.kind != Kind::Word {
            continue;
        }
        let after = code.get(at + 1..).unwrap_or_default();
        let inside_a_path = at > 0
            && (code[at - 1].is_mark(":") || code[at - 1].is_mark("."))
            && at > 1
            && (code[at - 1].is_mark(".") || code[at - 2].is_mark(":"));
        // A path of one word: `use aya;`, `extern crate std;`.
        let alone = at > 0 && (code[at - 1].is_word("use") || code[at - 1].is_word("crate"));
        if !inside_a_path && (is_path(after) || alone) {
            found.push((token.text, token.line));
        }
    }
    found
}

/// Every `crate::…`, and every `super::…` that reaches the crate's root from this depth.
fn parts<'a>(code: &[Token<'a>], depth: usize) -> Vec<Part<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let mut supers = 0;
        while code[at].is_word("super") && is_path(&code[at + 1..]) && at + 3 < code.len() {
            supers += 1;
            at += 3;
        }
        let rooted = if supers > 0 {
            supers == depth
        } else if code[at].is_word("crate") && is_path(&code[at + 1..]) {
            at += 3;
            true
        } else {
            at += 1;
            false
        };
        if rooted {
            found.extend(heads(&code[at.min(code.len())..]));
        }
    }
    found
}

/// What a path goes on with: one word, or each word of a group; and the words behind those.
fn heads<'a>(code: &[Token<'a>]) -> Vec<Part<'a>> {
    let mut found = Vec::new();
    for at in words(code) {
        let first = code[at];
        let mut part = Part {
            first: first.text,
            second: None,
            line: first.line,
        };
        if !is_path(&code[at + 1..]) {
            found.push(part);
            continue;
        }
        let behind = &code[at + 3..];
        for at in words(behind) {
            part.second = Some(behind[at].text);
            found.push(part);
        }
    }
    found
}

/// Where the words stand with which a path goes on: at the front, or at each place of a group.
fn words(code: &[Token<'_>]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 1 && (token.is_mark("{") || token.is_mark(",")) {
            starts.push(at + 1);
        }
        if depth == 0 {
            // Not a group, or its end.
            break;
        }
    }
    if starts.is_empty() {
        starts.push(0);
    }
    starts.retain(|&at| code.get(at).is_some_and(|token| token.kind == Kind::Word));
    starts
}

/// The code without what is compiled for tests or features only.
fn production<'a>(code: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < code.len() {
        match attribute(&code[at..]) {
            Some((length, true)) => {
                at += length;
                at += item(&code[at..]);
            }
            Some((length, false)) => {
                kept.extend_from_slice(&code[at..at + length]);
                at += length;
            }
            None => {
                kept.push(code[at]);
                at += 1;
            }
        }
    }
    kept
}

/// Length of the attribute at the front, and whether it gates what follows.
fn attribute(code: &[Token<'_>]) -> Option<(usize, bool)> {
    if !(code.first()?.is_mark("#") && code.get(1)?.is_mark("[")) {
        return None;
    }
    let mut depth = 0_usize;
    let last = code.iter().position(|token| {
        match token.text {
            "[" if token.kind == Kind::Mark => depth += 1,
            "]" if token.kind == Kind::Mark => depth -= 1,
            _ => return false,
        }
        depth == 0
    })?;
    let inside = &code[2..last];
    let says = |word| inside.iter().any(|token| token.is_word(word));
    let gates = inside.first().is_some_and(|token| token.is_word("cfg"))
        && (says("test") || says("feature"))
        && !says("not");
    Some((last + 1, gates))
}

/// Length of the item at the front, further attributes included.
fn item(code: &[Token<'_>]) -> usize {
    let mut at = 0;
    while let Some((length, _)) = attribute(&code[at..]) {
        at += length;
    }
    let mut depth = 0_usize;
    for (offset, token) in code[at..].iter().enumerate() {
        if token.kind != Kind::Mark {
            continue;
        }
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.text, ";" | "}") {
            return at + offset + 1;
        }
    }
    code.len()
}

/// Paths, without `.rs`, of modules in files of their own that a `cfg` gates.
fn gated_modules(path: &str, tokens: &[Token<'_>]) -> Vec<String> {
    let code: Vec<_> = tokens
        .iter()
        .filter(|t| t.kind != Kind::Comment)
        .copied()
        .collect();
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let folder = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ => format!("{folder}/{stem}"),
    };
    let mut found = Vec::new();
    for at in 0..code.len() {
        let Some((length, true)) = attribute(&code[at..]) else {
            continue;
        };
        let gated = &code[at + length..];
        let gated = &gated[..item(gated)];
        if let [.., module, name, end] = gated {
            if module.is_word("mod") && end.is_mark(";") {
                found.push(format!("{folder}/{}", name.text));
            }
        }
    }
    found
}

fn is_gated(gated: &[String], path: &str) -> bool {
    gated.iter().any(|module| {
        path.strip_prefix(module.as_str())
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// The module of the crate that a file, relative to `src`, belongs to.
fn module_of(inside: &str) -> &str {
    let first = inside.split('/').next().unwrap_or(inside);
    first.trim_end_matches(".rs")
}

/// How many times `super` leads from a file's module to the crate's root.
fn depth_of(inside: &str) -> usize {
    let names = inside.trim_end_matches(".rs").split('/');
    names.filter(|name| *name != "mod").count()
}

/// Whether `::` stands at the front.
fn is_path(code: &[Token<'_>]) -> bool {
    matches!(code, [a, b, ..] if a.is_mark(":") && b.is_mark(":"))
}

/// Whether this path of words stands at the front.
fn names(code: &[Token<'_>], words: &[&str]) -> bool {
    words.iter().enumerate().all(|(at, word)| {
        let here = code.get(3 * at..).unwrap_or_default();
        let last = at + 1 == words.len();
        here.first().is_some_and(|token| token.is_word(word)) && (last || is_path(&here[1..]))
    })
}

fn is_aya(name: &str) -> bool {
    name == "aya" || name.starts_with("aya_")
}
