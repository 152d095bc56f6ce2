//! What is made of a record before it is taken from a file: whether it can have been written, and what is waited for.

use crate::counter::Counter;
use crate::disk::scan::Scan;
use crate::record::{self, Record};
use crate::replica::Replica;
use crate::store::WARM_KEYS;
use crate::version::Hlc;

/// Whether a clock can have read that: what is beyond leaves no room for what is written next.
pub(super) fn is_sane(hlc: Hlc) -> bool {
    hlc.0 < 1 << 63
}

/// Whether what ended runs have added is in there.
pub(super) fn has_folds(record: &Record<'_>) -> bool {
    record.is_counter && !Counter::of(record).folds.is_empty()
}

/// Gets ready for the next records, which as yet are not checked.
pub(super) fn warm_for(scan: &Scan, replica: &mut Replica) {
    let mut keys = [&[][..]; WARM_KEYS];
    let mut count = 0;
    let records = scan.peek().take(WARM_KEYS).filter_map(|body| record::decode(body).ok());
    for (at, framed) in keys.iter_mut().zip(records) {
        *at = framed.record.key;
        count += 1;
    }
    replica.store.warm(&keys[..count]);
}

/// Whether its writers can have stamped it so.
pub(super) fn is_sane_record(record: &Record<'_>) -> bool {
    match record.is_counter {
        true => Counter::of(record).versions().all(|version| is_sane(version.hlc)),
        false => is_sane(record.version.hlc),
    }
}
