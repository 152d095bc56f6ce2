//! Commands besides running seeds and plans.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

pub(crate) mod explore;
pub(crate) mod scale;
pub(crate) mod shrink;
pub(crate) mod soak;
pub(crate) mod speed;

/// A flag that Ctrl-C sets; a second one ends the process.
fn stop_flag() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: the first signal finds the flag unset, and sets it.
        let conditional = flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        conditional.and_then(|_| flag::register(signal, Arc::clone(&stop))).map_err(|error| error.to_string())?;
    }
    Ok(stop)
}
