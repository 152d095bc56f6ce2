//! Once warm, the paths that every operation takes allocate nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;

use kv_core::{Effects, Event, Node};

use crate::harness::{CLIENT, Cluster, START, config};

/// Passes everything on and counts what this thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Rounds before anything is counted: enough that the ring has wrapped and every buffer has its size.
const WARM_ROUNDS: u32 = 200;

/// Rounds that are counted.
const ROUNDS: u32 = 100;

/// Sixteen commands in one piece: what a pipelining client sends at a time.
fn pipeline(command: impl Fn(u32) -> String) -> Vec<u8> {
    (0..16).map(command).collect::<Vec<_>>().concat().into_bytes()
}

/// A node, a client's buffers, and whatever the node is asked 16 times over.
fn check_node(mut node: Node, prepare: &[u8], work: &[u8], reply: &[u8]) {
    let mut effects = Effects::default();
    let mut out = Vec::with_capacity(64 << 10);
    node.handle(START, Event::Opened { conn: CLIENT }, &mut effects);
    assert_eq!(node.receive(START, CLIENT, prepare, &mut out, &mut effects), prepare.len());
    let mut round = || {
        out.clear();
        effects.actions.clear();
        assert_eq!(node.receive(START, CLIENT, work, &mut out, &mut effects), work.len());
    };
    (0..WARM_ROUNDS).for_each(|_| round());
    let count = allocations(|| (0..ROUNDS).for_each(|_| round()));
    assert_eq!(out, reply.repeat(16));
    assert_eq!(count, 0, "{ROUNDS} times 16 commands allocate");
}

#[test]
fn sixteen_gets_at_a_time_allocate_nothing() {
    let set = pipeline(|at| format!("SET key{at:02} a value\n").replace("a value", "a-value"));
    let get = pipeline(|at| format!("GET key{at:02}\r\n"));
    check_node(Node::new(config("a", &[]), START), &set, &get, b"a-value\n");
    let quoted = pipeline(|at| format!("GET \"key\\x{:02x}{}\"\r\n", b'0' + (at / 10) as u8, at % 10));
    check_node(Node::new(config("a", &[]), START), &set, &quoted, b"a-value\n");
}

#[test]
fn sixteen_overwrites_at_a_time_allocate_nothing() {
    let set = pipeline(|at| format!("SET key{at:02} value{at:02} EX 100\n"));
    check_node(Node::new(config("a", &[]), START), &set, &set, b"OK\n");
    // One that names a peer keeps a tail from the beginning.
    check_node(Node::new(config("a", &["b:1"]), START), &set, &set, b"OK\n");
}

/// A request of the Redis protocol.
fn request(words: &str) -> String {
    let args: String = words.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{args}", words.split(' ').count())
}

#[test]
fn sixteen_requests_of_the_redis_protocol_at_a_time_allocate_nothing() {
    let set = pipeline(|at| request(&format!("SET key{at:02} value{at:02}")));
    let get = pipeline(|at| request(&format!("GET key{at:02}")));
    check_node(Node::new(config("a", &[]), START), &set, &set, b"+OK\r\n");
    check_node(Node::new(config("a", &["b:1"]), START), &set, &set, b"+OK\r\n");
    let same = pipeline(|at| request(&format!("SET key{at:02} a-value")));
    check_node(Node::new(config("a", &[]), START), &same, &get, b"$7\r\na-value\r\n");
}

#[test]
fn sixteen_requests_in_another_keyspace_at_a_time_allocate_nothing() {
    let set = pipeline(|at| request(&format!("SET key{at:02} a-value")));
    let get = pipeline(|at| request(&format!("GET key{at:02}")));
    let prepare = [request("SELECT 3").as_bytes(), &set].concat();
    check_node(Node::new(config("a", &["b:1"]), START), &prepare, &set, b"+OK\r\n");
    check_node(Node::new(config("a", &[]), START), &prepare, &get, b"$7\r\na-value\r\n");
}

#[test]
fn replication_to_two_peers_allocates_nothing() {
    let mut cluster = Cluster::of_three();
    let mut commands = Vec::with_capacity(4 << 10);
    let mut text = String::with_capacity(4 << 10);
    let mut round = 0;
    let mut write = |cluster: &mut Cluster| {
        round += 1;
        text.clear();
        for at in 0..16 {
            writeln!(text, "SET key{at:02} value{round:06}").expect("a string takes anything");
        }
        commands.clear();
        commands.extend_from_slice(text.as_bytes());
        cluster.write(&commands);
    };
    (0..WARM_ROUNDS).for_each(|_| write(&mut cluster));
    let count = allocations(|| (0..ROUNDS).for_each(|_| write(&mut cluster)));
    assert_eq!(cluster.replies, b"OK\n".repeat(16));
    let last = format!("value{:06}", WARM_ROUNDS + ROUNDS);
    for turn in &cluster.turns {
        let held = turn.node().peek(b"key07").and_then(|record| record.value);
        assert_eq!(held, Some(last.as_bytes()), "every node holds the last write");
    }
    assert_eq!(count, 0, "{ROUNDS} times 16 writes to three nodes allocate");
}
