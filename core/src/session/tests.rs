//! The session against a slow and simple reading of the same bytes. The golden scripts (`tests/scripts.rs`) run whole
//! nodes.
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::acl::User;
use crate::command::{Expires, Write};
use crate::repl::{NotForgotten, NotLeft};
use crate::time::WallMs;

/// Stands for a node: a session, its driver's buffers, and a map.
#[derive(Default)]
struct Bench {
    session: ClientSession,
    limits: Limits,
    rest: Vec<u8>,
    data: Data,
    wall_ms: u64,
    /// Commands that were run.
    runs: Vec<String>,
    looks_ahead: bool,
    /// Most bytes of output at once.
    out_bytes_max: usize,
}

impl Bench {
    fn open(limits: &Limits) -> Self {
        let session = ClientSession::of(Access::of(&User::default_user().into()));
        Self { session, limits: limits.clone(), ..Self::default() }
    }

    /// As a driver does: keeps what was not used, and comes again once the output is gone.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        self.rest.extend_from_slice(bytes);
        loop {
            let mut out = Vec::new();
            let Self { session, limits, rest, data, wall_ms, runs, looks_ahead, .. } = self;
            let mut ahead = Ahead::default();
            let known = if *looks_ahead { session.look_ahead(limits, rest, &mut ahead, 3) } else { 0 };
            let piece = if known == 0 { &rest[..] } else { &rest[..known] };
            let used = session.receive(limits, (piece, &mut ahead), &mut out, &mut |command, _, out| {
                runs.push(format!("{command:?}"));
                run(data, WallMs(*wall_ms), command, out)
            });
            self.rest.drain(..used);
            if known > 0 && used == known {
                sent.extend_from_slice(&out);
                continue;
            }
            self.out_bytes_max = self.out_bytes_max.max(out.len());
            let is_full = out.len() >= self.limits.output_bytes_max;
            sent.extend_from_slice(&out);
            if !is_full {
                return sent;
            }
        }
    }
}

type Data = BTreeMap<Vec<u8>, (Vec<u8>, Option<WallMs>)>;

fn run(data: &mut Data, wall: WallMs, command: &Command<'_>, out: &mut Vec<u8>) -> Flow {
    data.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > wall));
    let reply = match *command {
        Command::Get { key } => data.get(key).map_or(Reply::NotFound, |(value, _)| Reply::Value(value)),
        Command::Set(Write { key, value, expires, .. }) => {
            let deadline = if let Expires::In { ms } = expires { Some(wall.plus_ms(ms)) } else { None };
            data.insert(key.to_vec(), (value.to_vec(), deadline));
            Reply::Ok
        }
        Command::Del { keys } => {
            for key in keys {
                data.remove(key);
            }
            Reply::Ok
        }
        Command::Ttl { key, .. } => {
            data.get(key).map_or(Reply::NoTtl, |(_, deadline)| Reply::Ttl(deadline.map(|deadline| deadline.0 - wall.0)))
        }
        Command::Add { amount, .. } => Reply::Number(amount.into()),
        Command::Ping => Reply::Pong,
        Command::Help { topic } => Reply::Help { topic },
        Command::Stats => Reply::Value(b"{}"),
        Command::Peers => Reply::Value(b"none"),
        Command::Save | Command::Leave => Reply::NotLeft(NotLeft::Alone),
        Command::Forget { member } => Reply::NotForgotten { member, why: NotForgotten::Unknown },
        Command::Wait { copies, .. } => Reply::Count(copies),
        Command::Token => Reply::Value(b"token"),
        Command::WaitFor { token, .. } => Reply::Token(token),
        Command::Why { .. } | Command::Conflicts { .. } => Reply::Value(b"[]"),
        Command::Quit => {
            line::emit(&Reply::Ok, out);
            return Flow::Quit;
        }
        Command::Echo { message } => Reply::Value(message),
        _ => Reply::Status("done"),
    };
    line::emit(&reply, out);
    Flow::Continue
}

