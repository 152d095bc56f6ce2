//! A cluster in one memory.

use kv_core::{AddrId, Close, Config, ConnId, Event, Limits, Mono, Now, PeerAuth, Protocol, Turn, WallMs};

pub(crate) const START: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// Each node's client.
pub(crate) const CLIENT: ConnId = ConnId(0);

pub(crate) fn config(name: &str, peers: &[&str]) -> Config {
    Config {
        peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
        peer_auth: PeerAuth::Anybody,
        limits: Limits { ring_bytes: 64 << 10, ..Limits::default() },
        ..Config::new([7, 7, 7, name.len() as u64], name, format!("{name}:1"))
    }
}

/// Nodes in one memory: what one sends, the other is given at once.
pub(crate) struct Cluster {
    pub(crate) turns: Vec<Turn>,
    names: Vec<String>,
    /// By node: whom it takes for a peer from its next start on.
    pub(crate) peer_auth: Vec<PeerAuth>,
    /// By node: what it speaks from its next start on.
    pub(crate) protocols: Vec<Protocol>,
    /// By node and connection: the other end.
    ends: Vec<Vec<Option<(usize, ConnId)>>>,
    cuts: Vec<(usize, usize)>,
    restarts: u64,
    now: Now,
    /// By node: how far its wall clock is ahead, in milliseconds.
    skews_ms: Vec<i64>,
    pub(crate) replies: Vec<u8>,
    /// Whose replies are kept apart: a node's client.
    pub(crate) listener: Option<(usize, ConnId)>,
    /// Those.
    pub(crate) heard: Vec<u8>,
    /// What nodes have sent to each other.
    pub(crate) sent_bytes: usize,
    /// From one to another: the bytes that still pass. What comes behind them gets lost.
    pub(crate) passes: Vec<(usize, usize, usize)>,
}

impl Cluster {
    /// Nodes by name and the peers that they name, at their start; a node is reached at its name and `:1`.
    pub(crate) fn new(nodes: &[(&str, &[&str])]) -> Self {
        Self::guarded(nodes, &PeerAuth::Anybody)
    }

    /// The same, of nodes that take these for peers.
    pub(crate) fn guarded(nodes: &[(&str, &[&str])], peer_auth: &PeerAuth) -> Self {
        let peer_auth = vec![peer_auth.clone(); nodes.len()];
        let config = |name: &str, peers: &[&str]| Config { peer_auth: peer_auth[0].clone(), ..config(name, peers) };
        let turns = nodes.iter().map(|(name, peers)| Turn::new(config(name, peers), START));
        let mut cluster = Self {
            turns: turns.collect(),
            names: nodes.iter().map(|(name, _)| format!("{name}:1")).collect(),
            peer_auth: peer_auth.clone(),
            protocols: vec![Protocol::default(); nodes.len()],
            ends: vec![vec![None]; nodes.len()],
            cuts: Vec::new(),
            restarts: 0,
            now: START,
            skews_ms: vec![0; nodes.len()],
            replies: Vec::with_capacity(64 << 10),
            listener: None,
            heard: Vec::new(),
            sent_bytes: 0,
            passes: Vec::new(),
        };
        for turn in &mut cluster.turns {
            turn.event(Event::Opened { conn: CLIENT });
        }
        cluster
    }

