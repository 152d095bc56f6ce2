//! What is asked of users.

use crate::wire::words::Words;

/// A subcommand of `ACL`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AboutUsers<'a> {
    WhoAmI,
    List,
    Names,
    Get {
        name: &'a [u8],
    },
    Set {
        name: &'a str,
        rules: Words<'a>,
    },
    /// At least one name.
    Delete {
        names: Words<'a>,
    },
    /// All categories, or what is in one.
    Categories {
        of: Option<u32>,
    },
    Log {
        count: usize,
    },
    ResetLog,
    Load,
    Save,
    /// Whether that user may run these.
    DryRun {
        name: &'a [u8],
        words: Words<'a>,
    },
    MakeUp {
        bits: usize,
    },
}

/// Who one says to be.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
}

impl std::fmt::Debug for Credentials<'_> {
    /// Without the password: what is printed may be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
