//! What the manuals point to is there, and a reader who begins with the README finds all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

#[test]
fn links_lead_somewhere_and_every_manual_is_found_from_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the workspace");
    let mut manuals = BTreeSet::new();
    for part in ["core", "runtime", "sim", "fuzz"] {
        collect(&root.join(part), &mut manuals);
    }
    let readme = root.join("README.md");
    let (mut found, mut unread, mut complaints) = (BTreeSet::from([readme.clone()]), vec![readme], Vec::new());
    while let Some(manual) = unread.pop() {
        let text = fs::read_to_string(&manual).expect("a manual is text");
        let shown = manual.strip_prefix(root).unwrap_or(&manual).display();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { manual.clone() } else { resolved(&manual, file) };
            if !target.exists() {
                complaints.push(format!("{shown}: {link}: there is no such file"));
                continue;
            }
            if !heading.is_empty() && !fs::read_to_string(&target).is_ok_and(|text| has_heading(&text, heading)) {
                complaints.push(format!("{shown}: {link}: there is no such heading"));
            }
            if target.extension().is_some_and(|extension| extension == "md") && found.insert(target.clone()) {
                unread.push(target);
            } else if target.is_dir() && found.insert(target.join("README.md")) && target.join("README.md").exists() {
                unread.push(target.join("README.md"));
            }
        }
    }
    assert!(manuals.len() > 10, "the manuals are found");
    for lost in manuals.difference(&found) {
        let shown = lost.strip_prefix(root).unwrap_or(lost).display();
        complaints.push(format!("{shown}: nothing that is found from the README links it; add it to the list there"));
    }
    assert!(complaints.is_empty(), "{} to mend:\n{}", complaints.len(), complaints.join("\n"));
}

fn collect(folder: &Path, manuals: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        let is_ours =
            path.file_name().is_some_and(|name| name != "target" && !name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && is_ours {
            collect(&path, manuals);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            manuals.insert(path);
        }
    }
}

/// Where the links of a text go, but for those out of its own tree. What stands in blocks of code is none.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("\n```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    targets.filter(|target| !target.contains("://"))
}

/// The file that a link of `manual` names, without `.` and `..`.
fn resolved(manual: &Path, link: &str) -> PathBuf {
    let mut path = manual.parent().expect("a file lies in a folder").to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// Whether a heading of `text` has that name in links: its letters and digits, in lower case, `-` for each space.
fn has_heading(text: &str, name: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim().to_lowercase()).any(|heading| {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).eq(name.chars())
    })
}
