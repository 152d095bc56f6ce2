//! The real binary in real processes on real sockets. One binary, so that it is linked once.

mod access;
mod bench;
mod certs;
mod cli;
mod cluster;
mod configuration;
mod demo;
mod drain;
mod durable;
mod harness;
mod hostile;
mod http;
mod log;
mod manager;
mod members;
mod original;
mod prompt;
mod redis_client;
mod rolling;
mod scale;
mod secrets;
mod startup;
mod stopping;
mod tls;
mod waiting;
mod why;
