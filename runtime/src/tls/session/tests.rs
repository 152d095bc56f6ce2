use std::io::Read;

use rustls::pki_types::ServerName;

use super::*;
use crate::tls::tests::door;

const UNTIL: Mono = Mono(10_000_000);

/// Both ends of a connection, and what the node was told.
struct Ends {
    door: Door,
    client: ClientConnection,
    node: Session,
    told: Vec<u8>,
}

impl Ends {
    fn new() -> Self {
        let (door, config) = door();
        let client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).expect("a client");
        Self { door, client, node: Session::met(UNTIL), told: Vec::new() }
    }

    fn standing() -> Self {
        let mut ends = Self::new();
        ends.exchange();
        assert_eq!(ends.node.until(), None, "the handshake is over");
        assert!(!ends.client.is_handshaking());
        ends
    }

    /// What the client has to send.
    fn sealed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    fn say(&mut self, plain: &[u8]) -> Vec<u8> {
        self.client.set_buffer_limit(None);
        self.client.writer().write_all(plain).expect("no limit");
        self.sealed()
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<Taken, Broken> {
        let Self { door, node, told, .. } = self;
        if node.meet(door, &mut bytes)? == Met::Not {
            return Ok(Taken::Open);
        }
        node.take(bytes, &mut |plain| told.extend_from_slice(plain))
    }

    /// Has the client read all that the node has sealed; what that says.
    fn hear(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        while self.node.holds_sealed() {
            self.node.write_to(&mut sealed).expect("memory");
        }
        let mut heard = Vec::new();
        let mut bytes = &sealed[..];
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).expect("room");
            self.client.process_new_packets().expect("records");
            let _ = self.client.reader().read_to_end(&mut heard);
        }
        heard
    }

    fn exchange(&mut self) {
        while self.client.wants_write() || self.node.holds_sealed() {
            let bytes = self.sealed();
            self.take(&bytes).expect("a handshake");
            self.hear();
        }
    }
}

#[test]
fn what_was_said_is_handed_on_at_once_however_it_is_cut_into_records_and_reads() {
    let said: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    for piece in [1, 7, 1_000, 4_096, 16_384, 70_000, said.len()] {
        for record in [1_000, 16_384, said.len()] {
            let mut ends = Ends::standing();
            let mut told = 0;
            for plain in said.chunks(record) {
                let sealed = ends.say(plain);
                for bytes in sealed.chunks(piece) {
                    assert_eq!(ends.take(bytes), Ok(Taken::Open));
                }
                told += plain.len();
                assert_eq!(ends.told.len(), told, "nothing stays inside: pieces of {piece}, records of {record}");
            }
            assert!(ends.told == said);
        }
    }
}

#[test]
fn commands_that_come_with_the_end_of_the_handshake_are_taken() {
    let mut ends = Ends::new();
    let first = ends.sealed();
    ends.take(&first).expect("the first message");
    ends.hear();
    ends.client.writer().write_all(b"PING\n").unwrap();
    let last = ends.sealed();
    assert_eq!(ends.node.until(), Some(UNTIL));
    assert_eq!(ends.take(&last), Ok(Taken::Open));
    assert_eq!((ends.told.as_slice(), ends.node.until()), (&b"PING\n"[..], None));
}

#[test]
fn a_handshake_byte_by_byte() {
    let mut ends = Ends::new();
    while ends.client.wants_write() || ends.node.holds_sealed() {
        for byte in ends.sealed() {
            ends.take(&[byte]).expect("a handshake");
        }
        ends.hear();
    }
    assert_eq!(ends.node.until(), None);
}

