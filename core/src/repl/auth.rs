//! Whom this node takes for a peer: who proves to know the secret of the cluster, or, without one, who comes from the
//! same machine. Until then nothing that the other side says is believed, and it is told nothing but a greeting.

use std::net::SocketAddr;

use crate::boundary::{Close, ConnId};
use crate::config::{Config, PeerAuth, Protocol};
use crate::connections::Ends;
use crate::repl::frames::Stop;
use crate::repl::link::{Link, Role};
use crate::repl::{Context, Replication};
use crate::time::{Mono, Now};
use crate::wire::hello::{self, Greeting, ProofView, Reason, Refusal};
use crate::wire::peer::{self, Frame, PREAMBLE};
use crate::wire::proof::{Channel, ClusterSecret, NONCE_BYTES, Nonces, Prover, Transcript};

/// How far the sides of a link have come in proving themselves to each other.
#[derive(Debug)]
pub(crate) enum Auth {
    /// There is nothing to prove.
    Open,
    /// The other side has yet to greet. `ours` is how this side did, if it has.
    Greeting { ours: Vec<u8> },
    /// Both have greeted, and the other side has yet to prove itself.
    Proving { transcript: Transcript, theirs: Vec<u8> },
    /// It has. `owes`: of what this side has yet to give the proof that the other one waits for.
    Proven {
        channel: Channel,
        /// By which of the secrets it has.
        by: ClusterSecret,
        owes: Option<Transcript>,
    },
}

/// What this node needs for it, and whom it has turned away.
#[derive(Debug)]
pub(crate) struct Gate {
    nonces: Option<Nonces>,
    /// Those who came by themselves and were turned away.
    pub(crate) refused: u64,
    /// Why the last of them was.
    pub(crate) last: Option<&'static str>,
    /// When that was last logged, and how many there had been.
    logged: Option<(Mono, u64)>,
}

/// Lines about those who come by themselves are this far apart: the log is not theirs to fill.
const LOG_GAP_MS: u64 = 10_000;

const NO_PROOF: &str = "this cluster has a secret: give the node that was turned away its --cluster-secret-file";
const NO_SECRET: &str =
    "this node has no cluster secret, and the one that was turned away has: give both the same --cluster-secret-file";
const WRONG_SECRET: &str = "the secrets of the two nodes differ: give both the same --cluster-secret-file";
const NOT_LOCAL: &str = "without a cluster secret this node takes peers on its own machine only: \
                         give all nodes the same --cluster-secret-file";
const NO_VERSION: &str = "no common protocol version: run releases that follow each other";
pub(crate) const CLIENTS_ONLY: &str =
    "this port is for clients only: name the address that the node was given by --peer-listen as its peer";

pub(crate) const TLS_ONLY: &str = "links come by TLS here: give all nodes the same --tls-peers";

impl Gate {
    pub(crate) fn new(config: &Config) -> Self {
        let nonces = config.peer_auth.secrets().next().map(|secret| Nonces::new(config.seed, secret));
        Self { nonces, refused: 0, last: None, logged: None }
    }

    /// What a link begins with.
    pub(super) fn auth(&self) -> Auth {
        if self.nonces.is_some() { Auth::Greeting { ours: Vec::new() } } else { Auth::Open }
    }

    /// Of a greeting.
    pub(super) fn nonce(&mut self, now: Now) -> Option<[u8; NONCE_BYTES]> {
        self.nonces.as_mut().map(|nonces| nonces.draw(now.wall.0))
    }

    /// Somebody who came by itself is turned away.
    fn refuse(&mut self, now: Mono, why: &'static str, from: Option<SocketAddr>) {
        self.refused += 1;
        self.last = Some(why);
        let (at, before) = self.logged.unwrap_or((now, 0));
        if self.logged.is_none() || now.ms_since(at) >= LOG_GAP_MS {
            let from = from.map_or("?".to_owned(), |from| from.to_string());
            tracing::warn!(from, why, times = self.refused - before, "a peer's greeting is turned away");
            self.logged = Some((now, self.refused));
        }
    }
}

