//! What the fuzz targets check, one `check` a target: any input in, a panic out if a promise is broken.

pub mod driver;
pub mod files;
pub mod line;
pub mod peer;
pub mod record;
pub mod session;
