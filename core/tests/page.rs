//! The page at `/`: what a browser is told that it may do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};

/// The answer to a GET of the page, head and body.
fn page() -> (String, String) {
    let (now, client) = (Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) }, ConnId(1));
    let config = Config::new([1, 2, 3, 4], "a", "a:1");
    let mut turn = Turn::new(config, now);
    turn.begin(now);
    turn.event(Event::Opened { conn: client });
    turn.input(client, b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
    let answer = String::from_utf8(turn.output(client).to_vec()).expect("a page is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_browser_runs_what_is_in_the_page_and_asks_nobody_else() {
    let (head, body) = page();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let hash = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>")).expect("one without attributes");
        let (text, rest) = rest.split_once(&format!("</{tag}>")).expect("its end");
        assert!(!rest.contains(&format!("<{tag}")), "one is allowed, by its hash");
        format!("'sha256-{}'", STANDARD.encode(sha256(text.as_bytes())))
    };
    for field in [
        "Content-Type: text/html; charset=utf-8".to_owned(),
        "X-Content-Type-Options: nosniff".to_owned(),
        "Referrer-Policy: no-referrer".to_owned(),
        "X-Frame-Options: DENY".to_owned(),
        format!(
            "Content-Security-Policy: default-src 'none'; connect-src 'self'; script-src {}; style-src {}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        ),
    ] {
        assert!(head.lines().any(|line| line == field), "{field}\nis not in\n{head}");
    }
    // None of that would be run, and markup is made of nothing that others say.
    for absent in [" style=", " onclick=", " src=", "innerHTML", "insertAdjacent", "eval("] {
        assert!(!body.contains(absent), "{absent}");
    }
    assert!(body.len() < 64 << 10);
}

#[test]
fn the_hashes_are_those_of_the_standard() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // FIPS 180-2, appendix B.1 and B.2.
    for (text, sum) in [
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ] {
        assert_eq!(hex(&sha256(text.as_bytes())), sum);
    }
}

/// FIPS 180-4. The constants are fractions of roots of primes, worked out here.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let primes: Vec<u64> = (2_u64..312).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    let fraction = |root: &dyn Fn(u128) -> bool| {
        (0..32).rev().fold(0_u128, |at, bit| if root(at | 1 << bit) { at | 1 << bit } else { at })
    };
    // The greatest number of 32 bits behind the point whose root is not too great: whole parts are at most 7 and 18.
    let cube = |prime: u64| {
        let whole = (0..8).filter(|n: &u128| n.pow(3) <= u128::from(prime)).max().unwrap_or(0);
        let fits = |f: u128| ((whole << 32) | f).pow(3) <= u128::from(prime) << 96;
        fraction(&fits) as u32
    };
    let square = |prime: u64| {
        let whole = (0..19).filter(|n: &u128| n.pow(2) <= u128::from(prime)).max().unwrap_or(0);
        let fits = |f: u128| ((whole << 32) | f).pow(2) <= u128::from(prime) << 64;
        fraction(&fits) as u32
    };
    let k: Vec<u32> = primes.iter().take(64).map(|prime| cube(*prime)).collect();
    let mut state: Vec<u32> = primes.iter().take(8).map(|prime| square(*prime)).collect();
    let mut padded = [bytes, &[0x80]].concat();
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let word = |four: &[u8]| u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        let mut w: Vec<u32> = block.chunks(4).map(word).collect();
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
            w.push(w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1));
        }
        let mut v = state.clone();
        for t in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let chosen = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = v[7].wrapping_add(s1).wrapping_add(chosen).wrapping_add(k[t]).wrapping_add(w[t]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let two = s0.wrapping_add((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            v.rotate_right(1);
            (v[4], v[0]) = (v[4].wrapping_add(one), one.wrapping_add(two));
        }
        state.iter_mut().zip(v).for_each(|(sum, v)| *sum = sum.wrapping_add(v));
    }
    let mut out = [0; 32];
    out.chunks_mut(4).zip(state).for_each(|(four, word)| four.copy_from_slice(&word.to_be_bytes()));
    out
}
