//! Saying who one is.

use std::time::Duration;

use clap::Args;

use super::connection::{Connection, Lost};
use super::resp::Value;
use super::shown::plain;
use crate::failure::Failure;

/// Where a password is taken from before it is asked for.
const PASSWORD_VARIABLE: &str = "SIMPLE_KV_CLI_PASSWORD";

/// Who asks.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoginOptions {
    /// User to be; the password is asked for, or taken from SIMPLE_KV_CLI_PASSWORD
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Ask for a password, unless SIMPLE_KV_CLI_PASSWORD has one
    #[arg(long)]
    ask_password: bool,
}

/// A user and a password, to be given to a server. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    user: Option<String>,
    password: Vec<u8>,
}

/// How a server greets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Version 3 is spoken.
    Three,
    /// It knows version 2 alone.
    Two,
    /// It wants to be told who one is before it says anything.
    Locked,
}

impl LoginOptions {
    /// Whom to be, if anybody: reads the environment, and asks at the terminal, unseen, for what is missing.
    pub(crate) fn login(&self) -> Result<Option<Login>, Failure> {
        let given = std::env::var_os(PASSWORD_VARIABLE).filter(|password| !password.is_empty());
        let password = match given {
            Some(password) => password.into_encoded_bytes(),
            None if self.user.is_some() || self.ask_password => {
                let who = self.user.as_deref().map_or("Password: ".to_owned(), |user| format!("Password of {user}: "));
                let asked = rpassword::prompt_password(who);
                let wrong = |error| format!("no password can be asked for ({error}); give it in {PASSWORD_VARIABLE}");
                asked.map_err(|error| Failure::Usage(wrong(error)))?.into_bytes()
            }
            None => return Ok(None),
        };
        Ok(Some(Login { user: self.user.clone(), password }))
    }
}

impl Login {
    pub(crate) fn new(user: Option<String>, password: Vec<u8>) -> Self {
        Self { user, password }
    }

    /// As `HELLO` wants it.
    fn words(&self) -> [&[u8]; 3] {
        [b"AUTH", self.user.as_deref().unwrap_or("default").as_bytes(), &self.password]
    }

    fn auth(&self) -> Vec<&[u8]> {
        let mut words = self.words().to_vec();
        if self.user.is_none() {
            // What servers know that have no users.
            words.remove(1);
        }
        words
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Connection {
    /// Greets the server, in version 3 if it knows that, as `login` if it is given. Whom it does not take is refused.
    pub(crate) fn greet(&mut self, login: Option<&Login>, within: Duration) -> Result<Greeting, Lost> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        hello.extend(login.iter().flat_map(|login| login.words()));
        let answer = self.ask(&hello, within)?;
        let Some(error) = answer.error() else { return Ok(Greeting::Three) };
        if error.starts_with(b"NOAUTH") && login.is_none() {
            return Ok(Greeting::Locked);
        }
        let knows_hello = !error.starts_with(b"ERR unknown command") && !error.starts_with(b"NOPROTO");
        if knows_hello {
            return Err(Lost::Refused(plain(error)));
        }
        match login.map(|login| self.ask(&login.auth(), within)).transpose()? {
            Some(Value::Error(error)) => Err(Lost::Refused(plain(&error))),
            _ => Ok(Greeting::Two),
        }
    }
}