/// Reads one byte after the other and keeps the whole line: what the session must amount to.
fn read_simply(limits: &Limits, input: &[u8]) -> (Vec<u8>, bool) {
    let (mut data, mut out, mut telnet) = (Data::new(), Vec::new(), Telnet::default());
    let (mut typed, mut too_long) = (Vec::new(), false);
    for byte in input {
        let byte = if !telnet.is_inside() {
            if *byte == IAC {
                telnet.begin();
                continue;
            }
            *byte
        } else {
            match telnet.take(*byte, &mut out) {
                Taken::Nothing => continue,
                Taken::DataIac => IAC,
                Taken::NotTelnet => *byte,
                Taken::Interrupt => {
                    typed.clear();
                    too_long = false;
                    continue;
                }
            }
        };
        if typed.is_empty() && byte == END_OF_TRANSMISSION {
            return (out, true);
        }
        typed.push(byte);
        if !(typed.ends_with(b"\n") || typed.ends_with(b"\r\0")) {
            if typed.len() == limits.line_bytes_max {
                too_long = true;
                line::emit(&Reply::TooLong { what: Bounded::Line, bytes_max: limits.line_bytes_max }, &mut out);
            }
            continue;
        }
        typed.pop();
        let mut unquoted = Unquoted::default();
        let typed_line = std::mem::take(&mut typed);
        let typed_line = typed_line.strip_suffix(b"\r").unwrap_or(&typed_line);
        if std::mem::take(&mut too_long) {
            continue;
        }
        if is_http_simply(typed_line) {
            line::emit(&Reply::Http, &mut out);
            return (out, true);
        }
        match unquoted.words(typed_line).map(|words| commands::parse(words, limits)) {
            Ok(Some((_, Ok(command)))) => {
                if run(&mut data, WallMs(0), &command, &mut out) == Flow::Quit {
                    return (out, true);
                }
            }
            Ok(Some((_, Err(reply)))) => line::emit(&reply, &mut out),
            Ok(None) => {}
            Err(error) => line::emit(&Reply::BadWords(error), &mut out),
        }
    }
    (out, false)
}

fn is_http_simply(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let words: Vec<_> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let name = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    match name.as_str() {
        "POST" | "PUT" | "PATCH" | "OPTIONS" | "HEAD" | "CONNECT" | "TRACE" | "HOST:" => true,
        "SET" | "DEL" => false,
        _ => words.len() == 3 && (line.ends_with(" HTTP/1.0") || line.ends_with(" HTTP/1.1")),
    }
}

fn small_limits() -> Limits {
    Limits { key_bytes_max: 6, value_bytes_max: 10, line_bytes_max: 24, output_bytes_max: 30, ..Limits::default() }
}

fn check_reads<'a>(input: &[u8], reads: impl Iterator<Item = &'a [u8]>) {
    let reads: Vec<&[u8]> = reads.collect();
    for looks_ahead in [false, true] {
        check_reads_of(Bench { looks_ahead, ..Bench::open(&small_limits()) }, input, &reads);
    }
}

