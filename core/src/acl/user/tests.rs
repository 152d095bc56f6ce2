//! Rules, one after the other, against what they are to come to; and against a slow reading of the same rules.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG8u1hcmCBp/8";

fn made(rules: &str) -> Result<User, (String, RuleError)> {
    let mut user = User::new("ann");
    for rule in rules.split_ascii_whitespace() {
        user.apply(rule.as_bytes()).map_err(|why| (rule.to_owned(), why))?;
    }
    Ok(user)
}

fn line(rules: &str) -> String {
    String::from_utf8(made(rules).expect("rules").line()).expect("text")
}

fn unit(name: &str) -> usize {
    units_named(name.as_bytes()).expect("a command").start
}

#[test]
fn rules_come_to_what_redis_shows_of_them() {
    for (rules, shown) in [
        ("", "user ann off resetchannels -@all"),
        ("on nopass allkeys allchannels allcommands", "user ann on nopass ~* &* +@all"),
        ("ON NoPass AllKeys &* +@ALL", "user ann on nopass ~* &* +@all"),
        (
            "on ~a:* %R~r:* &ch* +@read -mget +config|get",
            "user ann on ~a:* %R~r:* resetchannels &ch* -@all +@read -mget +config|get",
        ),
        ("%W~w %R~w %rw~x %wr~y", "user ann off ~w ~x ~y resetchannels -@all"),
        ("+get -get +get", "user ann off resetchannels -@all +get"),
        ("+config|get +config|set +config", "user ann off resetchannels -@all +config"),
        ("+config -config|set", "user ann off resetchannels -@all +config -config|set"),
        ("+get +getdel -get", "user ann off resetchannels -@all +getdel -get"),
        ("+GET +@Read", "user ann off resetchannels -@all +get +@read"),
        ("+@all -@dangerous nocommands", "user ann off resetchannels -@all"),
        ("on nopass ~* +@all reset", "user ann off resetchannels -@all"),
        ("~a ~b resetkeys ~c ~c allkeys", "user ann off ~* resetchannels -@all"),
        ("~a ~*", "user ann off ~* resetchannels -@all"),
        ("sanitize-payload clearselectors", "user ann off resetchannels -@all"),
    ] {
        assert_eq!(line(rules), shown, "{rules}");
    }
    assert_eq!(line(&format!("nopass #{HASH} #{HASH}")), format!("user ann off #{HASH} resetchannels -@all"));
    assert_eq!(line(&format!("#{HASH} nopass")), "user ann off nopass resetchannels -@all");
    assert_eq!(line(&format!("#{HASH} !{HASH}")), "user ann off resetchannels -@all");
}

#[test]
fn what_is_no_rule_is_told() {
    for (rules, rule, why) in [
        ("foo", "foo", RuleError::Syntax),
        ("+nothing", "+nothing", RuleError::Unknown),
        ("+@nothing", "+@nothing", RuleError::Unknown),
        ("+get|a", "+get|a", RuleError::Unknown),
        ("-config|nope", "-config|nope", RuleError::Unknown),
        ("allkeys ~b", "~b", RuleError::KeysAfterAll),
        ("allchannels &b", "&b", RuleError::ChannelsAfterAll),
        ("#abc", "#abc", RuleError::NotHashed),
        ("!abc", "!abc", RuleError::NoSuchPassword),
        ("%X~a", "%X~a", RuleError::Syntax),
        ("%~a", "%~a", RuleError::Syntax),
        ("%RR~a", "%RR~a", RuleError::Syntax),
        ("%R", "%R", RuleError::Syntax),
        (">secret", ">secret", RuleError::Syntax),
        ("(+get", "(+get", RuleError::Selector),
    ] {
        assert_eq!(made(rules), Err((rule.to_owned(), why)), "{rules}");
    }
    let mut user = User::new("ann");
    assert_eq!(user.apply(b"~a b"), Err(RuleError::Syntax), "no line could tell where it ends");
    assert_eq!(user.apply(b"&a\nuser eve on nopass +@all"), Err(RuleError::Syntax));
    assert_eq!(user.apply(format!("~{}", "a".repeat(513)).as_bytes()), Err(RuleError::TooLong));
    let mut outcomes = (0..257).map(|at| user.apply(format!("~{at}").as_bytes()));
    assert!(outcomes.by_ref().take(256).all(|outcome| outcome.is_ok()));
    assert_eq!(outcomes.next(), Some(Err(RuleError::TooMany)));
}

