//! Whatever a server answers, a client takes it or says why not, and holds no more of it than it is told to.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SOON: Duration = Duration::from_secs(20);
/// More than any answer that is drawn whole.
const BYTES_MAX: usize = 64 << 10;

/// What is taken of a server that says `said` and closes.
fn taken(said: Vec<u8>, bytes_max: usize) -> Result<Value, Lost> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut connection = Connection::connect(&server, None, SOON).unwrap().with_bytes_max(bytes_max);
    let (mut stream, _) = listener.accept().unwrap();
    // Who wants no more of it has left.
    let sender = thread::spawn(move || drop(stream.write_all(&said)));
    let taken = connection.answer(Some(SOON));
    drop(connection);
    sender.join().unwrap();
    taken
}

/// Bytes of all texts of an answer.
fn held(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Boolean(_) => 0,
        Value::Simple(text) | Value::Error(text) | Value::Double(text) | Value::BigNumber(text) => text.len(),
        Value::Blob(text) | Value::Verbatim(text) => text.len(),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => items.iter().map(held).sum(),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| held(name) + held(value)).sum(),
    }
}

/// Appends an answer as a server writes it in version 3.
fn emit(value: &Value, out: &mut Vec<u8>) {
    let mut put = |kind: &str, text: &[u8]| out.extend_from_slice(&[kind.as_bytes(), text, b"\r\n"].concat());
    let text_of = |length: usize| length.to_string().into_bytes();
    match value {
        Value::Null => put("_", b""),
        Value::Simple(text) => put("+", text),
        Value::Error(text) => put("-", text),
        Value::Integer(number) => put(":", number.to_string().as_bytes()),
        Value::Boolean(is_so) => put("#", if *is_so { b"t" } else { b"f" }),
        Value::Double(text) => put(",", text),
        Value::BigNumber(text) => put("(", text),
        Value::Blob(text) => {
            put("$", &text_of(text.len()));
            put("", text);
        }
        Value::Verbatim(text) => {
            put("=", &text_of(text.len() + 4));
            put("txt:", text);
        }
        Value::Array(items) => put("*", &text_of(items.len())),
        Value::Set(items) => put("~", &text_of(items.len())),
        Value::Push(items) => put(">", &text_of(items.len())),
        Value::Map(pairs) => put("%", &text_of(pairs.len())),
    }
    value.items().iter().for_each(|item| emit(item, out));
    if let Value::Map(pairs) = value {
        for (name, value) in pairs {
            emit(name, out);
            emit(value, out);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let line = "[ -~]{0,20}".prop_map(String::into_bytes);
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        line.clone().prop_map(Value::Simple),
        line.clone().prop_map(Value::Error),
        line.clone().prop_map(Value::Double),
        line.prop_map(Value::BigNumber),
        bytes.clone().prop_map(Value::Blob),
        bytes.prop_map(Value::Verbatim),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            items.clone().prop_map(Value::Array),
            items.clone().prop_map(Value::Set),
            items.prop_map(Value::Push),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

/// Pieces that answers are made of, in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => ("[+:,(#_$!=*~>%|-]", prop_oneof![Just(-1_i64), 0..9_i64, any::<i64>()])
            .prop_map(|(kind, count)| format!("{kind}{count}\r\n").into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(b"\r\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_of_any_kind_is_taken_as_it_was_said(value in value()) {
        let mut said = Vec::new();
        emit(&value, &mut said);
        prop_assert_eq!(taken(said, BYTES_MAX).unwrap(), value);
    }

    #[test]
    fn whatever_is_said_is_taken_or_refused_and_no_more_is_held_than_may_be(
        said in pieces(), bytes_max in 0_usize..2_000,
    ) {
        if let Ok(value) = taken(said, bytes_max) {
            prop_assert!(held(&value) <= bytes_max);
        }
    }

    #[test]
    fn an_answer_in_which_a_byte_is_another_is_taken_or_refused(value in value(), at in any::<usize>(), by in 1_u8..) {
        let mut said = Vec::new();
        emit(&value, &mut said);
        let at = at % said.len();
        said[at] ^= by;
        if let Ok(value) = taken(said, BYTES_MAX) {
            prop_assert!(held(&value) <= BYTES_MAX);
        }
    }
}
