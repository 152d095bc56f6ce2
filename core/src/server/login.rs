//! Logging in, at once or once the password is computed, and what happens to connections when users change.

use std::sync::Arc;

use super::{Server, hello};
use crate::acl::{
    Access, Asker, Changed, DEFAULT, Denied, Entry, JobDone, JobId, Login, STRANGER_MS_MAX, Source, Then,
};
use crate::acl::{Fingerprint, NAME_BYTES_MAX, Verdict};
use crate::boundary::{Action, Close, ConnId, Tongue};
use crate::command::{Credentials, Reply};
use crate::connections::{Conn, Session};
use crate::execute::Flow;
use crate::pubsub::Topic;
use crate::session::Client;
use crate::waiters::Wanted;
use crate::wire::{Answer, Dialect};

const NO_PASSWORD: &str = "AUTH <password> called without any password configured for the default user. \
                           Are you sure your configuration is correct?";

/// Whether a request of HTTP may be carried out.
pub(crate) enum Asked {
    /// By whoever its client is now.
    In,
    Wrong,
    Busy,
    /// It is taken again once that is known.
    Waits,
}

impl Server<'_, '_> {
    pub(super) fn asker(&self) -> Asker {
        Asker { conn: self.conn, id: self.client_id() }
    }

    fn source(&self) -> Source {
        Source::of(self.conns.get(self.conn).and_then(|seat| seat.ends).map(|ends| ends.remote().ip()))
    }

    pub(super) fn auth(
        &mut self,
        user: Option<&[u8]>,
        password: &[u8],
        client: &mut Client,
        answer: &mut Answer<'_>,
    ) -> Flow {
        if user.is_none() && self.acl.has_open_default() {
            answer.say(&Reply::Error(NO_PASSWORD));
            return Flow::Continue;
        }
        let user = user.unwrap_or(DEFAULT.as_bytes());
        self.log_in(Credentials { user, password }, Then::Auth, client, answer)
    }

    /// Answers `HELLO`, to who has logged in or does so by it.
    pub(super) fn greet(
        &mut self,
        (is_3, name): (Option<bool>, Option<&[u8]>),
        login: Option<Credentials<'_>>,
        client: &mut Client,
        answer: &mut Answer<'_>,
    ) -> Flow {
        let then = Then::Hello { is_3, name: name.map(Box::from) };
        match login {
            Some(credentials) => return self.log_in(credentials, then, client, answer),
            None if client.access.is_stranger() => answer.say(&Reply::Denied(Denied::StrangerHello)),
            None => follow(then, self.client_id(), client, answer.out),
        }
        Flow::Continue
    }

    fn log_in(
        &mut self,
        Credentials { user, password }: Credentials<'_>,
        then: Then,
        client: &mut Client,
        answer: &mut Answer<'_>,
    ) -> Flow {
        let (asker, source) = (self.asker(), self.source());
        let waits = (asker, then.clone());
        match self.acl.log_in(self.now.mono, (user, password), source, waits, self.effects) {
            Login::In(access) => {
                client.access = access;
                self.conns.expects_login(self.conn, None);
                follow(then, asker.id, client, answer.out);
            }
            Login::Wrong => {
                self.note_wrong(user, "AUTH", self.conn, client);
                answer.say(&Reply::WrongPassword);
            }
            Login::Busy => answer.say(&Reply::LoginsBusy),
            Login::Waits => {
                let who = (self.conn, answer.dialect);
                self.waiters.wait(self.now, who, Wanted::Job, 0, self.replica);
                return Flow::Blocked;
            }
        }
        Flow::Continue
    }

    /// Finds out who sends a request of HTTP. `verdict` is what came of the attempt that this connection waited for.
    pub(crate) fn admit(
        &mut self,
        credentials: Option<Credentials<'_>>,
        verdict: Option<(Fingerprint, bool)>,
        client: &mut Client,
    ) -> Asked {
        let Some(Credentials { user, password }) = credentials else {
            client.access = self.acl.newcomers().clone();
            return if client.access.is_stranger() { Asked::Wrong } else { Asked::In };
        };
        client.access = Access::default();
        if let Some((fingerprint, is_right)) = verdict
            && let Ok(name) = std::str::from_utf8(user)
            && fingerprint == self.acl.fingerprint(name, password)
        {
            let access = self.acl.recall(name, fingerprint).filter(|_| is_right);
            return self.admit_as(access, client);
        }
        let waits = (self.asker(), Then::Request);
        match self.acl.log_in(self.now.mono, (user, password), self.source(), waits, self.effects) {
            Login::In(access) => self.admit_as(Some(access), client),
            Login::Wrong => Asked::Wrong,
            Login::Busy => Asked::Busy,
            Login::Waits => {
                self.waiters.wait(self.now, (self.conn, Dialect::Packed), Wanted::Job, 0, self.replica);
                Asked::Waits
            }
        }
    }

