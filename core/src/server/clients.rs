//! `CLIENT`: the connections of this node.

use std::fmt::Write as _;

use super::Server;
use crate::boundary::{Action, Close, ConnId};
use crate::command::{AboutClient, ClientKind, Kill, Reply};
use crate::commands::Verb;
use crate::connections::{Conn, Ends, Seat, Session};
use crate::execute::Flow;
use crate::session::{Client, Replies};
use crate::wire::words::Words;
use crate::wire::{Answer, Dialect};

impl Server<'_, '_> {
    pub(super) fn about_clients(
        &mut self,
        about: AboutClient<'_>,
        client: &mut Client,
        answer: &mut Answer<'_>,
    ) -> Flow {
        match about {
            AboutClient::Id => answer.say(&Reply::Number(self.client_id().into())),
            AboutClient::GetName if client.called.name().is_empty() => answer.say(&Reply::NotFound),
            AboutClient::GetName => answer.say(&Reply::Value(client.called.name())),
            AboutClient::SetName(name) => {
                client.called.set_name(name.into());
                answer.say(&Reply::Ok);
            }
            AboutClient::SetInfo { is_version, value } => {
                client.called.set_library(is_version, value.into());
                answer.say(&Reply::Ok);
            }
            AboutClient::Info => {
                let mut text = String::new();
                if let Some(seat) = self.conns.get(self.conn) {
                    self.describe(self.conn, seat, (client, "client|info"), &mut text);
                }
                answer.document(&text);
            }
            AboutClient::List { kind, ids } => self.list_clients(kind, ids, client, answer),
            AboutClient::Kill(kill) => return self.kill(&kill, client, answer),
            AboutClient::KillOne { remote } => return self.kill_one(remote, answer),
            AboutClient::Replies(replies) => {
                client.replies = replies;
                if replies == Replies::All {
                    answer.say(&Reply::Ok);
                }
            }
            AboutClient::Pause { ms, is_of_all } => {
                self.pause.begin(self.now, ms, is_of_all);
                answer.say(&Reply::Ok);
            }
            AboutClient::Unpause => {
                self.pause.end(self.effects);
                answer.say(&Reply::Ok);
            }
            AboutClient::Redirect => answer.say(&Reply::Number(-1)),
            AboutClient::TrackingInfo => {
                answer.say(&Reply::Map(3));
                answer.say(&Reply::Value(b"flags"));
                answer.say(&Reply::Set(1));
                answer.say(&Reply::Value(b"off"));
                answer.say(&Reply::Value(b"redirect"));
                answer.say(&Reply::Number(-1));
                answer.say(&Reply::Value(b"prefixes"));
                answer.say(&Reply::Set(0));
            }
            AboutClient::Noted => answer.say(&Reply::Ok),
        }
        Flow::Continue
    }

    /// A number for the connection, which no other one ever has.
    pub(super) fn client_id(&self) -> u64 {
        self.conns.get(self.conn).map_or(0, |seat| seat.id)
    }

    fn list_clients(&self, kind: Option<ClientKind>, ids: Option<Words<'_>>, own: &Client, answer: &mut Answer<'_>) {
        let ids: Option<Vec<&[u8]>> = ids.map(|mut ids| {
            let mut ids: Vec<&[u8]> = ids.by_ref().collect();
            ids.sort_unstable();
            ids
        });
        let mut digits = itoa::Buffer::new();
        let mut is_asked =
            |id: u64| ids.as_ref().is_none_or(|ids| ids.binary_search(&digits.format(id).as_bytes()).is_ok());
        let mut seats: Vec<(ConnId, &Seat)> = self.conns.clients().filter(|(_, seat)| is_asked(seat.id)).collect();
        seats.sort_unstable_by_key(|(_, seat)| seat.id);
        let (mut text, nobody) = (String::new(), Client::default());
        for (conn, seat) in seats {
            let (client, called) = match &seat.state {
                _ if conn == self.conn => (own, "client|list"),
                Conn::Client(Some(Session::Text(session))) => (&session.client, ""),
                _ if self.pubsub.watchers.is_watcher(conn) => (&nobody, "http|watch"),
                _ => (&nobody, ""),
            };
            if kind.is_none_or(|kind| kind == self.kind_of(conn)) {
                self.describe(conn, seat, (client, called), &mut text);
            }
        }
        answer.document(&text);
    }

    /// The line about a client.
    pub(super) fn described(&self, conn: ConnId, client: &Client) -> String {
        let mut text = String::new();
        if let Some(seat) = self.conns.get(conn) {
            self.describe(conn, seat, (client, ""), &mut text);
        }
        text
    }

