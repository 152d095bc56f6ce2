//! What hashes and sets have in common: listing in steps, and drawing by chance.

use std::collections::BTreeSet;

use super::{matches, value};
use crate::command::{Bounded, Reply, Scan};
use crate::name::Kind;
use crate::replica::{Holds, Replica};
use crate::store::ELEMENT_BYTES_MAX;
use crate::time::Now;
use crate::wire::Answer;

/// Most draws with repeats at a time: some tens of milliseconds, in which everybody waits.
const DRAWS_MAX: u64 = 1 << 17;

/// Most bytes of them.
const DRAWN_BYTES_MAX: usize = 16 << 20;

/// One of them would be under a key with which it is too long.
pub(super) const ELEMENT_TOO_LONG: Reply<'static> =
    Reply::TooLong { what: Bounded::Element, bytes_max: ELEMENT_BYTES_MAX };

/// More of them were asked for than one answer is to say again and again.
pub(super) const DRAWN_TOO_LONG: Reply<'static> = Reply::TooLong { what: Bounded::Reply, bytes_max: DRAWN_BYTES_MAX };

/// Whether so much is more than draws with repeats may answer.
pub(super) const fn is_too_long(bytes: usize) -> bool {
    bytes > DRAWN_BYTES_MAX
}

/// From how many on those that are drawn are drawn one by one, if they are few of all.
const GATHERED_MAX: u64 = 1_024;

/// Whether what `key` holds is `wanted` or nothing at all; else that is answered.
pub(super) fn is_of_type(now: Now, key: &[u8], wanted: Holds, replica: &Replica, answer: &mut Answer<'_>) -> bool {
    let holds = replica.holds(now, key);
    let fits = holds == wanted || holds == Holds::Nothing;
    if !fits {
        answer.say(&Reply::WrongType);
    }
    fits
}

pub(super) fn scan(now: Now, key: &[u8], scan: &Scan<'_>, kind: Kind, replica: &Replica, answer: &mut Answer<'_>) {
    let wanted = if kind == Kind::Field { Holds::Hash } else { Holds::Set };
    if !is_of_type(now, key, wanted, replica, answer) {
        return;
    }
    let after = u32::try_from(scan.cursor.wrapping_sub(1)).ok();
    let (mut found, mut parts) = (Vec::new(), 0);
    let mut listed = Answer { dialect: answer.dialect, out: &mut found };
    let count = usize::try_from(scan.count).unwrap_or(usize::MAX);
    // A cursor that leads nowhere is at the end.
    let is_over = scan.cursor > u64::from(u32::MAX);
    let last = replica.walk_elements((now, key), kind, after, count, &mut |element, record| {
        if is_over || !scan.pattern.is_none_or(|pattern| matches(pattern, element)) {
            return;
        }
        listed.say(&Reply::Value(element));
        parts += 1;
        if let (Kind::Field, true, Some(live)) = (kind, scan.has_values, replica.read(now, record)) {
            listed.say(&value(live));
            parts += 1;
        }
    });
    let cursor = last.filter(|_| !is_over).map_or(0, |last| u64::from(last) + 1);
    answer.say(&Reply::Array(2));
    answer.say(&Reply::Value(itoa::Buffer::new().format(cursor).as_bytes()));
    answer.say(&Reply::Array(parts));
    answer.out.extend_from_slice(&found);
}

/// Elements of `key` by chance, of which it has `all`: so many different ones, or, if `count` is negative, so many one
/// by one. None: too many.
pub(super) fn draw(
    (now, key): (Now, &[u8]),
    kind: Kind,
    all: u64,
    count: i64,
    replica: &mut Replica,
) -> Option<Vec<Vec<u8>>> {
    let wanted = count.unsigned_abs();
    if count < 0 {
        return draw_again((now, key), kind, all, wanted, replica);
    }
    if wanted < all && all > GATHERED_MAX && wanted <= all / 4 {
        let (mut drawn, mut tries) = (BTreeSet::new(), 16 * wanted);
        while (drawn.len() as u64) < wanted && tries > 0 {
            drawn.extend(replica.draw_element(now, key, kind));
            tries -= 1;
        }
        return Some(drawn.into_iter().collect());
    }
    let mut elements = Vec::new();
    replica.walk_elements((now, key), kind, None, usize::MAX, &mut |element, _| elements.push(element.to_vec()));
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(elements.len());
    if wanted < elements.len() {
        for at in 0..wanted {
            let other = at + replica.below((elements.len() - at) as u64) as usize;
            elements.swap(at, other);
        }
        elements.truncate(wanted);
    }
    Some(elements)
}

/// So many elements, of which any may come again. None: too many, or too long.
fn draw_again(
    (now, key): (Now, &[u8]),
    kind: Kind,
    all: u64,
    wanted: u64,
    replica: &mut Replica,
) -> Option<Vec<Vec<u8>>> {
    if wanted > DRAWS_MAX {
        return None;
    }
    let mut few = Vec::new();
    if all <= GATHERED_MAX {
        replica.walk_elements((now, key), kind, None, usize::MAX, &mut |element, _| few.push(element.to_vec()));
    }
    let (mut drawn, mut bytes) = (Vec::new(), 0);
    for _ in 0..wanted {
        let element = match few.len() {
            0 => replica.draw_element(now, key, kind),
            count => few.get(replica.below(count as u64) as usize).cloned(),
        };
        let Some(element) = element else { break };
        bytes += element.len();
        if is_too_long(bytes) {
            return None;
        }
        drawn.push(element);
    }
    Some(drawn)
}
