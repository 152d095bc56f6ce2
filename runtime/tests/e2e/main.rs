//! The real binary in real processes on real sockets. One binary, so that it is linked once.

mod bench;
<<<<<<< HEAD
mod cli;
=======
mod certs;
>>>>>>> 9386994 (Clients come by TLS on the port of all others, and nodes reach each other by it, each showing a certificate)
mod cluster;
mod demo;
mod durable;
mod harness;
mod hostile;
mod http;
mod log;
mod members;
mod original;
mod prompt;
mod redis_client;
mod scale;
mod startup;
mod stopping;
mod tls;
mod waiting;
mod why;
