//! What the fuzz targets check, one `check` a target: any input in, a panic out if a promise is broken.

pub mod driver;
pub mod files;
pub mod http;
pub mod line;
pub mod peer;
pub mod record;
pub mod resp;
pub mod session;
pub mod sniff;
pub mod users;
