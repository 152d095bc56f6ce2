//! Where a node stood, as the newest mark that is read of it says.

use std::collections::BTreeSet;

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
    /// As which runs any of it was, each with which of them.
    pub(super) anew: BTreeSet<(OriginId, OriginId)>,
    /// Whether it was forgotten before, and came back.
    pub(super) came_back: bool,
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
    /// What `mark` says, which follows the one that said `before`. What was written anew between the two may be missing
    /// if it `was_unseen`: it took the place of nothing that is here.
    pub(super) fn of(mark: &Mark<'_>, before: Option<Self>, was_unseen: bool) -> Self {
        let mut hidden: Vec<_> = mark.hidden.iter().map(|(origin, _)| origin).collect();
        let (mut rewritten, mut anew, mut came_back) = (Vec::new(), BTreeSet::new(), false);
        if let Some(before) = before {
            (rewritten, anew, came_back) = (before.rewritten, before.anew, before.came_back);
            match (mark.standing, before.standing) {
                // What a run could not read it cannot have shown to anybody.
                (Standing::Unshown, Stand::Unshown) => {
                    hidden.extend(before.hidden);
                    hidden.sort_unstable();
                    hidden.dedup();
                }
                (Standing::Shown { .. }, Stand::Shown(_)) if !was_unseen => {
                    rewritten.extend(before.hidden.iter().filter(|origin| !hidden.contains(origin)));
                }
                (Standing::Shown { .. }, Stand::Returning(..)) => came_back = true,
                _ => {}
            }
        }
        if let Standing::Shown { anew: Some(origin), .. } = mark.standing {
            anew.extend(hidden.iter().map(|hidden| (origin, *hidden)));
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
            came_back,
            whole: mark.whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::frames::{FileFrame, MarkOf, emit_mark, parse};
    use crate::origins::Claims;
    use crate::record::next_frame;
    use crate::retired::Mark as LedgerMark;

    /// What stands after marks that were shown: what each had hidden and as whom it wrote that anew, and whether
    /// something that nobody had seen may be missing before it.
    fn after(marks: &[(&[u64], Option<u64>, bool)]) -> Stood {
        let mut stood = None;
        for (number, (hidden, anew, was_unseen)) in (1..).zip(marks) {
            let claims = Claims::default();
            let standing = Standing::Shown { established: Hlc(9), anew: anew.map(OriginId) };
            let (incarnation, ceiling, roster, ledger) = (1, Hlc(10), 7, LedgerMark::default());
            let reaped = (0, &claims);
            let mark = MarkOf { number, incarnation, ceiling, standing, whole: true, roster, ledger, reaped };
            let hidden: Vec<_> = hidden.iter().copied().map(OriginId).collect();
            let mut out = Vec::new();
            emit_mark(&mark, &hidden, Some(std::iter::empty()), &mut out);
            let body = next_frame(&out, 1 << 10).expect("a frame").expect("all of it");
            let Some(FileFrame::Mark(mark)) = parse(body) else { panic!("a mark") };
            stood = Some(Stood::of(&mark, stood, *was_unseen));
        }
        stood.expect("there are marks")
    }

    #[test]
    fn what_is_hidden_no_more_was_written_anew_unless_that_may_be_missing_and_unseen() {
        let rewritten = |marks: &[(&[u64], Option<u64>, bool)]| after(marks).rewritten;
        assert_eq!(rewritten(&[(&[5, 6], Some(8), false)]), []);
        assert_eq!(rewritten(&[(&[5, 6], Some(8), false), (&[], None, false)]), [OriginId(5), OriginId(6)]);
        assert_eq!(rewritten(&[(&[5, 6], Some(8), false), (&[], None, true)]), []);
        assert_eq!(rewritten(&[(&[5], Some(8), false), (&[5], Some(9), true), (&[], None, true)]), []);
        assert_eq!(rewritten(&[(&[5], Some(8), false), (&[], None, false), (&[], None, true)]), [OriginId(5)]);
    }

    #[test]
    fn whoever_wrote_something_anew_did_so_with_what_was_hidden_then() {
        let stood = after(&[(&[5], Some(8), false), (&[5], Some(8), false), (&[], None, true), (&[6], Some(9), true)]);
        let anew: Vec<_> = stood.anew.iter().map(|(anew, hidden)| (anew.0, hidden.0)).collect();
        assert_eq!(anew, [(8, 5), (9, 6)]);
    }
}
