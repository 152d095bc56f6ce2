//! Who asks: `Authorization`, as `Basic` (RFC 7617) or `Bearer` (RFC 6750) has it.

use base64::prelude::{BASE64_STANDARD, Engine};

use super::response::Fault;
use super::routes::Route;
use crate::acl::{DEFAULT, Fingerprint};
use crate::command::Credentials;
use crate::server::{Asked, Server};
use crate::session::Client;

/// What a request says of who sends it.
#[derive(Default)]
pub(super) enum Authorization {
    /// Nothing.
    #[default]
    None,
    User {
        user: Box<[u8]>,
        password: Box<[u8]>,
    },
    /// What nobody can be, as it is no user, or several.
    Unreadable,
}

impl std::fmt::Debug for Authorization {
    /// Without what is in it: what is printed may be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization")
    }
}

impl Authorization {
    /// Takes the value of the field.
    pub(super) fn take(&mut self, value: &[u8]) {
        *self = match self {
            Self::None => Self::parse(value).unwrap_or(Self::Unreadable),
            _ => Self::Unreadable,
        };
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let at = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, rest) = (&value[..at], value[at..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"Bearer") {
            return Some(Self::of(rest).unwrap_or_else(|| Self::user(DEFAULT.as_bytes(), rest)));
        }
        let is_basic = scheme.eq_ignore_ascii_case(b"Basic");
        let decoded = is_basic.then(|| BASE64_STANDARD.decode(rest).ok()).flatten()?;
        // Who leaves out the name, as `curl -u :password` does, means the default user.
        match Self::of(&decoded)? {
            Self::User { user, password } if user.is_empty() => Some(Self::user(DEFAULT.as_bytes(), &password)),
            other => Some(other),
        }
    }

    fn of(text: &[u8]) -> Option<Self> {
        let at = text.iter().position(|byte| *byte == b':')?;
        Some(Self::user(&text[..at], &text[at + 1..]))
    }

    fn user(user: &[u8], password: &[u8]) -> Self {
        Self::User { user: user.into(), password: password.into() }
    }
}

/// Whether what is asked for is answered to everybody.
const fn is_open(route: &Route) -> bool {
    matches!(route, Route::Health | Route::Ready)
}

/// Lets in who asks, or says why not; none: that will be known later, and the request is to be taken again.
pub(super) fn admit(
    authorization: &Authorization,
    route: &Route,
    verdict: Option<(Fingerprint, bool)>,
    client: &mut Client,
    server: &mut Server<'_, '_>,
) -> Option<Result<(), Fault>> {
    if is_open(route) {
        return Some(Ok(()));
    }
    let credentials = match authorization {
        Authorization::None => None,
        Authorization::User { user, password } => Some(Credentials { user, password }),
        Authorization::Unreadable => {
            return Some(Err(Fault::new(401, "the Authorization is neither Basic nor Bearer as they are written")));
        }
    };
    let refusal = match credentials {
        None => "log in: by Basic, with a user and its password, or by Bearer; nothing was changed",
        Some(_) => "there is no such user, or the password is another; nothing was changed",
    };
    match server.admit(credentials, verdict, client) {
        Asked::In => Some(Ok(())),
        Asked::Wrong => Some(Err(Fault::new(401, refusal))),
        Asked::Busy => {
            Some(Err(Fault::new(503, "too many logins are being checked; nothing was changed; try again in a moment")))
        }
        Asked::Waits => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<(String, String)> {
        let mut authorization = Authorization::default();
        values.iter().for_each(|value| authorization.take(value.as_bytes()));
        match authorization {
            Authorization::User { user, password } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Some((text(&user), text(&password)))
            }
            Authorization::None | Authorization::Unreadable => None,
        }
    }

    #[test]
    fn both_schemes_name_a_user_and_a_password() {
        let is = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read(&["Basic YW5uOmE6Yg=="]), is("ann", "a:b"));
        assert_eq!(read(&["basic  OnNlY3JldA=="]), is("default", "secret"));
        assert_eq!(read(&["Bearer secret"]), is("default", "secret"));
        assert_eq!(read(&["BEARER ann:a:b "]), is("ann", "a:b"));
        for values in [
            &[][..],
            &["Basic"],
            &["Basic !"],
            &["Basic YW5u"],
            &["Digest YW5uOmE6Yg=="],
            &["Basic YW5uOmE6Yg==", "Basic YW5uOmE6Yg=="],
        ] {
            assert_eq!(read(values), None, "{values:?}");
        }
    }
}
