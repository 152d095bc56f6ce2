//! One run of a plan that may end in anything: a panic of the code under test is kept as a defect like any other.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic;
use std::sync::Once;

use crate::engine::Engine;
use crate::outcome::{Oracle, Outcome};
use crate::plan::Plan;
use crate::trace::Watch;

/// What a run showed to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Two defects of one kind are taken for the same.
    pub kind: Kind,
    /// When, in microseconds of simulated time, if that is known.
    pub at_us: Option<u64>,
    /// What was seen.
    pub detail: String,
}

/// Kinds of defects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An oracle did not hold.
    Oracle(Oracle),
    /// The code panicked at this place: `file:line`.
    Panic(String),
    /// Two runs of one plan had different traces.
    Nondeterminism,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Unless it panicked.
    pub outcome: Option<Outcome>,
    /// What is wrong, if anything is.
    pub defect: Option<Defect>,
}

/// Runs `plan`.
#[must_use]
pub fn run(engine: Engine, plan: &Plan) -> Trial {
    match catch(|| engine.run(plan, Watch::Hash)) {
        Ok(outcome) => {
            let defect = outcome.verdict.as_ref().err().map(|failure| Defect {
                kind: Kind::Oracle(failure.oracle),
                at_us: Some(failure.at_us),
                detail: failure.detail.clone(),
            });
            Trial { outcome: Some(outcome), defect }
        }
        Err(defect) => Trial { outcome: None, defect: Some(defect) },
    }
}

/// Runs `plan` twice and compares the traces; otherwise as [`run`].
#[must_use]
pub fn run_twice(engine: Engine, plan: &Plan) -> Trial {
    let mut trial = run(engine, plan);
    let hashes =
        [trial.outcome.as_ref(), run(engine, plan).outcome.as_ref()].map(|outcome| outcome.map(|o| o.trace_hash));
    if hashes[0] != hashes[1] {
        let [first, again] = hashes.map(|hash| hash.map_or("a panic".to_owned(), |hash| format!("{hash:032x}")));
        trial.defect = Some(Defect {
            kind: Kind::Nondeterminism,
            at_us: None,
            detail: format!("one run ends in {first}, another one in {again}"),
        });
    }
    trial
}

/// Looks for a defect of `kind` in `plan`.
#[must_use]
pub fn look_for(kind: &Kind, engine: Engine, plan: &Plan) -> Option<Defect> {
    let trial = if *kind == Kind::Nondeterminism { run_twice(engine, plan) } else { run(engine, plan) };
    trial.defect.filter(|defect| defect.kind == *kind)
}

thread_local! {
    /// Whether this thread runs something whose panics are caught.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `run` returns, or its panic.
fn catch<T>(run: impl FnOnce() -> T + panic::UnwindSafe) -> Result<T, Defect> {
    static HOOK: Once = Once::new();
    // Only the hook is told the place, and the usual one would print it.
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                return usual(info);
            }
            let place = info.location().map(|location| format!("{}:{}", location.file(), location.line()));
            PLACE.set(place);
        }));
    });
    let before = IS_CAUGHT.replace(true);
    let result = panic::catch_unwind(run);
    IS_CAUGHT.set(before);
    result.map_err(|payload| Defect {
        kind: Kind::Panic(PLACE.take().unwrap_or_else(|| "nowhere".to_owned())),
        at_us: None,
        detail: message(payload.as_ref()),
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(at_us) = self.at_us {
            write!(f, " at {}.{:06} s", at_us / 1_000_000, at_us % 1_000_000)?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oracle(oracle) => write!(f, "{oracle:?}"),
            Self::Panic(place) => write!(f, "panic at {place}"),
            Self::Nondeterminism => f.write_str("nondeterminism"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_defect_with_its_place_and_message() {
        let line = line!() + 1;
        let defect = catch(|| assert!(std::hint::black_box(false), "seat {} is taken", 3)).expect_err("it panics");
        assert_eq!(defect.kind, Kind::Panic(format!("{}:{line}", file!())));
        assert_eq!(defect.detail, "seat 3 is taken");
        assert_eq!(catch(|| 5), Ok(5));
    }
}
