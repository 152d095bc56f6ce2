//! The house rules that a machine can see. Each failure says what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file without its tests.
const FILE_LINES_MAX: usize = 700;

/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 100;

/// Characters of a line.
const LINE_CHARS_MAX: usize = 120;

/// What the top level holds besides dot-files and what `.gitignore` names.
const TOP_LEVEL: [&str; 8] = ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "core", "fuzz", "runtime", "sim"];

/// What core may depend on. A new one needs a line here, and a reason in the commit that adds it.
const CORE_DEPENDENCIES: [&str; 13] = [
    "base64",
    "blake3",
    "crc32c",
    "httparse",
    "itoa",
    "memchr",
    "percent-encoding",
    "prometheus-client",
    "serde",
    "serde_json",
    "siphasher",
    "tracing",
    "xxhash-rust",
];
const CORE_DEV_DEPENDENCIES: [&str; 3] = ["divan", "kv-allocator", "proptest"];

/// The only files that may hold what the compiler does not check.
const UNCHECKED: [&str; 5] = [
    "core/src/store/entry.rs",
    "core/src/store/prefetch.rs",
    "core/tests/cluster/alloc.rs",
    "runtime/allocator/src/lib.rs",
    "runtime/allocator/src/tests.rs",
];

/// The only file whose tests may wait for real time: it looks until something is so.
const POLLS: &str = "runtime/tests/e2e/harness.rs";

/// A Rust file: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the workspace").to_owned();
    let mut complaints = Vec::new();
    check_top_level(&root, &mut complaints);
    check_manifest(&root, &mut complaints);
    let mut sources = Vec::new();
    for part in ["core", "runtime", "sim", "fuzz"] {
        collect(&root, &root.join(part), &mut sources);
    }
    assert!(sources.len() > 30, "the sources are found");
    for source in &sources {
        check_sizes(source, &mut complaints);
        check_words(source, &mut complaints);
    }
    assert!(complaints.is_empty(), "{} to tidy:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn each_test_that_is_said_to_show_a_promise_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the workspace");
    let text = fs::read_to_string(root.join("runtime/SECURITY.md")).expect("it is there");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 15, "the table is found");
    for row in rows {
        let named: Vec<_> = row.split('`').filter_map(|word| word.split_once(".rs::")).collect();
        assert!(!named.is_empty(), "no test shows it: {row}");
        for (file, name) in named {
            let source = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
            let is_there = source.contains(&format!("#[test]\nfn {name}()"))
                || source.contains(&format!("#[test]\n    fn {name}()"));
            assert!(is_there, "{file}.rs has no test {name}: {row}");
        }
    }
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let path = path.strip_prefix(root).expect("it lies below the root").display().to_string();
            sources.push(Source { path, text });
        }
    }
}

fn check_top_level(root: &Path, complaints: &mut Vec<String>) {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    for entry in fs::read_dir(root).expect("the root can be listed") {
        let name = entry.expect("the root can be listed").file_name().to_string_lossy().into_owned();
        let known = name.starts_with('.') || TOP_LEVEL.contains(&name.as_str());
        if !known && !ignored.lines().any(|line| line.trim_matches('/') == name) {
            complaints.push(format!("{name}: the top level holds {TOP_LEVEL:?} and dot-files; put it into one"));
        }
    }
}

fn check_manifest(root: &Path, complaints: &mut Vec<String>) {
    let manifest = fs::read_to_string(root.join("core/Cargo.toml")).expect("core has a manifest");
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            if section == "[features]" || section.starts_with("[target") || section.starts_with("[build-dep") {
                complaints.push(format!("core/Cargo.toml: {section}: core is one thing; make it a field of `Config`"));
            }
            continue;
        }
        let allowed: &[&str] = match section {
            "[dependencies]" => &CORE_DEPENDENCIES,
            "[dev-dependencies]" => &CORE_DEV_DEPENDENCIES,
            _ => continue,
        };
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if !name.is_empty() && !name.starts_with('#') && !allowed.contains(&name) {
            complaints.push(format!(
                "core/Cargo.toml: {name} is not among the dependencies of core: do without, or add it in {}",
                file!()
            ));
        }
    }
}

fn check_sizes(source: &Source, complaints: &mut Vec<String>) {
    let Source { path, text } = source;
    let lines: Vec<&str> = text.lines().collect();
    // A block of tests is the last thing in its file; a single line (`mod tests;`) is not one.
    let tests = lines.windows(2).rposition(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with("{"));
    let count = tests.unwrap_or(lines.len());
    if path.contains("/src/") && count > FILE_LINES_MAX {
        complaints.push(format!("{path}: {count} lines of {FILE_LINES_MAX}: give a part of it a file of its own"));
    }
    for (at, line) in lines.iter().enumerate() {
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX {
            complaints.push(format!("{path}:{}: {chars} columns of {LINE_CHARS_MAX}: break the line", at + 1));
        }
        if let Some(count) = function_lines(&lines[at..]).filter(|count| *count > FUNCTION_LINES_MAX) {
            let name = line.trim();
            complaints.push(format!(
                "{path}:{}: {count} lines of {FUNCTION_LINES_MAX}: split `{name}` where its locals part",
                at + 1
            ));
        }
    }
}

/// How long the function is that begins on the first line, if one does. As it is formatted, it ends with a brace that
/// stands as far in as the beginning.
fn function_lines(lines: &[&str]) -> Option<usize> {
    let first = lines[0];
    let code = first.trim_start();
    let (before, _) = code.split_once("fn ")?;
    let qualifies = |word: &str| word.starts_with("pub") || word.chars().all(char::is_lowercase);
    if !before.split_whitespace().all(qualifies) || first.ends_with([';', '}']) {
        return None;
    }
    let end = format!("{}}}", &first[..first.len() - code.len()]);
    lines.iter().position(|line| *line == end).map(|last| last + 1)
}

fn check_words(source: &Source, complaints: &mut Vec<String>) {
    let Source { path, text } = source;
    let core = path.starts_with("core/");
    let unchecked = UNCHECKED.contains(&path.as_str());
    // Put together here, so that this file holds none of them.
    let words = [
        (["to", "do!("], true, "write it, or leave it out"),
        (["unimple", "mented!("], true, "write it, or leave it out"),
        (["db", "g!("], true, "take it out, or trace it"),
        (["TO", "DO"], true, "do it, or open an issue"),
        (["FIX", "ME"], true, "fix it, or open an issue"),
        (["XX", "X"], true, "say what is wrong in words, or fix it"),
        (["#[igno", "re"], true, "a test that does not run is none: make it fast, or delete it"),
        (
            ["thread::sle", "ep"],
            path != POLLS,
            "wait for what is to happen, with a deadline, or let simulated time pass",
        ),
        (["macro_", "rules"], core, "core has none: write a function"),
        (["cfg(fea", "ture"], core, "core has no features: make it a field of `Config`"),
        (["unsa", "fe "], !unchecked, "only UNCHECKED may: say it with what the compiler checks"),
    ];
    for (halves, applies, advice) in words {
        let word = halves.concat();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| applies && line.contains(&word)) {
            let line = line.trim();
            complaints.push(format!("{path}:{}: `{}`: {advice}\n    {line}", at + 1, word.trim_end()));
        }
    }
}
