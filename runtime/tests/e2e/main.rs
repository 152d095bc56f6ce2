//! The real binary in real processes on real sockets. One binary, so that it is linked once.

mod bench;
mod cluster;
mod durable;
mod harness;
mod hostile;
mod http;
mod log;
mod members;
mod original;
mod redis_client;
mod scale;
mod secrets;
mod startup;
mod stopping;
mod waiting;
mod why;
