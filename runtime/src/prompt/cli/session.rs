//! A connection that is made anew when it is lost, and what of it has to be told again then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::complain;
use super::docs::Docs;
use crate::client::{Connection, Greeting, Login, Lost, Value};
use crate::tls::client::ClientTls;

/// How long a server has for a connection and a greeting.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing was asked.
    Connect(io::Error),
    /// Something may have been.
    Lost(Lost),
}

impl Fault {
    pub(super) const fn is_interrupt(&self) -> bool {
        matches!(self, Self::Lost(Lost::Interrupted))
    }
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

#[derive(Debug)]
pub(super) struct Session {
    server: String,
    tls: Option<ClientTls>,
    login: Option<Login>,
    db: u32,
    /// None: it was lost, and the next command gets one.
    connection: Option<Connection>,
    greeting: Greeting,
    /// Between `MULTI` and `EXEC`.
    in_transaction: bool,
    /// Said with the next connection of what was lost with the last one.
    lost: bool,
    interrupted: Arc<AtomicBool>,
}

impl Session {
    pub(super) fn connect(
        (server, tls): (&str, Option<ClientTls>),
        login: Option<Login>,
        db: u32,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Fault> {
        let mut session = Self {
            server: server.to_owned(),
            tls,
            login,
            db,
            connection: None,
            greeting: Greeting::Locked,
            in_transaction: false,
            lost: false,
            interrupted,
        };
        session.reconnect()?;
        Ok(session)
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Whether the server has yet to be told who asks.
    pub(super) fn is_locked(&self) -> bool {
        self.greeting == Greeting::Locked
    }

    /// Interrupts of before do not count any more.
    pub(super) fn begin(&self) {
        self.interrupted.store(false, Ordering::Relaxed);
    }

    pub(super) fn prompt(&self) -> String {
        let db = if self.db == 0 { String::new() } else { format!("[{}]", self.db) };
        let transaction = if self.in_transaction { "(TX)" } else { "" };
        match &self.connection {
            Some(_) => format!("{}{db}{transaction}> ", self.server),
            None => "not connected> ".to_owned(),
        }
    }

    /// Asks, over a new connection if the last one is lost. What was sent is never sent again: it may have been done.
    pub(super) fn ask(&mut self, words: &[Vec<u8>]) -> Result<Value, Fault> {
        if self.connection.as_mut().is_some_and(Connection::is_closed) {
            self.lose();
        }
        if self.connection.is_none() {
            self.reconnect()?;
        }
        let by_push = is_named(words, &["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
            || is_named(words, &["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"]);
        let answer = self.talk(|connection| {
            connection.send(words, None)?;
            loop {
                match connection.answer(None)? {
                    // Said unasked, as of a subscription that was left.
                    Value::Push(_) if !by_push => {}
                    answer => return Ok(answer),
                }
            }
        })?;
        self.note(words, &answer);
        Ok(answer)
    }

    /// The commands that the server knows, if it tells.
    pub(super) fn docs(&mut self) -> Option<Docs> {
        let docs = Docs::ask(self.connection.as_mut()?);
        if docs.is_err() {
            self.lose();
        }
        docs.ok()
    }

    /// What is said next without being asked for.
    pub(super) fn next(&mut self) -> Result<Value, Fault> {
        self.talk(|connection| connection.answer(None))
    }

    /// Ends the connection; the next command gets another, and nobody is told.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.in_transaction = false;
        self.lost = false;
        // If it fails the next command says so.
        let _ = self.reconnect();
    }

    /// What a fault means for whoever typed.
    pub(super) fn explain(&self, fault: &Fault) -> String {
        match fault {
            Fault::Connect(error) => format!("(not asked: cannot connect to {}: {error})", self.server),
            Fault::Lost(Lost::Interrupted) => "\n(not waited for; whether it was done is not known)".to_owned(),
            Fault::Lost(lost) => format!("({} {lost}; whether this was done is not known)", self.server),
        }
    }

    fn talk(&mut self, talk: impl FnOnce(&mut Connection) -> Result<Value, Lost>) -> Result<Value, Fault> {
        let Some(connection) = &mut self.connection else { return Err(Lost::Closed.into()) };
        let said = talk(connection);
        if said.is_err() {
            self.lose();
        }
        Ok(said?)
    }

    fn lose(&mut self) {
        self.connection = None;
        self.lost = true;
    }

    fn reconnect(&mut self) -> Result<(), Fault> {
        let mut connection = Connection::connect(&self.server, self.tls.as_ref(), CONNECT_WITHIN)
            .map_err(Fault::Connect)?
            .with_interrupt(Arc::clone(&self.interrupted));
        self.greeting = connection.greet(self.login.as_ref(), CONNECT_WITHIN)?;
        if self.db != 0 && self.greeting != Greeting::Locked {
            let select = ["SELECT".to_owned(), self.db.to_string()];
            if let Value::Error(error) = connection.ask(&select, CONNECT_WITHIN)? {
                return Err(Lost::Refused(crate::client::plain(&error)).into());
            }
        }
        self.connection = Some(connection);
        if std::mem::take(&mut self.lost) {
            let transaction = if self.in_transaction { "; the transaction is gone" } else { "" };
            complain(&format!("(connected again: the last connection was lost{transaction})"));
        }
        self.in_transaction = false;
        Ok(())
    }

    /// Keeps what a later connection has to be told, and what the prompt shows.
    fn note(&mut self, words: &[Vec<u8>], answer: &Value) {
        if answer.error().is_some() {
            // Redis has ended the transaction whose EXEC is answered so.
            self.in_transaction &= !is_named(words, &["EXEC"]);
            return;
        }
        match words {
            [_, db] if is_named(words, &["SELECT"]) => {
                self.db = std::str::from_utf8(db).ok().and_then(|db| db.parse().ok()).unwrap_or(self.db);
            }
            _ if is_named(words, &["MULTI"]) => self.in_transaction = true,
            _ if is_named(words, &["EXEC", "DISCARD"]) => self.in_transaction = false,
            _ if is_named(words, &["RESET"]) => (self.db, self.in_transaction) = (0, false),
            [_, password] if is_named(words, &["AUTH"]) => self.logged_in(Login::new(None, password.clone())),
            [_, user, password] if is_named(words, &["AUTH"]) => {
                let user = String::from_utf8_lossy(user).into_owned();
                self.logged_in(Login::new(Some(user), password.clone()));
            }
            _ => {}
        }
    }

    /// The server knows who asks: a later connection says so, and this one speaks version 3 from now on.
    fn logged_in(&mut self, login: Login) {
        self.login = Some(login);
        let db = self.db.to_string();
        let is_new = self.greeting == Greeting::Locked;
        let Some(connection) = self.connection.as_mut().filter(|_| is_new) else { return };
        let greeted = connection.greet(None, CONNECT_WITHIN).and_then(|greeting| {
            self.greeting = greeting;
            if self.db == 0 { Ok(Value::Null) } else { connection.ask(&["SELECT", &db], CONNECT_WITHIN) }
        });
        if greeted.is_err() {
            self.lose();
        }
    }
}

/// Whether the first word is one of these.
pub(super) fn is_named(words: &[Vec<u8>], names: &[&str]) -> bool {
    words.first().is_some_and(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
}

/// Whether what was asked for has messages come from now on.
pub(super) fn subscribes(words: &[Vec<u8>], answer: &Value) -> bool {
    is_named(words, &["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"]) && matches!(answer, Value::Push(_) | Value::Array(_))
}
