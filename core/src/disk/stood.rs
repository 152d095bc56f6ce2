//! Where a node stood, as the newest mark that is read of it says.

use crate::disk::frames::{Mark, Standing};
use crate::version::{Hlc, OriginId};
use crate::wire::lists::Decision;

/// What a mark said.
#[derive(Clone, Debug)]
pub(super) struct Stood {
    pub(super) number: u64,
    pub(super) incarnation: u64,
    pub(super) ceiling: Hlc,
    pub(super) standing: Stand,
    pub(super) roster: u64,
    /// Of which runs nobody has seen anything.
    pub(super) hidden: Vec<OriginId>,
    /// Of which of them all was written anew since.
    pub(super) rewritten: Vec<OriginId>,
    /// As which runs it was.
    pub(super) anew: Vec<OriginId>,
    pub(super) whole: bool,
}

/// Who may have seen what the node wrote.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    Unshown,
    /// By which decision it comes back, and who told it; and whether it was restored.
    Returning(Option<(Decision, String)>, bool),
    Shown(Hlc),
}

impl Stood {
    /// What `mark` says, which follows the one that said `before`.
    pub(super) fn of(mark: &Mark<'_>, before: Option<Self>) -> Self {
        let mut hidden: Vec<_> = mark.hidden.iter().map(|(origin, _)| origin).collect();
        let (mut rewritten, mut anew) = (Vec::new(), Vec::new());
        if let Some(before) = before {
            (rewritten, anew) = (before.rewritten, before.anew);
            match (mark.standing, before.standing) {
                // What a run could not read it cannot have shown to anybody.
                (Standing::Unshown, Stand::Unshown) => {
                    hidden.extend(before.hidden);
                    hidden.sort_unstable();
                    hidden.dedup();
                }
                (Standing::Shown { .. }, Stand::Shown(_)) => {
                    rewritten.extend(before.hidden.iter().filter(|origin| !hidden.contains(origin)));
                }
                _ => {}
            }
        }
        if let Standing::Shown { anew: Some(origin), .. } = mark.standing {
            anew.push(origin);
        }
        Self {
            number: mark.number,
            incarnation: mark.incarnation,
            ceiling: mark.ceiling,
            standing: match mark.standing {
                Standing::Unshown => Stand::Unshown,
                Standing::Returning { told, restored } => {
                    Stand::Returning(told.map(|(decision, by)| (decision, by.to_owned())), restored)
                }
                Standing::Shown { established, .. } => Stand::Shown(established),
            },
            roster: mark.roster,
            hidden,
            rewritten,
            anew,
            whole: mark.whole,
        }
    }
}
