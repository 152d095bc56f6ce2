//! The client that every tool of the command line shares: one connection, asked and answered in turn, that waits no
//! longer than it is told to and believes no more of a server than is good for it.
//!
//! `resp` knows the protocol, `stream` has the socket, `connection` asks on it, `login` says who one is, `http` asks
//! the few things that are asked by HTTP, and `shown` makes what a server says fit for a terminal.

mod connection;
mod http;
mod login;
mod resp;
mod shown;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Connection, Lost};
pub(crate) use http::get;
pub(crate) use login::{Greeting, Login, LoginOptions};
pub(crate) use resp::{Head, Value, head, is_crowded};
pub(crate) use shown::{json_line, plain, quoted};
