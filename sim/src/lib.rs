//! Deterministic simulation of a Simple-KV cluster: a plan in, a verdict and a trace hash out.
//!
//! A seed draws a [`Plan`] ([`swarm`]); the [`world`] engine runs it over real nodes with a network, clocks and
//! processes of its own, the [`turmoil`](mod@turmoil) engine over the network of another; the [`Judge`](judge::Judge)
//! watches every step and holds the result against what a store that converges may do. Same plan, same code: the same
//! [`Outcome`], trace hash included, in any process and profile.

pub mod disk;
mod durable;
pub mod engine;
pub mod explore;
pub mod host;
pub mod intruder;
pub mod judge;
pub mod marks;
pub mod outcome;
pub mod plan;
mod plan_text;
pub mod quiet;
pub mod rng;
pub mod shrink;
pub mod soak;
mod stories;
pub mod swarm;
pub mod timeline;
pub mod trace;
pub mod trial;
pub mod turmoil;
mod weather;
pub mod workload;
pub mod world;

pub use engine::Engine;
pub use marks::{Mark, Marks, Tally};
pub use outcome::{Failure, Oracle, Outcome, Stats};
pub use plan::{Ask, Fault, Item, Plan, Setting};
pub use plan_text::PlanError;
pub use trace::Watch;
