//! Nodes with threads that help with sockets: what many clients ask for at once.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Client, Node, PATIENCE, eventually, free_port, shared_machine};

const CLIENTS: usize = 100;
const ROUNDS: usize = 20;
/// What clients count in a round.
const COUNTED: usize = 8;

/// Lengths of values: what fits anywhere, what does not go out in one piece, and what helpers leave to the node.
const LENGTHS: [usize; 4] = [1, 300, 10_000, 150_000];

fn value(number: usize, round: usize) -> String {
    let length = if round % 5 == 4 { LENGTHS[number % LENGTHS.len()] } else { number };
    format!("{number}.{round}.{}", "v".repeat(length))
}

fn ask(client: &mut Client, number: usize, round: usize) {
    let counts = "INCR hits\n".repeat(COUNTED);
    client.send(format!("SET key:{number} {}\nGET key:{number}\n{counts}", value(number, round)).as_bytes());
}

fn check(client: &mut Client, number: usize, round: usize) {
    assert_eq!(client.line(), "OK");
    assert!(client.line() == value(number, round), "client {number} in round {round} has its own value");
    let counts: Vec<u64> = (0..COUNTED).map(|_| client.line().parse().unwrap()).collect();
    assert!(counts.is_sorted_by(|one, next| one < next), "{counts:?}");
}

#[test]
fn many_clients_are_served_by_several_threads_and_each_gets_its_own() {
    let _machine = shared_machine();
    let ports = [free_port(), free_port()];
    let mut nodes = [0, 1].map(|at| Node::join(ports[at], &[ports[1 - at]], &["--threads", "3"]));
    nodes.iter().for_each(Node::wait_until_ready);
    // A thread gives itself its name once it runs, and others may end meanwhile.
    eventually("two threads help with sockets", PATIENCE, || {
        let tasks = fs::read_dir(format!("/proc/{}/task", nodes[0].pid().as_raw_nonzero())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let names: Vec<String> = names.collect();
        let helpers = names.iter().filter(|name| name.starts_with("sockets-")).count();
        if helpers == 2 { Ok(()) } else { Err(format!("{names:?}")) }
    });

    let mut clients: Vec<Client> = (0..CLIENTS).map(|number| nodes[number % 2].client()).collect();
    for round in 0..ROUNDS {
        clients.iter_mut().enumerate().for_each(|(number, client)| ask(client, number, round));
        clients.iter_mut().enumerate().for_each(|(number, client)| check(client, number, round));
        // One goes without its answers, and one comes.
        ask(&mut clients[round], CLIENTS + round, round);
        clients[round] = nodes[round % 2].client();
    }
    // What was asked for before a node was told to stop is answered, and peers have it.
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        ask(client, number, ROUNDS);
    }
    nodes[0].signal(Signal::TERM);
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        check(client, number, ROUNDS);
    }
    assert!(nodes[0].exit_status(PATIENCE).success());
    let least = CLIENTS * ROUNDS * COUNTED + CLIENTS / 2 * COUNTED;
    let most = least + ROUNDS * COUNTED;
    eventually("what the other node took is here", PATIENCE, || {
        let hits: usize = clients[1].ask("GET hits").parse().unwrap();
        if (least..=most).contains(&hits) { Ok(()) } else { Err(format!("{hits}, and not {least} to {most}")) }
    });
    for number in (0..CLIENTS).step_by(2) {
        assert!(clients[1].ask(&format!("GET key:{number}")) == value(number, ROUNDS), "key:{number}");
    }
}