    fn admit_as(&mut self, access: Option<Access>, client: &mut Client) -> Asked {
        let Some(access) = access else { return Asked::Wrong };
        client.access = access;
        self.conns.expects_login(self.conn, None);
        Asked::In
    }

    /// The connection is as new: who it is has to be said again, if it has to be said.
    pub(super) fn forget_login(&mut self, client: &mut Client) {
        client.access = self.acl.newcomers().clone();
        let until = client.access.is_stranger().then(|| self.now.mono.plus_ms(STRANGER_MS_MAX));
        self.conns.expects_login(self.conn, until);
    }

    /// Ends connections on which nobody has logged in in time, but for those whose password is being computed.
    pub(crate) fn close_strangers(&mut self) {
        while let Some((until, conn)) = self.conns.first_stranger().filter(|(until, _)| *until <= self.now.mono) {
            if self.waiters.is_waiting(conn) {
                self.conns.expects_login(conn, Some(until.max(self.now.mono).plus_ms(1_000)));
                continue;
            }
            let tongue = self.tongue(conn);
            self.end_all(&[conn], Close::Stranger(tongue));
        }
    }

    fn tongue(&self, conn: ConnId) -> Tongue {
        match self.conns.get(conn).map(|seat| &seat.state) {
            Some(Conn::Client(Some(Session::Http(_)))) => Tongue::Http,
            Some(Conn::Client(Some(Session::Text(session)))) if session.client.dialect != Dialect::Line => Tongue::Resp,
            _ => Tongue::Line,
        }
    }

    /// Notes and tells what a client may not do.
    pub(super) fn deny(&mut self, denied: Denied<'_>, client: &Client, answer: &mut Answer<'_>) {
        if let Some((reason, object)) = denied.logged() {
            let is_put_off = client.is_inside || client.transaction.is_some();
            let context = if is_put_off { "multi" } else { "toplevel" };
            let (user, described) = (client.access.name().to_owned(), self.described(self.conn, client));
            self.acl.log.note(self.now.mono, Entry { reason, context, object, user, client: described });
        }
        answer.say(&Reply::Denied(denied));
    }

    /// Takes what came of something that the driver did aside.
    pub(crate) fn job_done(&mut self, job: JobId, done: &JobDone<'_>) {
        if let JobDone::Verified(matches) = *done
            && let Some(verdict) = self.acl.verified(self.now.mono, job, matches)
        {
            return self.tell_verdict(&verdict);
        }
        if let Some((asker, name, changed)) = self.acl.edited(job, done, self.effects) {
            return self.tell_changed(asker, &name, &changed);
        }
        let Some(asker) = self.acl.filed(job) else { return };
        let outcome = match *done {
            JobDone::Loaded(Ok(text)) => self.acl.load(text).map_err(|error| {
                let warning =
                    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
                format!("{error}. {warning}")
            }),
            JobDone::Loaded(Err(why)) | JobDone::Saved(Err(why)) => Err(why.to_owned()),
            JobDone::Saved(Ok(())) | JobDone::Verified(_) | JobDone::Hashed(_) => Ok(()),
        };
        match &outcome {
            Ok(()) if matches!(done, JobDone::Loaded(_)) => tracing::info!("the ACL file was read again"),
            Ok(()) => {}
            Err(why) => tracing::warn!(why, "the ACL file was not read, or not written; nothing was changed"),
        }
        if let Some(asker) = asker {
            self.answer_late(asker, &outcome.as_ref().map_or_else(|why| Reply::AclFile(why), |()| Reply::Ok));
        }
        if matches!(done, JobDone::Loaded(Ok(_))) {
            self.refresh(None);
        }
    }

