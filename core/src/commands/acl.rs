//! Who one is, and what users may do.

use super::arguments::{exactly, integer, nothing};
use super::{ADMIN, LOADING, Manual, NO_KEYS, Verb, category};
use crate::acl::check_name;
use crate::command::{AboutUsers, Command, Reply};
use crate::config::Limits;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 2] = [
    Manual {
        verb: Verb::Auth,
        name: "AUTH",
        aliases: &[],
        arity: -2,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_auth,
        usage: "AUTH [username] password",
        summary: "Log in, as the default user or as another",
        detail: "Answers `OK` once the password is found to be right. A node whose default user has no password takes\n\
                 everybody for that one.",
        example: "AUTH default secret",
    },
    Manual {
        verb: Verb::Acl,
        name: "ACL",
        aliases: &[],
        arity: -2,
        flags: ADMIN,
        keys: NO_KEYS,
        parse: parse_acl,
        usage: "ACL WHOAMI | LIST | USERS | GETUSER name | SETUSER name [rule ...] | DELUSER name [name ...] | ...",
        summary: "Show and change users, what they may do, and who was turned away",
        detail: "WHOAMI tells who one is, LIST and USERS who there is, GETUSER what one may do. SETUSER changes a\n\
                 user or makes one: `on`, `off`, `>password`, `nopass`, `~pattern` of keys, `&pattern` of channels,\n\
                 `+command`, `-command`, `+@category`, `reset` and the other rules of Redis but selectors; DELUSER\n\
                 removes some, and ends their connections. CAT [category] lists categories, or what is in one.\n\
                 DRYRUN name command ... tells whether a user may do that. GENPASS [bits] makes up a password.\n\
                 LOG [count | RESET] shows who was turned away from what. SAVE writes the users to the file that\n\
                 --acl-file names, LOAD reads them from there. Users are of one node: others are not told.",
        example: "ACL SETUSER ann on >secret ~cart:* +@read",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_auth<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let first = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Auth { user: None, password: first }),
        (Some(password), None) => Ok(Command::Auth { user: Some(first), password }),
        (Some(_), Some(_)) => Err(Reply::Syntax(verb)),
    }
}

/// Entries of the log that are shown if nobody says how many.
const LOG_COUNT: usize = 10;

/// Bits of a password that is made up if nobody says how many, and at the most.
const PASSWORD_BITS: (i64, i64) = (256, 4_096);

fn parse_acl<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let sub = words.next().ok_or(usage)?;
    let is = |name: &str| sub.eq_ignore_ascii_case(name.as_bytes());
    let plain = [
        ("WHOAMI", AboutUsers::WhoAmI),
        ("LIST", AboutUsers::List),
        ("USERS", AboutUsers::Names),
        ("LOAD", AboutUsers::Load),
        ("SAVE", AboutUsers::Save),
    ];
    if let Some((_, about)) = plain.into_iter().find(|(name, _)| is(name)) {
        return nothing(verb, words).map(|()| Command::Acl(about));
    }
    let about = match sub {
        _ if is("GETUSER") => {
            let [name] = exactly(verb, words)?;
            AboutUsers::Get { name }
        }
        _ if is("SETUSER") => {
            let name = words.next().ok_or(usage)?;
            let refusal = Reply::Error("Usernames can't contain spaces or null characters, and have 1 to 128 bytes");
            AboutUsers::Set { name: check_name(name).ok_or(refusal)?, rules: words }
        }
        _ if is("DELUSER") => {
            words.into_iter().next().ok_or(usage)?;
            AboutUsers::Delete { names: words }
        }
        _ if is("CAT") => {
            let name = words.next();
            nothing(verb, words)?;
            let unknown = |name| Reply::ErrorAt("Unknown category '", name, "'");
            AboutUsers::Categories { of: name.map(|name| category(name).ok_or(unknown(name))).transpose()? }
        }
        _ if is("LOG") => parse_log(verb, words)?,
        _ if is("DRYRUN") => {
            let name = words.next().ok_or(usage)?;
            words.into_iter().next().ok_or(usage)?;
            AboutUsers::DryRun { name, words }
        }
        _ if is("GENPASS") => {
            let bits = words.next().map_or(Ok(PASSWORD_BITS.0), |word| integer(verb, word))?;
            nothing(verb, words)?;
            let refusal = "ACL GENPASS argument must be the number of bits for the output password, a positive number \
                           up to 4096";
            let bits = usize::try_from(bits).ok().filter(|_| (1..=PASSWORD_BITS.1).contains(&bits));
            AboutUsers::MakeUp { bits: bits.ok_or(Reply::Error(refusal))? }
        }
        _ => return Err(Reply::UnknownSubcommand { verb, sub }),
    };
    Ok(Command::Acl(about))
}

fn parse_log<'a>(verb: Verb, mut words: Words<'a>) -> Result<AboutUsers<'a>, Reply<'a>> {
    let Some(word) = words.next() else { return Ok(AboutUsers::Log { count: LOG_COUNT }) };
    nothing(verb, words)?;
    if word.eq_ignore_ascii_case(b"RESET") {
        return Ok(AboutUsers::ResetLog);
    }
    // As in Redis a negative number is none at all.
    Ok(AboutUsers::Log { count: usize::try_from(integer(verb, word)?).unwrap_or(0) })
}