impl Link {
    /// Where the next frame is appended.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        match self.auth {
            Auth::Open | Auth::Proven { .. } => self.staged.out(),
            Auth::Greeting { .. } | Auth::Proving { .. } => self.opening.out(),
        }
    }

    /// Whether frames come and go in sealed chunks.
    pub(super) const fn is_proven(&self) -> bool {
        matches!(self.auth, Auth::Proven { .. })
    }

    /// Whether the other end is known to be on this machine.
    fn is_local(&self) -> bool {
        self.ends.is_some_and(|ends| ends.is_local())
    }

    /// Whether what comes on it is said by a peer: of those who need not prove it, who may be one is.
    pub(super) fn is_trusted(&self, peer_auth: &PeerAuth) -> bool {
        match self.auth {
            Auth::Proven { .. } => true,
            Auth::Open => self.is_local() || !peer_auth.is_local_only(),
            Auth::Greeting { .. } | Auth::Proving { .. } => false,
        }
    }

    pub(super) const fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.auth {
            Auth::Proven { channel, .. } => Some(channel),
            Auth::Open | Auth::Greeting { .. } | Auth::Proving { .. } => None,
        }
    }

    /// Gives the proof that the other side waits for, and tells whether it is welcome. True if it waited for one.
    pub(super) fn prove_back(&mut self, welcomes: bool) -> bool {
        let Auth::Proven { owes, by, .. } = &mut self.auth else { return false };
        let Some(transcript) = owes.take() else { return false };
        let proof = by.prove(Prover::Accepter { welcomes }, &transcript);
        hello::emit_proof(welcomes, &[proof], self.opening.out());
        true
    }

    /// Moves all that is staged to `out`, for a link that ends.
    pub(super) fn part(&mut self, out: &mut Vec<u8>) {
        self.opening.drain_to(usize::MAX, out);
        match &mut self.auth {
            Auth::Proven { channel, .. } => {
                let start = Channel::begin(out);
                self.staged.drain_to(usize::MAX, out);
                channel.seal(out, start);
            }
            Auth::Open | Auth::Greeting { .. } | Auth::Proving { .. } => self.staged.drain_to(usize::MAX, out),
        }
    }
}