    fn tell_verdict(&mut self, verdict: &Verdict) {
        let Verdict { name, access, fingerprint, waiting } = verdict;
        let mut is_noted = access.is_some();
        for (Asker { conn, id }, then) in waiting {
            let Some(seat) = self.conns.get_mut(*conn).filter(|seat| seat.id == *id) else { continue };
            match &mut seat.state {
                Conn::Client(Some(Session::Text(session))) => {
                    let (client, mut text) = (&mut session.client, Vec::new());
                    match access {
                        Some(access) => {
                            client.access = access.clone();
                            follow(then.clone(), *id, client, &mut text);
                        }
                        None => client.dialect.emit(&Reply::WrongPassword, &mut text),
                    }
                    self.waiters.answer(*conn, text, self.effects);
                }
                Conn::Client(Some(Session::Http(session))) => {
                    session.verdict = Some((*fingerprint, access.is_some()));
                    self.waiters.forget(*conn);
                    self.effects.actions.push(Action::Wake { conn: *conn });
                }
                Conn::Client(None) | Conn::Unknown { .. } | Conn::Link => continue,
            }
            if access.is_some() {
                self.conns.expects_login(*conn, None);
            }
            if !std::mem::replace(&mut is_noted, true) {
                let object = if matches!(then, Then::Request) { "HTTP" } else { "AUTH" };
                self.note_wrong(name.as_bytes(), object, *conn, &Client::default());
            }
        }
    }

    fn note_wrong(&mut self, user: &[u8], object: &str, conn: ConnId, client: &Client) {
        let user = String::from_utf8_lossy(&user[..user.len().min(NAME_BYTES_MAX)]).into_owned();
        let (object, client) = (object.to_owned(), self.described(conn, client));
        self.acl.log.note(self.now.mono, Entry { reason: "auth", context: "toplevel", object, user, client });
    }

    fn tell_changed(&mut self, asker: Asker, name: &str, changed: &Changed) {
        match changed {
            Changed::Later => {}
            Changed::Now => {
                tracing::info!(user = name, "the rights of a user were changed");
                self.answer_late(asker, &Reply::Ok);
                self.refresh(None);
            }
            Changed::Wrong(rule, why) => self.answer_late(asker, &Reply::BadRule { rule: shown_rule(rule), why: *why }),
            Changed::Full => self.answer_late(asker, &Reply::Error(super::access::TOO_MANY_USERS)),
        }
    }

    /// Answers a client that waits for what the driver does aside.
    fn answer_late(&mut self, Asker { conn, id }: Asker, reply: &Reply<'_>) {
        if let Some(seat) = self.conns.get_mut(conn).filter(|seat| seat.id == id)
            && let Conn::Client(Some(Session::Text(session))) = &seat.state
        {
            let mut text = Vec::new();
            session.client.dialect.emit(reply, &mut text);
            self.waiters.answer(conn, text, self.effects);
        }
    }

    /// Has all connections know what users may do now; ends those of users that are gone or off, or that hear what they
    /// may not. `own` is the client whose command is being run.
    pub(super) fn refresh(&mut self, own: Option<&mut Client>) -> Flow {
        let (mut ended, own_conn) = (Vec::new(), self.conn);
        let own = own.into_iter().map(|client| (own_conn, client));
        for (conn, client) in self.conns.clients_mut().chain(own) {
            let Some(before) = client.access.user() else { continue };
            let Some(user) = self.acl.user(before.name.as_bytes()).filter(|user| user.is_on) else {
                ended.push(conn);
                continue;
            };
            if Arc::ptr_eq(user, before) {
                continue;
            }
            client.access = Access::of(user);
            let hears =
                |topic, may: &dyn Fn(&[u8]) -> bool| self.pubsub.names_of(conn, topic).iter().all(|name| may(name));
            let may_hear = user.has_all_channels()
                || hears(Topic::Channel, &|name| user.may_hear(name))
                    && hears(Topic::Pattern, &|name| user.may_hear_all(name));
            if !may_hear || (self.pubsub.watchers.is_watcher(conn) && !user.is_free()) {
                ended.push(conn);
            }
        }
        self.end_all(&ended, Close::Killed)
    }
}

/// The beginning of a rule, without the password that may stand in it.
pub(super) fn shown_rule(rule: &[u8]) -> &[u8] {
    let is_secret = matches!(rule.first(), Some(b'>' | b'<'));
    if is_secret { &rule[..1] } else { rule }
}

/// What is done for somebody who is known now.
fn follow(then: Then, id: u64, client: &mut Client, out: &mut Vec<u8>) {
    match then {
        Then::Auth => client.dialect.emit(&Reply::Ok, out),
        Then::Hello { is_3, name } => {
            if let Some(is_3) = is_3 {
                client.choose_protocol(is_3);
            }
            if let Some(name) = name {
                client.called.set_name(name);
            }
            hello(id, &mut Answer { dialect: client.dialect, out });
        }
        // It is taken again.
        Then::Request => {}
    }
}