#[test]
fn a_key_is_held_against_patterns_for_what_is_done_to_it() {
    let user = made("~a:* %R~r:* %W~w:*").expect("rules");
    for (key, reads, writes) in
        [("a:1", true, true), ("r:1", true, false), ("w:1", false, true), ("a", false, false), ("xa:1", false, false)]
    {
        let may = |needs| user.may_use(key.as_bytes(), needs);
        assert_eq!((may(Needs::READ), may(Needs::WRITE)), (reads, writes), "{key}");
        assert_eq!((may(Needs::BOTH), may(Needs::NOTHING)), (reads && writes, reads || writes), "{key}");
    }
    for (prefix, may) in [("a:", true), ("a:b", true), ("r:", true), ("w:", false), ("a", false), ("", false)] {
        assert_eq!(user.may_read_below(prefix.as_bytes()), may, "{prefix}");
    }
    assert!(!made("~a[b]*").expect("rules").may_read_below(b"ab"), "only what is plain is taken at its word");
    assert!(made("allkeys").expect("rules").may_read_below(b""));
    assert!(!made("%R~*").expect("rules").has_all_keys());
}

#[test]
fn a_pattern_that_takes_too_long_matches_nothing() {
    let user = made(&format!("~{}b", "*aaaaaaaa".repeat(50))).expect("rules");
    assert!(!user.may_use(&b"a".repeat(60_000), Needs::READ));
}

#[test]
fn who_may_do_everything_is_not_looked_at() {
    for (rules, is_free) in [
        ("+@all ~* &*", true),
        ("+@all -get +get ~* &*", true),
        ("+@all -get ~* &*", false),
        ("+@all -config|set ~* &*", false),
        ("+@all ~a* &*", false),
        ("+@all %R~* &*", false),
        ("+@all ~* &a", false),
        ("+@read +@write ~* &*", false),
    ] {
        assert_eq!(made(rules).expect("rules").is_free(), is_free, "{rules}");
    }
    assert!(User::default_user().is_free());
}

/// What rules come to, by going through all of them for each command.
#[derive(Default)]
struct Model(Vec<String>);

impl Model {
    fn may(&self, name: &str, categories: u32) -> bool {
        self.0.iter().fold(false, |may, rule| {
            let (gives, what) = (rule.starts_with('+'), &rule[1..]);
            let is_meant = match what.strip_prefix('@') {
                Some("all") => true,
                Some(of) => category(of.as_bytes()).is_some_and(|of| categories & of != 0),
                None => name == what || name.strip_prefix(what).is_some_and(|rest| rest.starts_with('|')),
            };
            if is_meant { gives } else { may }
        })
    }
}

fn rule() -> impl Strategy<Value = String> {
    let names = ["get", "set", "config", "config|get", "client|list", "client", "flushall", "acl|whoami", "publish"];
    let categories = ["all", "read", "write", "dangerous", "admin", "connection", "string", "slow", "fast"];
    let what = prop_oneof![
        4 => prop::sample::select(names.to_vec()).prop_map(str::to_owned),
        3 => prop::sample::select(categories.to_vec()).prop_map(|name| format!("@{name}")),
    ];
    (any::<bool>(), what).prop_map(|(gives, what)| format!("{}{what}", if gives { '+' } else { '-' }))
}

proptest! {
    #[test]
    fn rules_give_what_a_slow_reading_gives_and_so_does_what_is_shown(rules in prop::collection::vec(rule(), 0..24)) {
        let user = made(&rules.join(" ")).expect("rules");
        let again = made(&user.commands()).expect("rules");
        let (model, mut differ) = (Model(rules), BTreeMap::new());
        for (at, unit) in units().iter().enumerate() {
            let (may, is_to) = (user.may_run(at), model.may(&unit.name(), unit.categories));
            if may != is_to || again.may_run(at) != may {
                differ.insert(unit.name(), (may, is_to));
            }
        }
        prop_assert!(differ.is_empty(), "{differ:?}");
        prop_assert!(user.commands.rules.len() <= 18, "no rule is kept that another made void");
    }

    #[test]
    fn no_word_is_able_to_harm(word in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut user = User::new("ann");
        let before = user.clone();
        match user.apply(&word) {
            Ok(()) => prop_assert!(!user.line().contains(&b'\n')),
            Err(_) => prop_assert_eq!(user, before),
        }
    }
}

#[test]
fn a_subcommand_is_given_by_itself() {
    let user = made("+@all -config +config|get").expect("rules");
    let may = |name| user.may_run(unit(name));
    assert!(may("config|get") && !may("config|set") && !may("config") && may("get"));
}
