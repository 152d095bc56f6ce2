//! All nodes are restarted, one after the other, while clients go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::cluster::{expect_equal_digests, expect_everywhere};
use crate::durable::Data;
use crate::harness::{Client, Node, PATIENCE, eventually, free_port, look_again, not_ready, quiet_machine};

const CLIENTS: usize = 4;
/// How many writes there are before a node is restarted, and while it is.
const WRITES: usize = 500;

/// A client behind a balancer: it is sent to a node that says it is ready, and when that ends the connection to
/// another one. It writes key after key, and a key again of which it does not know whether it was taken.
struct Balanced<'a> {
    nodes: &'a [SocketAddr],
    name: usize,
    /// Keys that were acknowledged.
    count: usize,
    connection: Option<Client>,
    next: usize,
}

impl Balanced<'_> {
    /// Writes one key.
    fn write(&mut self) {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < PATIENCE, "no node takes a write");
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => match self.connect() {
                    Some(connection) => connection,
                    None => continue,
                },
            };
            let set = format!("SET client-{}-{} v\n", self.name, self.count);
            let answer = std::io::Write::write_all(connection.socket(), set.as_bytes())
                .map_err(|error| error.to_string())
                .and_then(|()| connection.try_line());
            match answer.as_deref() {
                Ok("OK") => {
                    self.count += 1;
                    self.connection = Some(connection);
                    return;
                }
                Ok(refusal) => panic!("a node that said it was ready refused: {refusal}"),
                // It stops: on to another.
                Err(_) => {}
            }
        }
    }

    fn connect(&mut self) -> Option<Client> {
        let address = self.nodes[self.next % self.nodes.len()];
        self.next += 1;
        let is_ready = not_ready(address).is_ok_and(|why| why.is_empty());
        let connection = is_ready.then(|| Client::try_connect(address).ok()).flatten();
        if connection.is_none() {
            look_again();
        }
        connection
    }
}

/// Clients write until the end of `during`; how many keys each had acknowledged.
fn under_load(nodes: &[SocketAddr], during: impl FnOnce(&dyn Fn() -> Vec<usize>)) -> Vec<usize> {
    let is_over = AtomicBool::new(false);
    let counts: Vec<AtomicUsize> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
    let read = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| {
                let (counts, is_over) = (&counts, &is_over);
                scope.spawn(move || {
                    let mut client = Balanced { nodes, name, count: 0, connection: None, next: name };
                    while !is_over.load(Ordering::Relaxed) {
                        client.write();
                        counts[name].store(client.count, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Also if it panics: clients would go on for ever.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let ends = Ends(&is_over);
        during(&read);
        drop(ends);
        clients.into_iter().for_each(|client| client.join().expect("no client was refused"));
    });
    read()
}

/// Restarts each of three nodes in turn under load, each when the one before says that it is ready, by `flags` of its
/// own.
fn check_rolling_restart(flags: &[Vec<&str>; 3]) {
    let _machine = quiet_machine();
    let ports = [free_port(), free_port(), free_port()];
    let start = |index: usize| {
        let others: Vec<u16> = ports.iter().copied().filter(|port| *port != ports[index]).collect();
        Node::join(ports[index], &others, &flags[index])
    };
    let mut nodes = [start(0), start(1), start(2)];
    let addresses = nodes.each_ref().map(|node| node.address);
    nodes.iter().for_each(Node::wait_until_ready);
    let counts = under_load(&addresses, |counts| {
        let wait_for_writes = || {
            let before: usize = counts().iter().sum();
            eventually("clients go on", PATIENCE, || match counts().iter().sum::<usize>() - before {
                WRITES.. => Ok(()),
                count => Err(format!("{count} writes")),
            });
        };
        for (index, node) in nodes.iter_mut().enumerate() {
            wait_for_writes();
            node.signal(Signal::TERM);
            assert_eq!(node.exit_status(PATIENCE).code(), Some(0), "node {index}");
            node.logged("stopped", PATIENCE);
            let lacking = node.log_line("do not have all that was written here");
            assert!(lacking.is_err(), "node {index}: {lacking:?}");
            // The others serve.
            wait_for_writes();
            let before = counts();
            *node = start(index);
            node.wait_until_ready();
            // What the others had when it came it has by now.
            let mut client = node.client();
            for (name, count) in before.into_iter().enumerate() {
                let key = format!("client-{name}-{}", count - 1);
                assert_eq!(client.ask(&format!("GET {key}")), "v", "node {index} says that it is ready, {key}");
            }
        }
        wait_for_writes();
    });
    for (name, count) in counts.iter().enumerate() {
        expect_everywhere(&nodes, &format!("client-{name}-{}", count - 1), "v", PATIENCE);
    }
    expect_equal_digests(&nodes);
    for node in &nodes {
        let mut client = node.client();
        for (name, count) in counts.iter().enumerate() {
            for at in 0..*count {
                assert_eq!(client.ask(&format!("GET client-{name}-{at}")), "v", "{at} of {count}");
            }
        }
    }
}

#[test]
fn a_rolling_restart_loses_and_refuses_nothing() {
    let data = [Data::new(), Data::new(), Data::new()];
    let flags = [0, 1, 2].map(|index| vec!["--data-dir", data[index].text()]);
    check_rolling_restart(&flags);
}

#[test]
fn nor_does_one_of_nodes_that_keep_nothing() {
    check_rolling_restart(&[vec![], vec![], vec![]]);
}

#[test]
fn who_is_not_ready_says_so_before_it_has_what_the_others_have() {
    const KEYS: usize = 3_000;
    let _machine = quiet_machine();
    let first = free_port();
    let node = Node::join(first, &[], &[]);
    let mut client = node.client();
    let value = "v".repeat(10_000);
    let sets: String = (0..KEYS).map(|at| format!("SET key-{at} {value}\n")).collect();
    client.send(sets.as_bytes());
    (0..KEYS).for_each(|_| assert_eq!(client.line(), "OK"));
    let newcomer = Node::join(free_port(), &[first], &[]);
    let mut was_behind = false;
    let begin = Instant::now();
    loop {
        let why = newcomer.not_ready().expect("it answers");
        let keys = newcomer.client().stats()["keys"].as_u64().expect("a number");
        if why.is_empty() {
            assert_eq!(keys, KEYS as u64);
            break;
        }
        was_behind |= why.contains(&"catching-up".to_owned());
        assert!(begin.elapsed() < PATIENCE, "{why:?}, {keys} keys");
        look_again();
    }
    assert!(was_behind);
}
