//! The pure state machine of a Simple-KV node: bytes and events in, bytes and actions out.

mod adding;
mod boundary;
mod command;
mod config;
mod conflicts;
mod counter;
mod execute;
mod help;
mod json;
mod node;
mod origins;
mod rand;
mod record;
mod repl;
mod replica;
mod session;
mod stats;
mod store;
mod tail;
mod time;
mod turn;
mod version;
mod waiters;
mod why;
mod wire;

pub use boundary::{Action, AddrId, Close, ConnId, Effects, Event};
pub use config::{Config, Limits, Timers};
pub use conflicts::Conflict;
pub use counter::{Base, BaseValue, Count, Counter, Part};
pub use node::{Gauges, Node};
pub use record::{FrameError, Framed, Record, decode, encode, next_frame};
pub use store::SLOTS;
pub use time::{Mono, Now, WallMs};
pub use turn::{LINK_WINDOW_BYTES, Turn};
pub use version::{Hlc, OriginId, Version};
