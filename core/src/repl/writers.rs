//! Which member each origin was a run of: so that a write can be told by its writer's name, also when that run has
//! ended before this node came. Learnt from who greets, and handed on; it explains, and decides nothing.

use std::collections::BTreeMap;

use crate::origins::ORIGINS_MAX;
use crate::version::OriginId;

/// Names by origin, ordered, at most [`ORIGINS_MAX`]: as many as there are accounts.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    named: BTreeMap<OriginId, Named>,
    /// The number of the entry learnt last.
    newest: u64,
}

#[derive(Debug)]
struct Named {
    name: String,
    /// Greater for what was learnt later.
    number: u64,
}

impl Writers {
    /// The member whose run `origin` is.
    pub(crate) fn name(&self, origin: OriginId) -> Option<&str> {
        self.named.get(&origin).map(|named| named.name.as_str())
    }

    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    /// Takes in names; the first one heard of an origin stays. When there is no more room, origins that are not in use
    /// are forgotten, once for all of `heard`.
    pub(crate) fn learn<'a>(
        &mut self,
        heard: impl Iterator<Item = (OriginId, &'a str)>,
        is_in_use: impl Fn(OriginId) -> bool,
    ) {
        let mut has_made_room = false;
        for (origin, name) in heard {
            if self.named.contains_key(&origin) {
                continue;
            }
            if self.named.len() >= ORIGINS_MAX && !std::mem::replace(&mut has_made_room, true) {
                self.named.retain(|origin, _| is_in_use(*origin));
            }
            if self.named.len() >= ORIGINS_MAX {
                return;
            }
            self.newest += 1;
            self.named.insert(origin, Named { name: name.to_owned(), number: self.newest });
        }
    }

    /// Up to which number there are entries.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// What was learnt after the entry numbered `after`, ordered by origin.
    pub(crate) fn since(&self, after: u64) -> impl Iterator<Item = (OriginId, &str)> + Clone {
        let news = self.named.iter().filter(move |(_, named)| named.number > after);
        news.map(|(origin, named)| (*origin, named.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Origin 7 is in use.
    fn learn(writers: &mut Writers, origins: std::ops::Range<u64>, name: &str) {
        writers.learn(origins.map(|origin| (OriginId(origin), name)), |origin| origin == OriginId(7));
    }

    #[test]
    fn the_first_name_stays_and_only_news_are_handed_on() {
        let mut writers = Writers::default();
        learn(&mut writers, 2..3, "b");
        let told = writers.newest();
        learn(&mut writers, 2..3, "c");
        assert_eq!((writers.newest(), writers.name(OriginId(2))), (told, Some("b")));
        learn(&mut writers, 1..2, "a");
        assert_eq!(writers.since(told).collect::<Vec<_>>(), [(OriginId(1), "a")]);
        assert_eq!(writers.since(0).collect::<Vec<_>>(), [(OriginId(1), "a"), (OriginId(2), "b")]);
        assert_eq!(writers.name(OriginId(3)), None);
    }

    #[test]
    fn a_full_table_makes_room_by_what_nobody_wrote_under() {
        let mut writers = Writers::default();
        let max = ORIGINS_MAX as u64;
        learn(&mut writers, 1..max + 1, "old");
        assert_eq!(writers.len(), ORIGINS_MAX);
        learn(&mut writers, max + 1..3 * max, "new");
        assert_eq!(writers.len(), ORIGINS_MAX);
        assert_eq!((writers.name(OriginId(7)), writers.name(OriginId(8))), (Some("old"), None));
        assert_eq!(writers.name(OriginId(max + 1)), Some("new"));
    }
}
