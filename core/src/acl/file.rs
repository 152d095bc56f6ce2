//! The ACL file: a line for each user, as `ACL LIST` shows them. Lines that begin with `#` and empty ones mean nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::user::User;
use super::{DEFAULT, USERS_MAX, check_name};

/// Reads a whole file. The default user is off unless a line says more of it: who keeps a list means it to be whole.
/// None of the users if anything is wrong: then what is, and in which line.
pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<Box<str>, Arc<User>>, String> {
    let mut users = BTreeMap::new();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(first) = words.next().filter(|first| !first.starts_with(b"#")) else { continue };
        let wrong = |what: &str| Err(format!("line {number}: {what}"));
        if first != b"user" {
            return wrong("a line is `user`, a name and rules");
        }
        let Some(name) = words.next().and_then(check_name) else {
            return wrong("a name of a user is text of 1 to 128 bytes without spaces");
        };
        let mut user = User::new(name);
        for rule in words {
            if let Err(error) = user.apply(rule) {
                // A password may stand there, misspelt: it is not told.
                return wrong(&format!("a rule of the user '{name}' is none: {}", error.text()));
            }
        }
        if users.insert(Box::from(name), Arc::new(user)).is_some() {
            return wrong(&format!("the user '{name}' is there twice"));
        }
        if users.len() > USERS_MAX {
            return wrong("there are more users than 4096");
        }
    }
    users.entry(DEFAULT.into()).or_insert_with(|| Arc::new(User::new(DEFAULT)));
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let users = parse(b"# ours\n\nuser ann on nopass ~a:* +get\r\nuser default on nopass allkeys +@all\n").unwrap();
        assert_eq!(users.len(), 2);
        assert!(users["ann"].is_on && users["ann"].is_open && !users["ann"].is_free() && users["default"].is_on);
        assert!(!parse(b"user ann on").unwrap()["default"].is_on, "who is not named does not get in");
        for (text, says) in [
            ("user ann on\nuser ann off", "line 2: the user 'ann' is there twice"),
            ("\nann on", "line 2: a line is"),
            ("user", "line 1: a name"),
            ("user ann +nothing", "line 1: a rule of the user 'ann' is none: Unknown command"),
            ("user ann >secret", "line 1: a rule of the user 'ann' is none: Syntax error"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(says) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_users_show_of_themselves_makes_them_again() {
        let hash = "#$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG8u1hcmCBp/8";
        for rules in [
            "on nopass ~* &* +@all".to_owned(),
            format!("on {hash} ~a:* %R~r %W~w &c &d -@all +@read -get +config|get +config"),
            "off resetchannels +@all -@dangerous +keys".to_owned(),
        ] {
            let users = parse(format!("user ann {rules}").as_bytes()).unwrap();
            let line = users["ann"].line();
            assert_eq!(parse(&line).unwrap()["ann"], users["ann"], "{}", String::from_utf8_lossy(&line));
        }
    }
}
