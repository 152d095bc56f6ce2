//! The soak and the shrinker as commands: a few seeds, a second run, and a directory of another build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sim::soak::{Source, State};
use sim::{Ask, Engine, Item, Plan, Watch, swarm};

/// Seeds of a run: the first is run twice, and some are of each source.
const SEEDS: u64 = 12;

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", dir.display()),
        _ => dir,
    }
}

fn soak(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["soak", "--minutes", "10", "--turmoil", "20", "--stories", "20", "--dir"]).arg(dir).args(args);
    command.output().expect("the binary runs")
}

fn state(dir: &Path) -> State {
    State::load(&dir.join("state.json")).expect("a state").expect("it is there")
}

#[test]
fn a_soak_goes_on_where_it_ended() {
    let dir = directory("soak-goes-on");
    let seeds = SEEDS.to_string();
    for round in 1..=2 {
        let output = soak(&dir, &["--cores", "2", "--seeds-max", &seeds]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let state = state(&dir);
        assert_eq!((state.seeds(), state.failed, state.from), (round * SEEDS, 0, 0));
        for (source, lane) in &state.lanes {
            assert_eq!((lane.next, lane.unfinished.len()), (lane.seeds, 0), "{source:?}");
        }
        assert!(state.compared >= 1 && state.stats.simulated_ms > 0 && state.core_ms > 0);
        let summary = std::fs::read_to_string(dir.join("summary.md")).expect("a summary");
        assert_eq!(summary, String::from_utf8(output.stdout).expect("text"));
        let world = format!("| world | {} | 0 | {0} | 0 |", state.lanes[&Source::World].seeds);
        assert!(summary.contains(&world) && summary.contains("nothing failed"), "{summary}");
    }
}

#[test]
fn what_another_build_began_is_not_gone_on_with() {
    let dir = directory("soak-of-another-build");
    let first = soak(&dir, &["--seeds-max", "1", "--from", "40"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(state(&dir).lanes[&Source::World].next, 41);
    let refused = |args: &[&str], why: &str| {
        let output = soak(&dir, args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(why), "{output:?}");
    };
    refused(&["--seeds-max", "1", "--from", "41"], "begun from seed 40");
    let path = dir.join("state.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    json["build"] = "another".into();
    std::fs::write(&path, json.to_string()).expect("it is written");
    refused(&["--seeds-max", "1"], "another build");
    std::fs::write(&path, "{").expect("it is written");
    refused(&["--seeds-max", "1"], "state.json");
}

#[test]
fn seeds_of_every_source_are_plans() {
    for source in Source::ALL {
        for seed in 0..20 {
            let plan = source.plan(seed);
            assert_eq!(plan.to_string().parse().as_ref(), Ok(&plan), "{source:?} {seed}");
            assert_eq!(plan, source.plan(seed));
        }
    }
    assert_eq!(Source::Story.engine(), Engine::World);
    assert!(Engine::World.run(&Source::Story.plan(1), Watch::Hash).verdict.is_ok());
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary runs")
}

#[test]
fn a_plan_that_passes_is_not_shrunk() {
    let output = sim(&["shrink", "--seed", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to shrink"));
}

#[test]
fn a_shrunk_plan_fails_as_the_whole_one_does() {
    let dir = directory("shrunk");
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = |name: &str| dir.join(name).to_str().expect("text").to_owned();
    // A deadline that no node takes: a plan that fails on any build.
    let mut plan = swarm::draw(7);
    let ask = Ask::Set { key: 0, token: 1_000_000, pad: 0, ttl_ms: u64::MAX / 2 };
    plan.items.push((100_000, Item::Ask { client: 0, ask }));
    std::fs::write(path("whole.plan"), plan.sorted().to_string()).expect("it is written");
    let output = sim(&["shrink", "--plan", &path("whole.plan"), "--replays", "200"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("text");
    let text = std::fs::read_to_string(path("whole.min.plan")).expect("the shrunk plan");
    let least: Plan = text.parse().expect("a plan");
    assert_eq!((least.items.len(), least.setting.nodes), (1, 1), "{told}");
    assert!(told.contains("whole.min.plan --trace"), "{told}");
    assert_eq!(sim(&["--plan", &path("whole.min.plan")]).status.code(), Some(1));
}