impl Replication {
    /// The other side greets. It is let in at once where there is nothing to prove.
    pub(super) fn on_hello(
        &mut self,
        now: Now,
        conn: ConnId,
        (greeting, body): (&Greeting<'_>, &[u8]),
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        // Who has been let in has greeted already.
        if link.peer.is_some() {
            return Err(Stop::Close(Close::Malformed));
        }
        if matches!(link.auth, Auth::Open) && !link.is_trusted(&cx.config.peer_auth) {
            return self.refuse(now, conn, NOT_LOCAL, cx);
        }
        let shared = cx.config.protocol.common(greeting.protocol);
        match (&link.auth, greeting.nonce) {
            (Auth::Proving { .. } | Auth::Proven { .. }, _) => Err(Stop::Close(Close::Malformed)),
            _ if shared.is_none() => self.on_foreign(now, conn, greeting.protocol, cx),
            (Auth::Open, None) => self.on_greeting(now, conn, greeting, cx),
            (Auth::Open, Some(_)) => self.refuse(now, conn, NO_SECRET, cx),
            (Auth::Greeting { .. }, None) => self.refuse(now, conn, NO_PROOF, cx),
            (Auth::Greeting { .. }, Some(_)) => self.begin_proving(now, conn, body, cx),
        }
    }

    fn begin_proving(&mut self, now: Now, conn: ConnId, theirs: &[u8], cx: &Context<'_>) -> Result<(), Stop> {
        let Some(mut link) = self.links.remove(&conn) else { return Err(Stop::Closed) };
        let dialed = matches!(link.role, Role::Pull(_));
        if !dialed {
            self.greet(now, &mut link, cx);
        }
        let Auth::Greeting { ours } = &link.auth else { return Err(Stop::Close(Close::Malformed)) };
        let transcript = if dialed { Transcript::new(ours, theirs) } else { Transcript::new(theirs, ours) };
        if dialed {
            let proofs = cx.config.peer_auth.secrets().map(|secret| secret.prove(Prover::Dialer, &transcript));
            hello::emit_proof(true, &proofs.collect::<Vec<_>>(), link.opening.out());
        }
        link.auth = Auth::Proving { transcript, theirs: theirs.to_vec() };
        self.links.insert(conn, link);
        Ok(())
    }

    /// The other side proves itself; if it does, its greeting counts.
    pub(super) fn on_proof(
        &mut self,
        now: Now,
        conn: ConnId,
        proof: &ProofView<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let malformed = Err(Stop::Close(Close::Malformed));
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let Auth::Proving { transcript, theirs } = &mut link.auth else { return malformed };
        let dialed = matches!(link.role, Role::Pull(_));
        let who = if dialed { Prover::Accepter { welcomes: proof.welcomes } } else { Prover::Dialer };
        let proven = |secret: &&ClusterSecret| secret.is_proven(who, transcript, proof.proofs);
        let Some(secret) = cx.config.peer_auth.secrets().find(proven) else {
            return self.refuse(now, conn, WRONG_SECRET, cx);
        };
        let (transcript, theirs) = (transcript.clone(), std::mem::take(theirs));
        let channel = Channel::new(secret, &transcript, dialed);
        let owes = (!dialed).then_some(transcript);
        link.auth = Auth::Proven { channel, by: secret.clone(), owes };
        // Who is not welcome is about to be told why, and takes up nothing.
        match peer::parse(&theirs) {
            Some(Frame::Greeting(greeting)) if proof.welcomes => self.on_greeting(now, conn, &greeting, cx),
            Some(Frame::Greeting(_)) if dialed => Ok(()),
            _ => malformed,
        }
    }

    /// The other side speaks no version of the protocol that this one does.
    pub(super) fn on_foreign(
        &mut self,
        now: Now,
        conn: ConnId,
        theirs: Protocol,
        cx: &Context<'_>,
    ) -> Result<(), Stop> {
        if self.links.get(&conn).is_some_and(|link| link.peer.is_some()) {
            return Err(Stop::Close(Close::Malformed));
        }
        tracing::debug!(?theirs, ours = ?cx.config.protocol, "no common protocol version");
        self.refuse(now, conn, NO_VERSION, cx)
    }

    /// Turns away whoever is at the other end, who has proven nothing.
    fn refuse(&mut self, now: Now, conn: ConnId, why: &'static str, cx: &Context<'_>) -> Result<(), Stop> {
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let greeted = matches!(link.role, Role::Pull(_)) || matches!(link.auth, Auth::Proving { .. });
        if !greeted {
            link.out().extend_from_slice(&PREAMBLE);
        }
        let refusal = Refusal { reason: Reason::Other, run: self.run, name: &cx.config.name, text: why };
        hello::emit_refused(&refusal, link.out());
        match &link.role {
            Role::Pull(pull) if self.members.turned_away(pull.addr, why) => {
                let address = self.members.target(pull.addr).map(|target| target.address.as_str());
                tracing::warn!(address, why, "whoever answers there is turned away");
            }
            Role::Pull(_) => {}
            Role::Feed(_) => self.gate.refuse(now.mono, why, link.ends.map(|ends| ends.remote())),
        }
        Err(Stop::Refuse)
    }

    /// Answers a peer that comes by a way that none may come.
    pub(crate) fn turn_off(
        &mut self,
        now: Now,
        (why, ends): (&'static str, Option<Ends>),
        cx: &Context<'_>,
        out: &mut Vec<u8>,
    ) {
        self.gate.refuse(now.mono, why, ends.map(|ends| ends.remote()));
        out.extend_from_slice(&PREAMBLE);
        let refusal = Refusal { reason: Reason::Other, run: self.run, name: &cx.config.name, text: why };
        hello::emit_refused(&refusal, out);
    }

    /// Tells where the other end of a link is.
    pub(crate) fn introduce(&mut self, conn: ConnId, ends: Ends) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.ends = Some(ends);
        }
    }

    /// Ends the links of those who have proven to know what is no secret any more.
    pub(crate) fn end_unproven(&mut self, now: Now, cx: &mut Context<'_>) {
        let is_outdated = |link: &&Link| match &link.auth {
            Auth::Proven { by, .. } => cx.config.peer_auth.secrets().all(|secret| secret != by),
            Auth::Open | Auth::Greeting { .. } | Auth::Proving { .. } => false,
        };
        let conns: Vec<ConnId> = self.links.values().filter(is_outdated).map(|link| link.conn).collect();
        tracing::info!(links_ended = conns.len(), "the secrets of the cluster are others from now on");
        for conn in conns {
            self.close(now, conn, Close::Outdated, cx);
        }
    }
}

impl PeerAuth {
    /// The secrets that a peer may prove to know, the one that is told first first.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &ClusterSecret> {
        let secrets = match self {
            Self::Secret { first, second } => [Some(first), second.as_ref()],
            Self::Loopback | Self::Anybody => [None, None],
        };
        secrets.into_iter().flatten()
    }

    /// Whether both are secrets, and not the same.
    pub(crate) fn is_other_secret(&self, other: &Self) -> bool {
        let both = self.secrets().next().is_some() && other.secrets().next().is_some();
        both && !self.secrets().eq(other.secrets())
    }

    const fn is_local_only(&self) -> bool {
        matches!(self, Self::Loopback)
    }
}
