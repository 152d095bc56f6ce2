//! The story of a run, for a person: as lines of text while it happens, or as one page to look at afterwards.
//!
//! The [trace](crate::trace) hands in [events](event) and, from the world engine, what travels; a [`Story`] tells them
//! as lines or keeps them. [`page`](page::page) makes of what was kept one HTML file that needs nothing else: nodes as
//! lanes, messages, faults, what each node holds of a key, and the moment an oracle broke.

pub mod event;
mod frames;
pub mod page;
pub mod story;

pub use event::{Event, What};
pub use page::{Options, page};
pub use story::{Kept, Story, key_names};
