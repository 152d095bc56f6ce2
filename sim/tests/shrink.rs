//! The shrinker against made-up defects, of which it is known what they need.

use sim::shrink::{Budget, REPLAYS_MAX, Shrunk, shrink};
use sim::trial::{Defect, Kind};
use sim::{Ask, Fault, Item, Oracle, Plan, swarm};

/// A defect of plans that `fails` says yes to.
fn defect_if(fails: bool) -> Option<Defect> {
    fails.then(|| Defect { kind: Kind::Oracle(Oracle::Lww), at_us: None, detail: String::new() })
}

/// Shrinks the first drawn plan that fails, whole or within so many replays.
#[track_caller]
fn check(fails: impl Fn(&Plan) -> bool, replays_max: u64) -> (Plan, Shrunk) {
    let plan = (0..5_000).map(swarm::draw).find(|plan| plan.items.len() > 100 && fails(plan)).expect("one fails");
    let run = |plan: &Plan| defect_if(fails(plan));
    let budget = Budget { replays_max, goes_on: &mut |_, _| true };
    let shrunk = shrink(&plan, run(&plan).expect("it fails"), &run, budget);
    assert!(fails(&shrunk.plan), "the shrunk plan fails");
    assert!(shrunk.replays <= replays_max);
    assert_eq!(shrunk.plan.to_string().parse().as_ref(), Ok(&shrunk.plan), "it survives its text");
    (plan, shrunk)
}

fn has_kill_then_set(plan: &Plan) -> bool {
    let kill = |item: &Item| matches!(item, Item::Fault(Fault::Kill { node: 1, .. }));
    let set = |item: &Item| matches!(item, Item::Ask { ask: Ask::Set { key: 3, .. }, .. });
    let after = plan.items.iter().skip_while(|(_, item)| !kill(item));
    plan.setting.nodes >= 3 && after.clone().any(|(_, item)| set(item))
}

#[test]
fn what_the_defect_does_not_need_is_left_out() {
    let (_, Shrunk { plan, replays, .. }) = check(has_kill_then_set, REPLAYS_MAX);
    let items: Vec<String> = plan.items.iter().map(|(_, item)| item.to_string()).collect();
    let [kill, set] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(kill, "kill node=1 ms=1 silent=0 alone=0");
    // A client stays at its node, so it is one of the first three.
    assert!(set.contains(" key=3 ") && set.ends_with(" pad=0 ttl_ms=0"), "{set}");
    let setting = &plan.setting;
    assert!(setting.clients <= 3, "{plan}");
    assert_eq!((setting.nodes, setting.keys, setting.counters, setting.survivors), (3, 4, 0, 7));
    assert_eq!((setting.chunking, setting.skew_ms, setting.linger, setting.latency_us_mean), (0, 0, 0, 0));
    assert!(setting.load_ms <= 4 && replays < 300, "{replays} replays\n{plan}");
}

#[test]
fn items_that_need_each_other_stay() {
    // Most runs of items that are left out break it at first, and at last any item does.
    let fails = |plan: &Plan| {
        let count = |wanted: fn(&Ask) -> bool| {
            plan.items.iter().filter(|(_, item)| matches!(item, Item::Ask { ask, .. } if wanted(ask))).count()
        };
        let (sets, deletes) =
            (count(|ask| matches!(ask, Ask::Set { .. })), count(|ask| matches!(ask, Ask::Del { .. })));
        sets >= 5 && deletes >= 3
    };
    let (_, Shrunk { plan, .. }) = check(fails, REPLAYS_MAX);
    assert_eq!((plan.items.len(), plan.setting.nodes, plan.setting.keys), (8, 1, 1), "{plan}");
}

#[test]
fn the_budget_and_the_caller_end_the_search() {
    let (before, shrunk) = check(has_kill_then_set, 7);
    assert_eq!(shrunk.replays, 7);
    assert!(shrunk.plan.items.len() <= before.items.len());
    let run = |plan: &Plan| defect_if(has_kill_then_set(plan));
    let mut seen = Vec::new();
    let mut goes_on = |_: &Plan, replays| {
        seen.push(replays);
        replays < 3
    };
    let budget = Budget { replays_max: REPLAYS_MAX, goes_on: &mut goes_on };
    assert_eq!(shrink(&before, run(&before).expect("it fails"), &run, budget).replays, 3);
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn the_same_plan_shrinks_to_the_same() {
    let [first, again] = [(); 2].map(|()| check(has_kill_then_set, REPLAYS_MAX).1);
    assert_eq!((first.plan, first.replays), (again.plan, again.replays));
}

#[test]
fn what_comes_after_the_failure_goes_at_once() {
    let plan = (0..5_000).map(swarm::draw).find(|plan| plan.items.len() > 100).expect("one is long");
    let at_us = plan.items[10].0;
    let late = plan.items.iter().filter(|(item_us, _)| *item_us > at_us).count();
    let run = |plan: &Plan| {
        let fails = plan.items.iter().filter(|(item_us, _)| *item_us <= at_us).count() > 10;
        defect_if(fails).map(|defect| Defect { at_us: Some(at_us), ..defect })
    };
    let budget = Budget { replays_max: 1, goes_on: &mut |_, _| true };
    let shrunk = shrink(&plan, run(&plan).expect("it fails"), &run, budget);
    assert_eq!(shrunk.plan.items.len(), plan.items.len() - late);
}
