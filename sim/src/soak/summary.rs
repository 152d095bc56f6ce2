//! What a soak came to, as Markdown.

use std::fmt;
use std::path::Path;

use super::source::{Source, replay_command};
use super::state::{Found, Lane, State};

/// A run that takes longer is pointed out.
const SLOW_MS: u64 = 10_000;

const HOUR_MS: f64 = 3_600_000.0;
const YEAR_MS: f64 = 365.25 * 24.0 * HOUR_MS;
const NIGHT_MS: f64 = 8.0 * HOUR_MS;

/// Whether a soak found nothing, and met all that it was large enough to meet: what the exit code says.
#[must_use]
pub fn passed(state: &State) -> bool {
    state.failed == 0 && state.tally.missing().is_empty()
}

/// How far a soak is, on one line.
#[must_use]
pub fn line(state: &State) -> String {
    let lanes = Source::ALL.map(|source| format!("{} {}", lane(state, source).seeds, source.name()));
    let (rate, failed) = (rate(state.seeds(), state.core_ms), state.failed);
    format!("{} seeds, {rate:.0} a minute and core, {failed} failed", lanes.join(", "))
}

/// All that a soak has to say, with the files in its directory named by their paths.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// Where it stands.
    pub state: &'a State,
    /// Its directory.
    pub dir: &'a Path,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if passed(self.state) { "nothing failed" } else { "FAILED" };
        writeln!(f, "# Soak: {verdict}\n")?;
        self.write_volume(f)?;
        self.write_failures(f)?;
        self.write_slowest(f)?;
        self.write_marks(f)?;
        writeln!(f, "\n## Totals\n\n{}", self.state.stats.to_string().replace(' ', "\n"))
    }
}

impl Summary<'_> {
    fn write_volume(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state;
        let seconds = state.elapsed_ms / 1_000;
        let cores = state.core_ms as f64 / state.elapsed_ms.max(1) as f64;
        writeln!(
            f,
            "{} h {:02} min {:02} s on {cores:.1} threads, {} s of it spent on shrinking; {} seeds were run twice and \
             compared.\n",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            state.shrink_ms / 1_000,
            state.compared
        )?;
        writeln!(f, "| plans | seeds | from | next | failed | seeds a minute and core | simulated hours |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for source in Source::ALL {
            let Lane { seeds, next, failed, busy_ms, simulated_ms, .. } = lane(state, source);
            let (rate, hours) = (rate(seeds, busy_ms), simulated_ms as f64 / HOUR_MS);
            let (name, from) = (source.name(), state.from);
            writeln!(f, "| {name} | {seeds} | {from} | {next} | {failed} | {rate:.0} | {hours:.1} |")?;
        }
        let years = state.stats.simulated_ms as f64 / YEAR_MS;
        let a_night = years / state.elapsed_ms.max(1) as f64 * NIGHT_MS;
        writeln!(f, "\n{years:.4} cluster-years simulated, which is {a_night:.3} in a night of 8 hours.")
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state;
        if state.failed == 0 {
            return Ok(());
        }
        writeln!(f, "\n## {} failures\n", state.failed)?;
        writeln!(f, "| plans | seed | what | items | shrunk to | replays | replay |\n|---|---|---|---|---|---|---|")?;
        for found in &state.failures {
            let Found { source, seed, kind, items, least, .. } = found;
            let (file, small) = match least {
                Some(least) => {
                    let small = format!(
                        "{} on {} nodes | {} in {} s",
                        least.items,
                        least.nodes,
                        least.replays,
                        least.ms / 1_000
                    );
                    (format!("{}-{seed}.min.plan", source.name()), small)
                }
                None => (format!("{}-{seed}.plan", source.name()), "| ".to_owned()),
            };
            let replay = replay_command(source.engine(), &self.dir.join(file));
            writeln!(f, "| {} | {seed} | {kind} | {items} | {small} | `{replay}` |", source.name())?;
        }
        let more = state.failed - state.failures.len() as u64;
        if more > 0 { writeln!(f, "\nand {more} more, of which no plan was kept.") } else { Ok(()) }
    }

    fn write_marks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.state.tally;
        writeln!(f, "\n## Marks\n")?;
        for mark in tally.missing() {
            writeln!(f, "MISSING: {} never fired: {}\n", mark.name(), mark.meaning())?;
        }
        writeln!(f, "```text\n{tally}```")
    }

    fn write_slowest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Slowest seeds\n\n| plans | seed | s | |\n|---|---|---|---|")?;
        for slow in &self.state.slowest {
            let (seconds, flag) = (slow.ms as f64 / 1_000.0, if slow.ms > SLOW_MS { "too slow" } else { "" });
            writeln!(f, "| {} | {} | {seconds:.2} | {flag} |", slow.source.name(), slow.seed)?;
        }
        Ok(())
    }
}

fn lane(state: &State, source: Source) -> Lane {
    state.lanes.get(&source).cloned().unwrap_or_default()
}

/// A minute.
fn rate(count: u64, ms: u64) -> f64 {
    count as f64 * 60_000.0 / ms.max(1) as f64
}