fn check_reads_of(mut bench: Bench, input: &[u8], reads: &[&[u8]]) {
    let limits = small_limits();
    let output: Vec<u8> = reads.iter().flat_map(|read| bench.send(read)).collect();
    let (expected, left) = read_simply(&limits, input);
    assert_eq!(output.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{}", input.escape_ascii());
    assert_eq!(bench.session.has_left(), left);
    assert!(bench.rest.len() < limits.line_bytes_max, "the caller never keeps more than a line");
    assert!(bench.session.copied.len() < limits.line_bytes_max, "nor does the session");
    let longest_reply = 3_000;
    assert!(bench.out_bytes_max < limits.output_bytes_max + longest_reply, "one reply past the limit at most");
}

/// Pieces that lines are made of, and that telnet sends.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"SET k v\n",
        b"GET k\r\n",
        b"DEL k kk\r\0",
        b"TTL k\n",
        b"PING\n",
        b"set \"a b\" 'c d' px 9\n",
        b"get \"a b\"\n",
        b"SET k \"\\xff\\n\\\"\"\n",
        b"SET k a b\n",
        b"SET ",
        b"GET ",
        b"k",
        b" \t",
        b"\"",
        b"'",
        b"\\",
        b"\r",
        b"\0",
        b"\n",
        b"\x04",
        b"QUIT\n",
        b"POST /x\r\n",
        b"k HTTP/1.1\r\n",
        b"host:",
        b"0123456789",
        b"012345678901234567890123456789",
        b"\r\0",
        b"\r\xff\xf1",
        b"\xff",
        b"\xff\xff",
        b"\xff\xf4",
        b"\xff\xf4\xff\xfd\x06",
        b"\xff\xf6",
        b"\xff\xf1",
        b"\xff\xfd\x01",
        b"\xff\xfb\x18",
        b"\xff\xfa\x18\x01\xff\xf0",
        b"\xff\xfa",
    ];
    prop_oneof![
        8 => prop::sample::select(texts).prop_map(<[u8]>::to_vec),
        // What begins with an asterisk is no line.
        1 => prop::collection::vec(any::<u8>().prop_map(|byte| if byte == b'*' { b'+' } else { byte }), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replies_depend_on_the_bytes_and_never_on_the_reads(
        pieces in prop::collection::vec(piece(), 0..24),
        cuts in prop::collection::vec(1_usize..12, 1..40),
    ) {
        let input = pieces.concat();
        check_reads(&input, std::iter::once(input.as_slice()));
        check_reads(&input, input.chunks(1));
        let mut rest = input.as_slice();
        check_reads(&input, cuts.iter().cycle().map_while(|cut| {
            let (read, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            (!read.is_empty()).then_some(read)
        }));
    }
}

#[test]
fn a_stream_may_be_cut_at_every_byte() {
    let input = b"SET k v\r\nGE\xff\xfd\x06T k\r\0SET \"a b\" \"\\xff\"\nGET 'a b'\n\xff\xf4\xff\xfd\x06PING\n\
        01234567890123456789\xff\xff0123456789\r\xff\xf1\nBAD\n\xff\xfa\x01\xff\xf0DEL k\nGET k\nQUIT\nPING\n";
    for cut in 0..=input.len() {
        check_reads(input, [&input[..cut], &input[cut..]].into_iter());
    }
}

#[test]
fn a_telnet_answer_does_not_wait_for_the_end_of_the_line() {
    let mut bench = Bench::open(&Limits::default());
    assert_eq!(bench.send(b"GET na\xff\xf4\xff\xfd\x06"), b"\xff\xfc\x06");
    assert_eq!(bench.send(b"GET na\xff\xf6"), b"[yes]\n");
    assert_eq!(bench.send(b"me\r\n"), b"Key not found\n");
}

#[test]
fn what_was_scanned_is_not_scanned_again() {
    let mut bench = Bench::open(&Limits::default());
    let mut line = b"SET key ".to_vec();
    for _ in 0..1_000 {
        assert_eq!(bench.send(&[b'x'; 7]), b"");
        line.extend_from_slice(&[b'x'; 7]);
        assert_eq!(bench.session.phase, Phase::InPlace { scanned: bench.rest.len() as u32 });
    }
    assert_eq!(bench.rest.len(), 7_000);
}

#[test]
fn lines_without_escapes_and_telnet_bytes_are_not_copied() {
    let mut bench = Bench::open(&Limits::default());
    bench.send(b"SET k {\"a\":1}\nGET k\nDEL k it's\nSET k v EX 10\n");
    assert_eq!(bench.runs.len(), 4);
    assert!(bench.runs[2].contains("InPlace"), "{}", bench.runs[2]);
    assert_eq!(bench.session.copied.capacity(), 0);
}

#[test]
fn an_idle_session_keeps_little() {
    let mut bench = Bench::open(&Limits::default());
    let word = "a ".repeat(200_000);
    bench.send(format!("SET k \"{word}\"\nDEL {word} \"b\"\nGET \u{ff}").as_bytes());
    bench.send(&[b"\xff\xf1SET k ".as_slice(), word.replace(' ', "a").as_bytes(), b"\xff\xf1\n"].concat());
    assert_eq!(bench.session.copied.capacity(), 0);
    let mut unquoted = Unquoted::default();
    std::mem::swap(&mut bench.session.unquoted, &mut unquoted);
    assert!(format!("{unquoted:?}").len() < 10_000);
}
