//! Who has subscribed to what, and what of the data is told of: channels of messages that nothing keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::boundary::ConnId;
use crate::execute::matches_within;
use crate::version::OriginId;
use crate::watchers::Watchers;

/// Patterns that are subscribed to at once, of all clients together: each is tried on the channel of every message.
const PATTERNS_MAX: usize = 10_000;

/// Steps that all patterns together may take on the channel of one message: some 10 ms. Those of people take a step or
/// two for each byte of it.
const MATCH_STEPS_MAX: u64 = 1 << 22;

/// Bytes that a subscription takes, besides its name.
const SUBSCRIBED_BYTES: usize = 160;

/// All subscriptions of one node.
#[derive(Debug, Default)]
pub(crate) struct PubSub {
    /// By their names.
    channels: Subscribers,
    patterns: Subscribers,
    by_client: BTreeMap<ConnId, Subscribed>,
    /// Those who hear of keys by HTTP.
    pub(crate) watchers: Watchers,
    /// Which events of the data are told of.
    pub(crate) notices: Notices,
    /// How often a pattern would have taken longer on a channel than its share of the steps: it did not match.
    pub(crate) given_up: u64,
}

type Subscribers = BTreeMap<Box<[u8]>, BTreeSet<ConnId>>;

/// The subscriptions of one client.
#[derive(Debug, Default)]
struct Subscribed {
    channels: BTreeSet<Box<[u8]>>,
    patterns: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

/// What is subscribed to: a channel, or all whose names match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Channel,
    Pattern,
}

impl PubSub {
    /// Of the node whose run this is.
    pub(crate) fn new(run: OriginId) -> Self {
        Self { watchers: Watchers::new(run), ..Self::default() }
    }

    /// Subscribes `conn`, unless what it has subscribed to would come to more than `bytes_max`; whether it has now.
    pub(crate) fn subscribe(&mut self, conn: ConnId, topic: Topic, name: &[u8], bytes_max: usize) -> bool {
        let known = match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
        };
        if topic == Topic::Pattern && known.len() >= PATTERNS_MAX && !known.contains_key(name) {
            return false;
        }
        let own = self.by_client.entry(conn).or_default();
        let bytes = name.len() + SUBSCRIBED_BYTES;
        let is_new = !own.names(topic).contains(name);
        if is_new && own.bytes + bytes > bytes_max {
            return false;
        }
        if is_new {
            own.bytes += bytes;
            own.names_mut(topic).insert(name.into());
            known.entry(name.into()).or_default().insert(conn);
        }
        true
    }

    /// Ends a subscription, if there is one.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, topic: Topic, name: &[u8]) {
        let Some(own) = self.by_client.get_mut(&conn) else { return };
        if own.names_mut(topic).remove(name) {
            own.bytes -= name.len() + SUBSCRIBED_BYTES;
            if own.count() == 0 {
                self.by_client.remove(&conn);
            }
            self.leave(conn, topic, name);
        }
    }

    /// Ends all of them; a connection that has gone has none.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.watchers.forget(conn);
        let Some(own) = self.by_client.remove(&conn) else { return };
        own.channels.iter().for_each(|name| self.leave(conn, Topic::Channel, name));
        own.patterns.iter().for_each(|name| self.leave(conn, Topic::Pattern, name));
    }

    fn leave(&mut self, conn: ConnId, topic: Topic, name: &[u8]) {
        let known = match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
        };
        let Some(subscribers) = known.get_mut(name) else { return };
        subscribers.remove(&conn);
        if subscribers.is_empty() {
            known.remove(name);
        }
    }

    /// What a client has subscribed to, in order.
    pub(crate) fn names_of(&self, conn: ConnId, topic: Topic) -> Vec<Box<[u8]>> {
        self.by_client.get(&conn).map(|own| own.names(topic).iter().cloned().collect()).unwrap_or_default()
    }

    /// How many channels, and patterns, a client has subscribed to.
    pub(crate) fn counts_of(&self, conn: ConnId) -> (usize, usize) {
        self.by_client.get(&conn).map_or((0, 0), |own| (own.channels.len(), own.patterns.len()))
    }

    /// Whether a client has subscribed to anything.
    pub(crate) fn is_subscriber(&self, conn: ConnId) -> bool {
        !self.by_client.is_empty() && self.by_client.contains_key(&conn)
    }

    /// Channels that somebody has subscribed to by their names.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &[u8]> {
        self.channels.keys().map(|name| &**name)
    }

    /// How many there are, and how many patterns.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.patterns.len())
    }

    /// How many have subscribed to a channel by its name.
    pub(crate) fn subscribers_of(&self, channel: &[u8]) -> usize {
        self.channels.get(channel).map_or(0, BTreeSet::len)
    }

    /// Who is to be told of what is said on `channel`: by its name, and by which pattern.
    pub(crate) fn audience(&mut self, channel: &[u8]) -> Vec<(ConnId, Option<&[u8]>)> {
        if self.by_client.is_empty() {
            return Vec::new();
        }
        let named = self.channels.get(channel).into_iter().flatten();
        let mut audience: Vec<(ConnId, Option<&[u8]>)> = named.map(|conn| (*conn, None)).collect();
        let mut steps = MATCH_STEPS_MAX;
        for ((pattern, conns), left) in self.patterns.iter().zip((1..=self.patterns.len()).rev()) {
            // What one leaves of its share is for those behind it.
            let share = steps / left as u64;
            let mut unused = share;
            match matches_within(pattern, channel, &mut unused) {
                Some(true) => audience.extend(conns.iter().map(|conn| (*conn, Some(&**pattern)))),
                Some(false) => {}
                None => {
                    unused = 0;
                    self.given_up += 1;
                }
            }
            steps -= share - unused;
        }
        audience
    }
}

