//! The paths that are timed and counted.

mod clients;
mod pair;
mod records;
mod requests;

use std::fmt;

use self::clients::Clients;
use self::pair::Pair;
use self::requests::Dialect::{Array, Inline, Line, Quoted};

/// Keys that are there, each of which is asked for and written in its turn.
pub(crate) const KEYS: u32 = 10_000;

/// Clients that all say something in each round, as in a turn of a busy driver.
pub(crate) const CLIENTS: u32 = 50;

/// Records of a round.
const RECORDS: u32 = 16 * CLIENTS;

/// Keys between one and the next that is used: no divisor of their number, so that all of them have their turn, and
/// not in the order in which they were written first.
const KEY_STRIDE: u32 = 7_919;

/// A path through the core, as its driver takes it.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Operations in a round: what its figures are divided by.
    pub(crate) ops: u32,
    pub(crate) start: fn() -> Started,
}

/// What is measured. It panics if what comes out of it is not what it should be.
pub(crate) type Round = dyn FnMut(&[u8]);

/// A scenario with all that must be there before its rounds.
pub(crate) struct Started {
    /// Makes what the next round is given. Rounds are to be carried out in the order in which this was called.
    pub(crate) supply: Box<dyn FnMut() -> Vec<u8>>,
    pub(crate) round: Box<Round>,
}

pub(crate) const ALL: [Scenario; 19] = [
    Scenario { name: "parse_line_16", ops: 16 * CLIENTS, start: || Clients::echo(Line) },
    Scenario { name: "parse_quoted_line_16", ops: 16 * CLIENTS, start: || Clients::echo(Quoted) },
    Scenario { name: "parse_resp_inline_16", ops: 16 * CLIENTS, start: || Clients::echo(Inline) },
    Scenario { name: "parse_resp_array_16", ops: 16 * CLIENTS, start: || Clients::echo(Array) },
    Scenario { name: "get_line_1", ops: CLIENTS, start: || Clients::get(Line, 1) },
    Scenario { name: "get_line_16", ops: 16 * CLIENTS, start: || Clients::get(Line, 16) },
    Scenario { name: "get_resp_1", ops: CLIENTS, start: || Clients::get(Array, 1) },
    Scenario { name: "get_resp_16", ops: 16 * CLIENTS, start: || Clients::get(Array, 16) },
    Scenario { name: "get_resp_128", ops: 128 * CLIENTS, start: || Clients::get(Array, 128) },
    Scenario { name: "set_line_1", ops: CLIENTS, start: || Clients::set(Line, 1) },
    Scenario { name: "set_line_16", ops: 16 * CLIENTS, start: || Clients::set(Line, 16) },
    Scenario { name: "set_resp_1", ops: CLIENTS, start: || Clients::set(Array, 1) },
    Scenario { name: "set_resp_16", ops: 16 * CLIENTS, start: || Clients::set(Array, 16) },
    Scenario { name: "set_resp_128", ops: 128 * CLIENTS, start: || Clients::set(Array, 128) },
    Scenario { name: "set_and_feed_16", ops: RECORDS, start: Pair::set_and_feed },
    Scenario { name: "merge_16", ops: RECORDS, start: Pair::merge },
    Scenario { name: "encode_record", ops: RECORDS, start: records::encode_each },
    Scenario { name: "decode_record", ops: RECORDS, start: records::decode_each },
    Scenario { name: "sweep_key", ops: KEYS, start: Pair::sweep },
];

/// Keys, one after the other, for ever.
pub(crate) struct Keys(u32);

impl Keys {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        self.0 = (self.0 + KEY_STRIDE) % KEYS;
        requests::key(self.0)
    }
}

/// What divan names it by.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
