//! Seats: whom a cluster was told to forget is waited for no more.

use kv_core::{Node, Version};

use super::{Judge, RunId, Standing};
use crate::plan::size;

/// A run has said that a member is forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgot {
    pub(super) by: RunId,
    /// The change of the roster, once it has been seen there.
    at: Option<Version>,
}

impl Judge {
    /// A run has said that `node` is forgotten, of which no run is up.
    pub(super) fn forget(&mut self, by: RunId, node: u64) {
        self.forgot[size(node)].push(Forgot { by, at: None });
    }

    /// Looks whom a run has forgotten, and to whom it has given a seat since. It does so when a member greets it; and
    /// what a run sent before it was killed may be read after its member was forgotten, by who stood still meanwhile.
    /// Nobody can tell that such a greeting is old, so the member has to be forgotten once more.
    /// (`sim/regressions/a-greeting-was-read-after-its-run-was-killed-and-its-member-forgotten`)
    ///
    /// Nor does a run know of a seat whose giver's clock is too far ahead to be listened to: by the stamps that one
    /// comes after what is decided meanwhile. (`sim/regressions/forgotten-beside-a-seat-of-a-clock-too-far-ahead`)
    pub(super) fn look_at_seats(&mut self, run: RunId, node: &Node) {
        let bound_ms = self.plan.setting.clock_ahead_ms_max;
        for (member, forgot) in (0..).zip(&mut self.forgot).filter(|(_, forgot)| !forgot.is_empty()) {
            let name = format!("n{member}");
            let Some((seat, is_lost)) = node.seat(&name) else { continue };
            if is_lost {
                let news = forgot.iter_mut().filter(|forgot| forgot.by == run && forgot.at.is_none());
                news.for_each(|forgot| forgot.at = Some(seat));
            } else if seat.origin == node.origin() && node.is_linked_with(&name) {
                forgot.retain(|forgot| forgot.at.is_none_or(|at| at >= seat));
            } else {
                let was_unheard = |at: Version| at.hlc.ms() + bound_ms < seat.hlc.ms();
                forgot.retain(|forgot| forgot.by != run || !forgot.at.is_some_and(was_unheard));
            }
        }
    }

    /// Notes who has a seat by what a run knows.
    pub(super) fn note_roster(&mut self, run: RunId, node: &Node) {
        let of = self.run_mut(run);
        if std::mem::replace(&mut of.roster, node.roster()) != node.roster() {
            let is_seated = |member: u64| node.seat(&format!("n{member}")).is_some_and(|(_, is_lost)| !is_lost);
            (0..).zip(&mut of.seats).for_each(|(member, seated)| *seated = is_seated(member));
        }
    }

    /// Whether all who knew that `node` has a seat have ended, but for itself: who gave it was killed before it had
    /// told the others.
    pub(super) fn is_seat_lost(&self, node: u64) -> bool {
        let mut knew = self.runs.iter().filter(|of| of.node != node && of.seats[size(node)]).peekable();
        knew.peek().is_some() && knew.all(|of| of.standing != Standing::Current)
    }

    /// Whether a run has said that the member with this name is forgotten, which was gone and never came again. Who
    /// came back to another cluster since goes by that one's roster.
    pub(super) fn is_forgotten_by(&self, run: RunId, name: &str) -> bool {
        let mut gone = (0..).zip(&self.forgot).filter(|(node, _)| format!("n{node}") == name);
        !self.forgotten[size(self.run(run).node)] && gone.any(|(_, by)| by.iter().any(|forgot| forgot.by == run))
    }
}
