//! Whole nodes, alone and in a cluster in one memory.
#![expect(unsafe_code, reason = "a global allocator that counts")]

mod alloc;
mod catch_up;
mod clocks;
mod collections;
mod conflicts;
mod flush;
mod folding;
mod harness;
mod leaving;
mod memory;
mod messages;
mod readiness;
mod relay;
mod retire;
mod scrub;
mod secrets;
mod strangers;
mod versions;
mod waiting;
mod watch;
mod why;
