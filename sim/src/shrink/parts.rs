//! What the numbers in a plan's items stand for, and plans that lack a node or name things anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Ask, Fault, Item, Plan};

/// A number in an item.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Client(&'a mut u64),
    Node(&'a mut u64),
    /// A set of nodes; one that holds none of them or all says nothing.
    Nodes(&'a mut u64),
    Key(&'a mut u64),
    Counter(&'a mut u64),
    /// The smaller the simpler, down to the second.
    Size(&'a mut u64, u64),
    /// The nearer to zero the simpler; the second is simplest.
    Signed(&'a mut i64, i64),
    /// Off is simpler.
    Flag(&'a mut bool),
}

/// The parts of an item. A number whose least is not its simplest is left out, and so is what only names the item.
pub(super) fn parts(item: &mut Item) -> Vec<Part<'_>> {
    match item {
        Item::Ask { client, ask } => {
            let mut parts = ask_parts(ask);
            parts.push(Part::Client(client));
            parts
        }
        Item::Hangup { client } => vec![Part::Client(client)],
        Item::Deaf { client, ms } => vec![Part::Client(client), Part::Size(ms, 1)],
        Item::Move { client, node } => vec![Part::Client(client), Part::Node(node)],
        Item::Fault(fault) => fault_parts(fault),
    }
}

fn ask_parts(ask: &mut Ask) -> Vec<Part<'_>> {
    match ask {
        Ask::Set { key, token: _, pad, ttl_ms } => vec![Part::Key(key), Part::Size(pad, 0), Part::Size(ttl_ms, 0)],
        Ask::Get { key } | Ask::Del { key } | Ask::Ttl { key } | Ask::Why { key } => vec![Part::Key(key)],
        Ask::Add { counter, amount } => vec![Part::Counter(counter), Part::Signed(amount, 1)],
        Ask::Start { counter, at, ttl_ms } => vec![Part::Counter(counter), Part::Size(at, 0), Part::Size(ttl_ms, 0)],
        Ask::Clear { counter } | Ask::Sum { counter } => vec![Part::Counter(counter)],
        Ask::WaitFor { from, ms: _ } => vec![Part::Client(from)],
        Ask::Forget { node } => vec![Part::Node(node)],
        Ask::Publish { token: _, pad } => vec![Part::Size(pad, 0)],
        Ask::Wait { .. }
        | Ask::Token
        | Ask::Conflicts
        | Ask::Flush
        | Ask::Drop { .. }
        | Ask::Ping
        | Ask::Stats
        | Ask::Subscribe
        | Ask::Leave => Vec::new(),
    }
}

fn fault_parts(fault: &mut Fault) -> Vec<Part<'_>> {
    match fault {
        Fault::Partition { side, ms } => vec![Part::Nodes(side), Part::Size(ms, 1)],
        Fault::Cut { from, to, ms } | Fault::Stall { from, to, ms } => {
            vec![Part::Node(from), Part::Node(to), Part::Size(ms, 1)]
        }
        Fault::Slow { from, to, ms, factor } => {
            vec![Part::Node(from), Part::Node(to), Part::Size(ms, 1), Part::Size(factor, 1)]
        }
        Fault::Thin { from, to, ms, us } => {
            vec![Part::Node(from), Part::Node(to), Part::Size(ms, 1), Part::Size(us, 1)]
        }
        Fault::Intrude { node, kind: _, bytes, ms } => vec![Part::Node(node), Part::Size(bytes, 1), Part::Size(ms, 1)],
        Fault::Garble { from, to } | Fault::Reset { from, to } | Fault::HalfOpen { from, to } => {
            vec![Part::Node(from), Part::Node(to)]
        }
        Fault::Kill { node, ms, silent, alone } => {
            vec![Part::Node(node), Part::Size(ms, 1), Part::Flag(silent), Part::Flag(alone)]
        }
        Fault::Pause { node, ms }
        | Fault::Supersede { node, ms }
        | Fault::Crash { node, ms }
        | Fault::DiskFull { node, ms }
        | Fault::DiskFail { node, kind: _, ms }
        | Fault::Restore { node, ms }
        | Fault::Rollback { node, ms } => vec![Part::Node(node), Part::Size(ms, 1)],
        Fault::DiskSlow { node, ms, us } => vec![Part::Node(node), Part::Size(ms, 1), Part::Size(us, 1)],
        Fault::Flip { node, bit: _ } | Fault::Backup { node } => vec![Part::Node(node)],
        Fault::Clock { node, step_ms, drift_ppm } => {
            vec![Part::Node(node), Part::Signed(step_ms, 0), Part::Signed(drift_ppm, 0)]
        }
        Fault::Rot { node, key } => vec![Part::Node(node), Part::Key(key)],
    }
}

/// Whether a plan may be expected to pass: a sound one may become unsound by what is left out of its setting, and
/// would then fail for that reason.
pub(super) fn is_sound(plan: &Plan) -> bool {
    plan.setting.survivors != 0 && plan.survivors_meet(0)
}

/// The plan without `node` and all that names it; the nodes after it move up.
pub(super) fn without_node(plan: &Plan, node: u64) -> Option<Plan> {
    let (before, after) = (plan.setting.nodes, plan.setting.nodes.checked_sub(1).filter(|nodes| *nodes > 0)?);
    let below = (1 << node) - 1;
    let narrow = |set: u64| (set & below) | ((set >> 1) & !below);
    let rename = |name: u64| (name != node).then_some(name - u64::from(name > node));
    let keep = |part: Part<'_>| match part {
        Part::Node(name) => rename(*name).map(|new| *name = new).is_some(),
        Part::Client(client) => {
            let home = rename(*client % before);
            home.map(|home| *client = *client / before * after + home).is_some()
        }
        Part::Nodes(set) => {
            *set = narrow(*set & ((1 << before) - 1));
            *set != 0 && *set != (1 << after) - 1
        }
        Part::Key(_) | Part::Counter(_) | Part::Size(..) | Part::Signed(..) | Part::Flag(_) => true,
    };
    let mut plan = plan.clone();
    plan.items.retain_mut(|(_, item)| parts(item).into_iter().all(keep));
    plan.setting.nodes = after;
    plan.setting.survivors = narrow(plan.setting.survivors);
    plan.setting.clients = plan.setting.clients.div_ceil(before) * after;
    Some(plan)
}

/// The plan with as few clients as it names, each at the node where it was.
pub(super) fn with_fewer_clients(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let nodes = plan.setting.nodes;
    let mut used = BTreeSet::new();
    visit(&mut plan, |part| {
        if let Part::Client(client) = part {
            used.insert((*client % nodes, *client));
        }
    });
    let mut names = BTreeMap::new();
    for (home, client) in used {
        let before = names.range((home, 0)..=(home, u64::MAX)).count() as u64;
        names.insert((home, client), home + before * nodes);
    }
    visit(&mut plan, |part| {
        if let Part::Client(client) = part {
            *client = names[&(*client % nodes, *client)];
        }
    });
    plan.setting.clients = names.values().max().map_or(1, |last| last + 1);
    plan
}

/// The plan with as few keys as it names.
pub(super) fn with_fewer_keys(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut used = BTreeSet::new();
    visit(&mut plan, |part| {
        if let Part::Key(key) = part {
            used.insert(*key);
        }
    });
    let names: BTreeMap<u64, u64> = used.into_iter().zip(0..).collect();
    visit(&mut plan, |part| {
        if let Part::Key(key) = part {
            *key = names[key];
        }
    });
    plan.setting.keys = (names.len() as u64).max(1);
    plan
}

/// The plan with one key or client less: `key` instead of another one, or `client`, each as (which, instead).
pub(super) fn with_one_for_another(plan: &Plan, key: Option<(u64, u64)>, client: Option<(u64, u64)>) -> Plan {
    let mut plan = plan.clone();
    let rename = |name: &mut u64, names: Option<(u64, u64)>| {
        if let Some((_, instead)) = names.filter(|(which, _)| which == name) {
            *name = instead;
        }
    };
    visit(&mut plan, |part| match part {
        Part::Key(name) => rename(name, key),
        Part::Client(name) => rename(name, client),
        _ => {}
    });
    with_fewer_keys(&with_fewer_clients(&plan))
}

/// The plan without the keys after the last that it names.
pub(super) fn without_last_keys(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut keys = 1;
    visit(&mut plan, |part| {
        if let Part::Key(key) = part {
            keys = keys.max(*key + 1);
        }
    });
    plan.setting.keys = keys;
    plan
}

/// The plan without the counters after the last that it names. They keep their names: what may be added to one and
/// what not depends on its number.
pub(super) fn without_last_counters(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut counters = 0;
    visit(&mut plan, |part| {
        if let Part::Counter(counter) = part {
            counters = counters.max(*counter + 1);
        }
    });
    plan.setting.counters = counters;
    plan
}

fn visit(plan: &mut Plan, mut each: impl FnMut(Part<'_>)) {
    for (_, item) in &mut plan.items {
        parts(item).into_iter().for_each(&mut each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_without_a_node_names_the_others_anew() {
        let text = "nodes 3\nclients 6\nsurvivors 6\n1 set client=0 key=0 token=1 pad=0 ttl_ms=0\n\
                    2 get client=5 key=0\n3 get client=1 key=0\n4 waitfor client=4 from=3 ms=1\n\
                    5 partition side=5 ms=1\n6 partition side=1 ms=1\n7 kill node=2 ms=1 silent=0 alone=0\n\
                    8 cut from=2 to=0 ms=1\n9 forget client=1 node=2";
        let plan: Plan = text.parse().expect("a plan");
        let plan = without_node(&plan, 0).expect("there are three");
        let items: Vec<String> = plan.items.iter().map(|(at_us, item)| format!("{at_us} {item}")).collect();
        assert_eq!((plan.setting.nodes, plan.setting.clients, plan.setting.survivors), (2, 4, 3));
        assert_eq!(
            items,
            [
                "2 get client=3 key=0",
                "3 get client=0 key=0",
                "5 partition side=2 ms=1",
                "7 kill node=1 ms=1 silent=0 alone=0",
                "9 forget client=0 node=1"
            ]
        );
        assert_eq!(without_node(&without_node(&plan, 1).expect("two"), 0), None);
    }

    #[test]
    fn clients_keep_their_nodes_when_there_are_fewer() {
        let plan: Plan = "nodes 3\nclients 9\n1 get client=7 key=3\n2 get client=2 key=1\n3 get client=4 key=3"
            .parse()
            .expect("a plan");
        let items: Vec<_> =
            with_fewer_keys(&with_fewer_clients(&plan)).items.into_iter().map(|(_, item)| item).collect();
        let get = |client, key| Item::Ask { client, ask: Ask::Get { key } };
        assert_eq!(items, [get(4, 1), get(2, 0), get(1, 1)]);
    }
}
