//! The pure state machine of a Simple-KV node: bytes and events in, bytes and actions out.

mod adding;
mod boundary;
mod collected;
mod command;
mod commands;
mod config;
mod conflicts;
mod connections;
mod counter;
mod decimal;
mod disk;
mod execute;
mod feed;
mod gauges;
mod http;
mod json;
mod mending;
mod name;
mod node;
mod origins;
mod pause;
mod pubsub;
mod rand;
mod record;
mod repl;
mod replica;
mod retired;
mod retiring;
mod server;
mod session;
mod stats;
mod store;
mod tail;
mod time;
mod turn;
mod version;
mod waiters;
mod watchers;
mod why;
mod wire;

pub use boundary::{Action, AddrId, Close, ConnId, Effects, Event};
pub use config::{Config, DiskConfig, Limits, Timers};
pub use conflicts::Conflict;
pub use counter::{Base, BaseValue, Count, Counter, Fold, Part};
pub use disk::{
    Backup, DiskError, DiskOp, DiskWork, FileId, FileKind, Fsync, Item, Lane, LoadFailure, ReadAt, Says, Scanner,
};
pub use gauges::Gauges;
pub use node::Node;
pub use record::{FrameError, Framed, Record, decode, encode, next_frame};
pub use repl::{Activity, Scrubbed, Sweeps};
pub use store::SLOTS;
pub use time::{Mono, Now, WallMs};
pub use turn::{LINK_WINDOW_BYTES, Turn};
pub use version::{Hlc, OriginId, Version};
pub use wire::told::tell_frame;