impl Subscribed {
    fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    fn names(&self, topic: Topic) -> &BTreeSet<Box<[u8]>> {
        match topic {
            Topic::Channel => &self.channels,
            Topic::Pattern => &self.patterns,
        }
    }

    fn names_mut(&mut self, topic: Topic) -> &mut BTreeSet<Box<[u8]>> {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
        }
    }
}

/// Which events of the data are told of, as `notify-keyspace-events` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notices(u16);

/// The letters of classes of events, in the order in which Redis shows them, and then where they are told. Those that
/// nothing here brings about are known as well.
const LETTERS: &[u8; 14] = b"g$lshzxetdnKEm";

/// So many of them are what `A` stands for.
const ALL: u16 = (1 << 10) - 1;

impl Notices {
    /// What the letters of `text` stand for; none if one of them stands for nothing.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        text.iter().try_fold(Self::default(), |notices, letter| {
            let bits = match letter {
                b'A' => ALL,
                letter => 1 << LETTERS.iter().position(|known| known == letter)?,
            };
            Some(Self(notices.0 | bits))
        })
    }

    /// The same in letters.
    pub(crate) fn text(self) -> String {
        let is_all = self.0 & ALL == ALL;
        // Beside `A`, Redis does not show `n` either.
        let shown = |at: &usize| self.0 & (1 << at) != 0 && !(is_all && *at <= 10);
        let letters = (0..LETTERS.len()).filter(shown).map(|at| char::from(LETTERS[at]));
        is_all.then_some('A').into_iter().chain(letters).collect()
    }

    /// Whether anything is told at all.
    pub(crate) fn is_on(self) -> bool {
        self.has(b'K') || self.has(b'E')
    }

    pub(crate) fn has(self, letter: u8) -> bool {
        LETTERS.iter().position(|known| *known == letter).is_some_and(|at| self.0 & (1 << at) != 0)
    }
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// What it is stored as.
    pub(crate) name: Box<[u8]>,
    pub(crate) what: Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Written, with a deadline or without.
    Set {
        expires: bool,
    },
    Deleted,
    /// A member of a set got another deadline, or none.
    Expiry {
        expires: bool,
    },
    /// Added to.
    Added,
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_notices_are_those_of_redis() {
        for (text, shown) in [
            ("", Some("")),
            ("KEA", Some("AKE")),
            ("Kg$", Some("g$K")),
            ("Ex", Some("xE")),
            ("g$lshzxetdK", Some("AK")),
            ("mn", Some("nm")),
            ("AKEmn", Some("AKEm")),
            ("Kn", Some("nK")),
            ("q", None),
        ] {
            assert_eq!(Notices::parse(text.as_bytes()).map(Notices::text).as_deref(), shown, "{text}");
        }
        let some = Notices::parse(b"Kx").expect("letters");
        assert!(some.is_on() && some.has(b'x') && !some.has(b'g'));
        assert!(!Notices::parse(b"A").is_some_and(Notices::is_on));
    }

    #[test]
    fn what_is_said_reaches_who_has_subscribed_until_it_has_gone() {
        let mut pubsub = PubSub::default();
        let (one, two) = (ConnId(1), ConnId(2));
        for (conn, topic, name) in [
            (one, Topic::Channel, &b"news"[..]),
            (one, Topic::Pattern, b"n*"),
            (two, Topic::Pattern, b"n*"),
            (two, Topic::Channel, b"other"),
        ] {
            assert!(pubsub.subscribe(conn, topic, name, 1_000) && pubsub.subscribe(conn, topic, name, 1_000));
        }
        let pattern = Some(&b"n*"[..]);
        assert_eq!(pubsub.audience(b"news"), [(one, None), (one, pattern), (two, pattern)]);
        assert_eq!((pubsub.counts(), pubsub.counts_of(one)), ((2, 1), (1, 1)));
        pubsub.unsubscribe(two, Topic::Pattern, b"n*");
        pubsub.unsubscribe(two, Topic::Pattern, b"n*");
        assert_eq!(pubsub.audience(b"news"), [(one, None), (one, pattern)]);
        pubsub.forget(one);
        assert!(pubsub.audience(b"news").is_empty() && !pubsub.is_subscriber(one) && pubsub.is_subscriber(two));
        pubsub.unsubscribe(two, Topic::Channel, b"other");
        assert!(!pubsub.is_subscriber(two) && pubsub.counts() == (0, 0));
    }

    #[test]
    fn patterns_that_take_long_cost_nobody_else_the_message() {
        let mut pubsub = PubSub::default();
        let channel = [&[b'a'; 4_000][..], b".end"].concat();
        for number in 0..500 {
            let slow = format!("*{}{number}", "a".repeat(1_000));
            assert!(pubsub.subscribe(ConnId(1), Topic::Pattern, slow.as_bytes(), usize::MAX));
        }
        for pattern in [&b"a*.end"[..], b"zz*", b"?aa*"] {
            assert!(pubsub.subscribe(ConnId(2), Topic::Pattern, pattern, usize::MAX));
        }
        let (two, patterns) = (ConnId(2), [Some(&b"?aa*"[..]), Some(b"a*.end")]);
        assert_eq!(pubsub.audience(&channel), patterns.map(|pattern| (two, pattern)));
        assert_eq!(pubsub.given_up, 500);
        assert_eq!(pubsub.audience(b"short"), []);
        assert_eq!(pubsub.given_up, 500);
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut pubsub = PubSub::default();
        let has = |pubsub: &mut PubSub, conn: u32, topic, number: usize, bytes_max| {
            pubsub.subscribe(ConnId(conn), topic, format!("{number:0>4}").as_bytes(), bytes_max)
        };
        let bytes_max = 10 * (4 + SUBSCRIBED_BYTES);
        assert!((0..10).all(|number| has(&mut pubsub, 1, Topic::Channel, number, bytes_max)));
        assert!(!has(&mut pubsub, 1, Topic::Channel, 10, bytes_max));
        assert!(has(&mut pubsub, 1, Topic::Channel, 9, bytes_max));
        assert!((0..PATTERNS_MAX).all(|number| has(&mut pubsub, 2, Topic::Pattern, number, usize::MAX)));
        assert!(!has(&mut pubsub, 3, Topic::Pattern, PATTERNS_MAX, usize::MAX));
        assert!(has(&mut pubsub, 3, Topic::Pattern, 0, usize::MAX), "it is tried anyway");
    }
}
