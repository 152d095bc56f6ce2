//! Plans that failed once, on one of the engines: each is run for ever, on both.

use std::path::Path;

use sim::{Engine, Plan, Watch};

#[test]
fn plans_that_failed_once_pass() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("the directory of regressions")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "plan"))
        .collect();
    paths.sort();
    let mut failures = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable plan");
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for engine in [Engine::World, Engine::Turmoil] {
            if let Err(failure) = engine.run(&plan, Watch::Hash).verdict {
                let (path, name) = (path.display(), engine.name());
                let replay = format!("cargo run -p sim --release -- --engine {name} --plan {path} --trace");
                failures.push(format!("{failure}\n  replay: {replay}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