#[test]
fn no_more_is_sealed_than_the_socket_has_taken() {
    let mut ends = Ends::standing();
    let plain = vec![b'v'; 1 << 20];
    let mut sealed = 0;
    // Nobody reads.
    loop {
        match ends.node.seal(&plain[sealed..]).unwrap() {
            0 => break,
            count => sealed += count,
        }
    }
    assert!((1..=SEALED_BYTES_MAX).contains(&sealed), "{sealed} bytes were taken");
    assert!(ends.node.holds_sealed());
    // Somebody reads after all: the rest goes out, from where it stopped.
    let mut heard = ends.hear();
    while heard.len() < plain.len() {
        sealed += ends.node.seal(&plain[sealed..]).unwrap();
        let more = ends.hear();
        assert!(!more.is_empty(), "it goes on");
        heard.extend(more);
    }
    assert!(heard == plain);
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_over() {
    let mut ends = Ends::new();
    assert_eq!(ends.node.seal(b"early").unwrap(), 0);
    let first = ends.sealed();
    ends.take(&first).expect("the first message");
    assert_eq!(ends.node.seal(b"early").unwrap(), 0);
    ends.exchange();
    assert_eq!(ends.node.seal(b"late").unwrap(), 4);
    assert_eq!(ends.hear(), b"late");
}

#[test]
fn who_says_that_no_more_comes_is_still_answered() {
    let mut ends = Ends::standing();
    ends.client.writer().write_all(b"GET a\n").unwrap();
    ends.client.send_close_notify();
    let last = ends.sealed();
    assert_eq!(ends.take(&last), Ok(Taken::Ended));
    assert_eq!(ends.told, b"GET a\n");
    assert_eq!(ends.node.seal(b"1\n").unwrap(), 2);
    assert_eq!(ends.hear(), b"1\n");
}

#[test]
fn what_comes_before_a_broken_record_is_taken_and_nothing_after_it() {
    for piece in [1, 100, 10_000] {
        let mut ends = Ends::standing();
        let mut bytes = ends.say(b"SET a 1\n");
        let mut broken = ends.say(b"SET b 2\n");
        *broken.last_mut().unwrap() ^= 1;
        bytes.extend(broken);
        bytes.extend(ends.say(b"SET c 3\n"));
        let failed = bytes.chunks(piece).find_map(|piece| ends.take(piece).err()).expect("it is noticed");
        assert_eq!((failed.why, failed.peer), (rustls::Error::DecryptError, None));
        assert_eq!(ends.told, b"SET a 1\n", "pieces of {piece}");
        let mut alert = Vec::new();
        ends.node.part(&mut alert);
        assert!(!alert.is_empty(), "the other side is told");
    }
}

#[test]
fn noise_after_the_first_bytes_breaks_this_connection_and_takes_no_memory() {
    for (cut, noise) in [(2, 0xff), (5, 0x00), (5, 0xff), (6, 0x41), (40, 0x16)] {
        let mut ends = Ends::new();
        let mut bytes = ends.sealed();
        bytes.truncate(cut);
        let mut taken = 0;
        bytes.resize(1 << 20, noise);
        let broken = bytes.chunks(1_000).any(|piece| {
            taken += piece.len();
            ends.take(piece).is_err()
        });
        assert!(broken && taken <= 80_000, "{taken} bytes were taken after {cut}");
    }
}

#[test]
fn a_first_message_without_an_end_is_not_kept_for_ever() {
    // Records of a handshake message that says it is as long as can be said.
    let mut message = vec![1, 0xff, 0xff, 0xff];
    message.resize(16_000, 0);
    let mut ends = Ends::new();
    let record = [&[HANDSHAKE, 3, 1, 0x3e, 0x80][..], &message].concat();
    assert_eq!(message.len(), 0x3e80);
    let rounds = (0..100).take_while(|_| ends.take(&record).is_ok()).count();
    assert!(rounds < 6, "{rounds} records were kept");
}

/// A handshake record.
const HANDSHAKE: u8 = 0x16;

#[test]
fn who_names_the_protocol_of_nodes_must_show_a_certificate() {
    let (door, config) = door();
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut ends = Ends { door, client, node: Session::met(UNTIL), told: Vec::new() };
    let first = ends.sealed();
    let mut bytes = &first[..];
    assert_eq!(ends.node.meet(&ends.door, &mut bytes), Ok(Met::AsPeer));
    ends.node.call_peer("it".to_owned());
    ends.take(&first[first.len() - bytes.len()..]).expect("the rest of the message");
    ends.hear();
    ends.client.writer().write_all(b"nothing of this is handed on").unwrap();
    let last = ends.sealed();
    let broken = ends.take(&last).expect_err("no certificate");
    assert_eq!((broken.peer.as_deref(), ends.told.len()), (Some("it"), 0));
    assert_eq!(broken.why, rustls::Error::NoCertificatesPresented);
}
