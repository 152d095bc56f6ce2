//! What is asked of hashes and sets.

use super::{Expires, OnExpiry, TimeLeft};
use crate::wire::words::Words;

/// What is asked of a hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfHash<'a> {
    /// Fields and values in turn, at least one of each.
    Write {
        key: &'a [u8],
        pairs: Words<'a>,
        /// How many are new is answered.
        counts: bool,
    },
    WriteNew {
        key: &'a [u8],
        field: &'a [u8],
        value: &'a [u8],
    },
    Read {
        key: &'a [u8],
        field: &'a [u8],
    },
    /// At least one field.
    ReadSome {
        key: &'a [u8],
        fields: Words<'a>,
        /// What the reply may come to.
        bytes_max: usize,
    },
    List {
        key: &'a [u8],
        shown: Shown,
    },
    /// At least one field.
    Delete {
        key: &'a [u8],
        fields: Words<'a>,
    },
    Count {
        key: &'a [u8],
    },
    Exists {
        key: &'a [u8],
        field: &'a [u8],
    },
    Length {
        key: &'a [u8],
        field: &'a [u8],
    },
    Add {
        key: &'a [u8],
        field: &'a [u8],
        amount: i64,
    },
    AddFloat {
        key: &'a [u8],
        field: &'a [u8],
        amount: &'a [u8],
        /// What the sum may come to.
        bytes_max: usize,
    },
    Draw {
        key: &'a [u8],
        count: Option<i64>,
        has_values: bool,
    },
    /// At least one field.
    Expire {
        key: &'a [u8],
        fields: Words<'a>,
        expires: Expires,
        on: OnExpiry,
    },
    /// At least one field.
    Persist {
        key: &'a [u8],
        fields: Words<'a>,
    },
    /// At least one field.
    TimesLeft {
        key: &'a [u8],
        fields: Words<'a>,
        told: TimeLeft,
    },
}

/// What is shown of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Fields,
    Values,
    Both,
}

/// What is asked of sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfSet<'a> {
    /// At least one member.
    Add {
        key: &'a [u8],
        members: Words<'a>,
    },
    /// At least one member.
    Remove {
        key: &'a [u8],
        members: Words<'a>,
    },
    Has {
        key: &'a [u8],
        member: &'a [u8],
    },
    /// At least one member.
    HasSome {
        key: &'a [u8],
        members: Words<'a>,
    },
    List {
        key: &'a [u8],
    },
    Count {
        key: &'a [u8],
    },
    Pop {
        key: &'a [u8],
        count: Option<u64>,
    },
    Draw {
        key: &'a [u8],
        count: Option<i64>,
    },
    Move {
        key: &'a [u8],
        name: &'a [u8],
        member: &'a [u8],
    },
    /// At least one key; the result is answered, or stored.
    Combine {
        how: Combine,
        keys: Words<'a>,
        into: Option<&'a [u8]>,
    },
    /// How many are in all of these, at least one; at most `limit`, if not 0.
    CountCommon {
        keys: Words<'a>,
        limit: u64,
    },
}

/// How sets are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Intersection,
    Union,
    /// The first without the others.
    Difference,
}