    /// Appends the line about a client; `called` is what it has just asked for, if that is known better than by a verb.
    fn describe(&self, conn: ConnId, seat: &Seat, (client, called): (&Client, &str), text: &mut String) {
        let Seat { id, opened, heard, ends, .. } = seat;
        let (remote, local) = ends
            .map_or(("?:0".to_owned(), "?:0".to_owned()), |ends| (ends.remote().to_string(), ends.local().to_string()));
        let (age, idle) = (self.now.mono.ms_since(*opened) / 1_000, self.now.mono.ms_since(*heard) / 1_000);
        let (channels, patterns) = self.pubsub.counts_of(conn);
        let mut flags = String::new();
        flags.extend((self.pubsub.is_subscriber(conn) || self.pubsub.watchers.is_watcher(conn)).then_some('P'));
        flags.extend(client.transaction.is_some().then_some('x'));
        flags.extend((self.waiters.is_waiting(conn) || self.pause.holds(conn)).then_some('b'));
        flags.extend(flags.is_empty().then_some('N'));
        let (multi, bytes) =
            client.transaction.as_ref().map_or((-1, 0), |put_off| (put_off.len() as i64, put_off.bytes()));
        let by_verb = client.verb.map_or("NULL".to_owned(), |verb: Verb| verb.manual().name.to_ascii_lowercase());
        let called = if called.is_empty() { &by_verb } else { called };
        let version = if client.dialect == (Dialect::Resp { is_3: true }) { 3 } else { 2 };
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let (name, [library, library_version]) = (shown(client.called.name()), client.called.library().map(shown));
        let user = client.access.name();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "id={id} addr={remote} laddr={local} fd={} name={name} age={age} idle={idle} flags={flags} db={} \
             sub={channels} psub={patterns} ssub=0 omem={} multi={multi} multi-mem={bytes} cmd={called} user={user} \
             redir=-1 resp={version} lib-name={library} lib-ver={library_version}",
            conn.0,
            client.space,
            client.pushed.len(),
        );
    }

    fn kill(&mut self, kill: &Kill<'_>, own: &Client, answer: &mut Answer<'_>) -> Flow {
        let Kill { id, kind, remote, local, user, is_of_own } = *kill;
        if let Some(name) = user.filter(|name| self.acl.user(name).is_none()) {
            answer.say(&Reply::ErrorAt("No such user '", name, "'"));
            return Flow::Continue;
        }
        let is_of = |conn: ConnId, seat: &Seat| {
            let is = |client: &Client| {
                user.is_none_or(|name| !client.access.is_stranger() && client.access.name().as_bytes() == name)
            };
            match &seat.state {
                Conn::Client(Some(session)) => is(session.client()),
                _ if conn == self.conn => is(own),
                _ => {
                    user.is_none_or(|name| self.acl.newcomers().user().is_some_and(|user| user.name.as_bytes() == name))
                }
            }
        };
        let is_at = |ends: &Option<Ends>| {
            let is = |wanted: Option<&[u8]>, at: fn(&Ends) -> std::net::SocketAddr| {
                wanted.is_none_or(|wanted| ends.as_ref().is_some_and(|ends| at(ends).to_string().as_bytes() == wanted))
            };
            is(remote, Ends::remote) && is(local, Ends::local)
        };
        let is_meant = |conn: ConnId, seat: &Seat| {
            let kind_fits = kind.is_none_or(|kind| kind == self.kind_of(conn));
            let is_spared = !is_of_own && conn == self.conn;
            kind_fits && id.is_none_or(|id| id == seat.id) && is_at(&seat.ends) && is_of(conn, seat) && !is_spared
        };
        let meant = self.conns.clients().filter(|(conn, seat)| is_meant(*conn, seat)).map(|(conn, _)| conn);
        let meant: Vec<ConnId> = meant.collect();
        answer.say(&Reply::Number(meant.len() as i128));
        self.end_all(&meant, Close::Killed)
    }

    fn kill_one(&mut self, remote: &[u8], answer: &mut Answer<'_>) -> Flow {
        let comes_from = |ends: Ends| ends.remote().to_string().as_bytes() == remote;
        let meant = self.conns.clients().find(|(_, seat)| seat.ends.is_some_and(comes_from)).map(|(conn, _)| conn);
        let Some(conn) = meant else {
            answer.say(&Reply::Error("No such client"));
            return Flow::Continue;
        };
        answer.say(&Reply::Ok);
        self.end_all(&[conn], Close::Killed)
    }

    /// Ends connections; the own one once it has been answered.
    pub(super) fn end_all(&mut self, conns: &[ConnId], why: Close) -> Flow {
        for conn in conns.iter().copied().filter(|conn| *conn != self.conn) {
            self.waiters.forget(conn);
            self.pause.forget(conn);
            self.pubsub.forget(conn);
            self.conns.forget(conn);
            self.effects.actions.push(Action::Close { conn, why });
        }
        if conns.contains(&self.conn) { Flow::Quit } else { Flow::Continue }
    }

    fn kind_of(&self, conn: ConnId) -> ClientKind {
        let is_told = self.pubsub.is_subscriber(conn) || self.pubsub.watchers.is_watcher(conn);
        if is_told { ClientKind::PubSub } else { ClientKind::Normal }
    }
}
