//! The answering side of scrubbing.

use crate::record::{Framed, encode};
use crate::repl::scrub::is_shown;
use crate::repl::staged::Staged;
use crate::replica::Replica;
use crate::version::Hlc;
use crate::wire::scrub::{self, About, Ask, LIST_ENTRIES_MAX};

/// Questions that are answered between two heartbeats: more than a descent has. What comes above them is told that
/// there is no answer.
const ANSWERS_MAX: u32 = 64;

/// Bytes of records staged ahead: a few writes' worth, so that the stream beside them keeps moving.
const STAGED_BYTES: usize = 64 << 10;

/// What a feeding link remembers of scrubbing.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// Questions answered since the last heartbeat.
    answered: u32,
    records: Option<Records>,
}

/// Entries that were asked for and not all sent yet.
#[derive(Debug)]
struct Records {
    id: u32,
    slot: u16,
    /// Sorted; those before `next` were sent.
    names: Vec<u64>,
    next: usize,
}

impl Serving {
    /// A heartbeat has passed.
    pub(crate) fn refill(&mut self) {
        self.answered = 0;
    }

    /// Whether there is something to stage.
    pub(crate) fn has_more(&self) -> bool {
        self.records.is_some()
    }

    /// Answers a question; one about records takes the place of one before it that is still being answered.
    pub(crate) fn take(&mut self, ask: &Ask<'_>, replica: &Replica, staged: &mut Staged) {
        let (id, store) = (ask.id, &replica.store);
        self.answered += 1;
        let is_comparable = store.settled_cut() == Some(ask.cut);
        if self.answered > ANSWERS_MAX || !is_shown(replica) || !is_comparable {
            return scrub::emit_end(id, staged.out());
        }
        match ask.about {
            About::Groups => scrub::emit_sums(id, &store.group_sums(), staged.out()),
            About::Slots { group } => scrub::emit_sums(id, &store.slot_sums(group.into()), staged.out()),
            About::List { slot, after } => match store.list(slot, after, LIST_ENTRIES_MAX) {
                Some((list, more)) => scrub::emit_list(id, more, &list, staged.out()),
                None => scrub::emit_end(id, staged.out()),
            },
            About::Records { slot, names } => {
                self.records = Some(Records { id, slot, names: names.iter().collect(), next: 0 });
            }
            About::Keys { slot, names } => {
                let names: Vec<u64> = names.iter().collect();
                let mut keys: Vec<Vec<u8>> = Vec::new();
                store.visit_named(slot, &names, &mut |_, record| {
                    keys.push(record.key.to_vec());
                    keys.len() < names.len()
                });
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                scrub::emit_keys(id, &keys, staged.out());
            }
        }
    }

    /// Stages some more of the entries that were asked for.
    pub(crate) fn step(&mut self, replica: &Replica, staged: &mut Staged) {
        let Some(records) = &mut self.records else { return };
        if staged.len() >= STAGED_BYTES {
            return;
        }
        let Records { id, slot, names, next } = records;
        let mut bytes = Vec::new();
        let (mut is_cut, rest) = (false, &names[*next..]);
        replica.store.visit_named(*slot, rest, &mut |name, record| {
            if staged.len() >= STAGED_BYTES {
                is_cut = true;
                *next += rest.partition_point(|before| *before < name);
                return false;
            }
            bytes.clear();
            encode(&Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record: *record }, &mut bytes);
            scrub::emit_record(*id, &bytes, staged.out());
            true
        });
        if !is_cut {
            scrub::emit_end(*id, staged.out());
            self.records = None;
        }
    }
}
