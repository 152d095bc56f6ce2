//! The Redis client of Rust, as it comes, against a node in a cluster.

use redis::{Commands, ConnectionLike, ErrorKind, ExistenceCheck, ServerErrorKind, SetExpiry, SetOptions};

use crate::harness::{Node, PATIENCE, eventually, free_port, shared_machine};

fn connect(node: &Node, protocol: u8) -> redis::Connection {
    let url = format!("redis://{}/?protocol=resp{protocol}", node.address);
    redis::Client::open(url).expect("an address").get_connection().expect("the node listens")
}

#[test]
fn it_works_as_it_comes_in_both_versions_of_the_protocol() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    for protocol in [2, 3] {
        let mut client = connect(&node, protocol);
        let (key, value) = ((0..=255).collect::<Vec<u8>>(), vec![0xa5_u8; 10 << 20]);
        let _: () = client.set(&key, &value).expect("10 MB");
        assert_eq!(client.get::<_, Vec<u8>>(&key), Ok(value));
        assert_eq!(client.get::<_, Option<String>>("none"), Ok(None));
        let once = SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::EX(100));
        assert_eq!(client.set_options::<_, _, bool>("once", "1", once), Ok(true));
        assert_eq!(client.ttl::<_, i64>("once"), Ok(100));
        assert_eq!(client.del::<_, i64>(&["once", "none"]), Ok(1));
        assert_eq!(client.incr::<_, _, i64>("n", 5), Ok(5));
        assert_eq!(client.mset(&[("a", "1"), ("b", "2")]), Ok(()));
        assert_eq!(client.mget::<_, Vec<Option<i64>>>(&["a", "x", "b"]), Ok(vec![Some(1), None, Some(2)]));
        let mut pipeline = redis::pipe();
        for at in 0..1_000 {
            pipeline.set(format!("p:{at}"), at).ignore().get(format!("p:{at}"));
        }
        assert_eq!(pipeline.query::<Vec<i64>>(&mut client), Ok((0..1_000).collect()));
        let found = client.scan_match::<_, String>("p:*").expect("a cursor").filter_map(Result::ok).count();
        assert_eq!(found, 1_000);
        let wrong = client.incr::<_, _, i64>("a", "x").expect_err("no number");
        assert_eq!(wrong.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
        assert!(client.check_connection());
        let keys: Vec<Vec<u8>> = client.keys("*").expect("all of them");
        assert_eq!(client.del::<_, usize>(&keys), Ok(keys.len()));
    }
}

#[test]
fn what_one_node_is_given_others_have_and_a_client_comes_back_after_a_restart() {
    let _machine = shared_machine();
    let [one, two] = [free_port(), free_port()];
    let mut first = Node::join(one, &[two], &[]);
    let second = Node::join(two, &[one], &[]);
    let mut client = connect(&first, 3);
    assert_eq!(client.set("k", "v"), Ok(()));
    let mut other = connect(&second, 2);
    eventually("the other has it", PATIENCE, || match other.get::<_, Option<String>>("k") {
        Ok(Some(value)) if value == "v" => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(redis::cmd("WAIT").arg(1).arg(10_000).query::<i64>(&mut client), Ok(1));
    assert_eq!(other.del::<_, i64>("k"), Ok(1));
    eventually("it is deleted here too", PATIENCE, || match client.exists::<_, bool>("k") {
        Ok(false) => Ok(()),
        found => Err(format!("{found:?}")),
    });
    first.kill();
    let lost = client.get::<_, Option<String>>("k").expect_err("the node is gone");
    assert!(lost.is_connection_dropped() || lost.is_io_error(), "{lost}");
    let first = Node::join(one, &[two], &[]);
    assert_eq!(connect(&first, 3).set("k", "w"), Ok(()));
}