    /// Three that have found each other.
    pub(crate) fn of_three() -> Self {
        let mut cluster = Self::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["a:1"])]);
        for _ in 0..20 {
            cluster.settle();
            cluster.pass(100);
        }
        cluster.settle();
        cluster
    }

    /// Why clients are not to be sent to `node`, in words for programs.
    pub(crate) fn not_ready(&self, node: usize) -> Vec<&'static str> {
        self.turns[node].node().not_ready(self.now).iter().map(|reason| reason.why.word()).collect()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.plus_ms(ms), wall: self.now.wall.plus_ms(ms) };
    }

    /// From now on the wall clock of `node` is so far ahead of what it should be.
    pub(crate) fn skew(&mut self, node: usize, ms: i64) {
        self.skews_ms[node] = ms;
    }

    fn begin(&mut self, node: usize) {
        let wall = WallMs(self.now.wall.0.saturating_add_signed(self.skews_ms[node]));
        self.turns[node].begin(Now { wall, ..self.now });
    }

    /// From now on nothing passes between two nodes, and both hear of it.
    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cuts.extend([(one, other), (other, one)]);
        for (near, far) in [(one, other), (other, one)] {
            for conn in 0..self.ends[near].len() {
                if self.ends[near][conn].is_some_and(|(node, _)| node == far) {
                    self.ends[near][conn] = None;
                    self.begin(near);
                    self.turns[near].event(Event::Closed { conn: ConnId(conn as u32) });
                }
            }
        }
    }

    /// Everybody can reach everybody again.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Ends the run of `node` with all that it holds, and starts another.
    pub(crate) fn restart(&mut self, node: usize, peers: &[&str]) {
        for (other, end) in std::mem::replace(&mut self.ends[node], vec![None]).into_iter().flatten() {
            self.ends[other][end.0 as usize] = None;
            self.begin(other);
            self.turns[other].event(Event::Closed { conn: end });
        }
        self.restarts += 1;
        let name = self.names[node].trim_end_matches(":1").to_owned();
        let (peer_auth, protocol) = (self.peer_auth[node].clone(), self.protocols[node]);
        let config = Config { seed: [9, 9, self.restarts, 9], peer_auth, protocol, ..config(&name, peers) };
        self.turns[node] = Turn::new(config, self.now);
        self.turns[node].event(Event::Opened { conn: CLIENT });
    }

    /// Has `node` take other secrets while it runs; whether it does.
    pub(crate) fn change_secrets(&mut self, node: usize, to: &PeerAuth) -> bool {
        self.begin(node);
        self.turns[node].change_secrets(to.clone())
    }

    /// Opens another client's connection to `node`.
    pub(crate) fn open_client(&mut self, node: usize) -> ConnId {
        let conn = ConnId(self.ends[node].len() as u32);
        self.ends[node].push(None);
        self.turns[node].event(Event::Opened { conn });
        conn
    }

    /// Has the first node's client send `commands`, and everybody hear of it.
    pub(crate) fn write(&mut self, commands: &[u8]) {
        self.replies.clear();
        self.hand_in(0, commands);
        self.settle();
    }

    /// Gives `node` what its client sends, and lets nobody hear of it yet.
    pub(crate) fn hand_in(&mut self, node: usize, commands: &[u8]) {
        self.hand_in_from(node, CLIENT, commands);
    }

    /// Gives `node` what one of its clients sends, and lets nobody hear of it yet.
    pub(crate) fn hand_in_from(&mut self, node: usize, client: ConnId, commands: &[u8]) {
        self.begin(node);
        self.turns[node].input(client, commands);
    }

    /// What `node` answers its client's `command`.
    pub(crate) fn ask(&mut self, node: usize, command: &str) -> String {
        self.replies.clear();
        self.hand_in(node, format!("{command}\n").as_bytes());
        self.settle();
        String::from_utf8(self.replies.clone()).expect("an answer is text").trim_end().to_owned()
    }

    /// Runs turns until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        (0..self.turns.len()).for_each(|node| self.begin(node));
        while (0..self.turns.len()).any(|node| self.turns[node].deadline().is_some_and(|due| due <= self.now.mono)) {
            for node in 0..self.turns.len() {
                self.turn(node);
            }
        }
    }

    pub(crate) fn turn(&mut self, node: usize) {
        self.begin(node);
        self.turns[node].settle();
        while let Some(addr) = self.turns[node].take_dial() {
            self.connect(node, addr);
        }
        while let Some(conn) = self.turns[node].next_ready() {
            loop {
                let (before, rest) = self.turns.split_at_mut(node);
                let (turn, after) = rest.split_first_mut().expect("the node is there");
                let bytes = turn.output(conn);
                let count = bytes.len();
                if count == 0 {
                    break;
                }
                if self.ends[node][conn.0 as usize].is_some() {
                    self.sent_bytes += count;
                }
                if let Some((other, _)) = self.ends[node][conn.0 as usize]
                    && let Some(pass) = self.passes.iter_mut().find(|pass| (pass.0, pass.1) == (node, other))
                {
                    pass.2 = pass.2.saturating_sub(count);
                    if pass.2 == 0 {
                        turn.sent(conn, count);
                        continue;
                    }
                }
                match self.ends[node][conn.0 as usize] {
                    Some((other, end)) if other < node => before[other].input(end, bytes),
                    Some((other, end)) => after[other - node - 1].input(end, bytes),
                    None if self.listener == Some((node, conn)) => self.heard.extend_from_slice(bytes),
                    None => self.replies.extend_from_slice(bytes),
                }
                turn.sent(conn, count);
            }
            if let Some(why) = self.turns[node].finished(conn) {
                let is_meant = matches!(why, Close::Replaced | Close::Refused | Close::Clock | Close::Outdated);
                assert!(is_meant, "only who leaves, or has a bad clock or an old secret, loses connections: {why:?}");
                self.turns[node].gone(conn);
                if let Some((other, end)) = self.ends[node][conn.0 as usize].take() {
                    self.ends[other][end.0 as usize] = None;
                    self.begin(other);
                    self.turns[other].event(Event::Closed { conn: end });
                }
            }
        }
    }

    fn connect(&mut self, node: usize, addr: AddrId) {
        let address = self.turns[node].node().address(addr).expect("an address it wants to dial");
        let other = self.names.iter().position(|name| name == address).expect("one of us");
        if self.cuts.contains(&(node, other)) {
            self.turns[node].event(Event::DialFailed { addr });
            return;
        }
        let (near, far) = (self.ends[node].len() as u32, self.ends[other].len() as u32);
        self.ends[node].push(Some((other, ConnId(far))));
        self.ends[other].push(Some((node, ConnId(near))));
        self.begin(other);
        self.turns[other].event(Event::Opened { conn: ConnId(far) });
        self.turns[node].event(Event::Dialed { conn: ConnId(near), addr });
    }
}
