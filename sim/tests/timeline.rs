//! The page of a run. The last test leaves one in the target's directory for `.ci/timeline.py`, which opens it.

use std::path::Path;

use sim::timeline::{Options, page};
use sim::{Failure, Oracle, Outcome, Plan, Watch, swarm, world};

const OPTIONS: Options<'_> = Options { replay: "sim --seed </script>", key: None };

/// A plan with a node killed, one that stands still, one that is superseded, and a cut.
const PLAN: &str = "seed 5\nnodes 4\nclients 4\nsurvivors 15\nkeys 2\ncounters 1\nload_ms 3000\n\
    100000 set client=0 key=1 token=10 pad=3 ttl_ms=0\n300000 add client=1 counter=0 amount=5\n\
    500000 partition side=8 ms=1200\n600000 set client=1 key=1 token=11 pad=0 ttl_ms=0\n\
    700000 kill node=2 ms=400 silent=0 alone=0\n800000 del client=3 key=1\n900000 get client=0 key=1\n\
    1500000 pause node=0 ms=500\n2100000 supersede node=1 ms=300\n2200000 halfopen from=0 to=3\n\
    2300000 set client=0 key=1 token=12 pad=0 ttl_ms=0\n2500000 get client=2 key=1\n";

fn plan() -> Plan {
    PLAN.parse().expect("a plan")
}

fn record(plan: &Plan) -> Outcome {
    world::run(plan, Watch::Record)
}

/// The data in a page.
fn data(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).expect("a page holds its data");
    let (text, _) = rest.split_once("</script>").expect("the data ends");
    serde_json::from_str(text).expect("it is JSON")
}

fn count(data: &serde_json::Value, of: &str, is_it: impl Fn(&serde_json::Value) -> bool) -> usize {
    data[of].as_array().expect("a list").iter().filter(|row| is_it(row)).count()
}

#[test]
fn recording_changes_nothing_and_is_the_same_twice() {
    for plan in (0..12).map(swarm::draw).chain([plan()]) {
        let (bare, recorded) = (world::run(&plan, Watch::Hash), record(&plan));
        assert_eq!(bare.trace_hash, recorded.trace_hash, "seed {}", plan.seed);
        assert_eq!(bare.verdict, recorded.verdict);
        assert!(bare.story.is_none());
        assert_eq!(page(&plan, &recorded, &OPTIONS), page(&plan, &record(&plan), &OPTIONS), "seed {}", plan.seed);
    }
}

#[test]
fn a_page_holds_every_node_and_every_item() {
    for seed in 0..12 {
        let plan = swarm::draw(seed);
        let outcome = record(&plan);
        let data = data(&page(&plan, &outcome, &OPTIONS));
        for node in 0..plan.setting.nodes {
            assert!(count(&data, "runs", |run| run[1] == node) > 0, "seed {seed}: node {node} has no lane");
        }
        assert_eq!(data["nodes"], plan.setting.nodes);
        assert_eq!(data["plan"].as_array().map(Vec::len), Some(plan.items.len()));
        for (at_us, item) in &plan.items {
            let (text, line) = (item.to_string(), format!("{at_us} {item}"));
            // Survivors may agree for long enough before the last item.
            let happens = *at_us < outcome.stats.simulated_ms * 1_000;
            let is_event = |event: &serde_json::Value| event[0] == *at_us && event[3] == text.as_str();
            assert!(!happens || count(&data, "events", is_event) > 0, "{line}");
            assert!(count(&data, "plan", |item| item == line.as_str()) > 0, "{line}");
        }
    }
}

#[test]
fn messages_runs_and_versions_are_told() {
    let plan = plan();
    let outcome = record(&plan);
    assert_eq!(outcome.verdict, Ok(()));
    let data = data(&page(&plan, &outcome, &OPTIONS));
    assert_eq!(data["key"], "k1");
    assert_eq!(count(&data, "runs", |run| run[1] == 2), 2, "one was killed and started again");
    assert_eq!(count(&data, "runs", |run| run[5].is_u64()), 1, "one was superseded");
    assert_eq!(count(&data, "runs", |run| run[6].as_array().is_some_and(|pauses| !pauses.is_empty())), 2);
    assert!(count(&data, "messages", |message| message[6] == "cut" && message[5].is_u64()) > 0, "held by the cut");
    assert!(count(&data, "messages", |message| message[4].is_null()) > 0, "lost in the half-open connection");
    let carries = |text: &str| {
        count(&data, "messages", |message| {
            message[9].as_array().is_some_and(|frames| {
                frames.iter().any(|frame| frame.as_str().is_some_and(|frame| frame.starts_with(text)))
            })
        })
    };
    for frame in ["greeting of n", "status ", "alive", "pull ", "record k1=t10 ", "record c0 counter "] {
        assert!(carries(frame) > 0, "no message carries {frame:?}");
    }
    assert_eq!(carries("no frame") + carries("unreadable frame"), 0);
    for holding in ["k1=t10", "k1=t11", "k1 deleted", "c0=5, counted"] {
        let text = |event: &serde_json::Value| event[3].as_str().is_some_and(|text| text.contains(holding));
        assert!(count(&data, "events", |event| event[2] == "version" && text(event)) > 0, "nobody holds {holding}");
    }
    for said in ["client 0 says ", "client 0 reads OK"] {
        let text = |event: &serde_json::Value| event[3].as_str().is_some_and(|text| text.starts_with(said));
        assert!(count(&data, "events", text) > 0, "{said:?} is missing");
    }
    assert_eq!(count(&data, "events", |event| event[2] == "heal"), 1);
    assert!(count(&data, "events", |event| event[3] == "survivors agree") > 0);
}

#[test]
fn lines_tell_frames_and_stay_short() {
    let outcome = world::run(&plan(), Watch::Tail);
    for line in &outcome.tail {
        assert!(line.chars().count() <= 401, "{line}");
    }
    for text in ["n0  -> n1 #", "record k1=t12 ", "n1  <- n0 #", "holds k1=t12", "run 0 stands still", "client 0 says "]
    {
        assert!(outcome.tail.iter().any(|line| line.contains(text)), "no line tells {text:?}");
    }
}

#[test]
fn a_failure_is_in_the_page_and_nothing_ends_its_script() {
    let plan = plan();
    let mut outcome = record(&plan);
    let detail = "run 3: k1 went back </script><script>alert(1)</script>".to_owned();
    outcome.verdict = Err(Failure { oracle: Oracle::Lww, at_us: 2_000_000, detail: detail.clone() });
    let page = page(&plan, &outcome, &OPTIONS);
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the code's");
    let data = data(&page);
    assert_eq!(data["failure"]["detail"], detail);
    assert_eq!(data["failure"]["key"], "k1");
    assert_eq!(data["replay"], OPTIONS.replay);
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("timeline.html"), page).expect("the page is written");
}
