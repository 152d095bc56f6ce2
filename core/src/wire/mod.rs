//! What travels: the dialects of clients and the frames of peers. A file for each format, `parse` beside `emit`.

pub(crate) mod line;
pub(crate) mod lists;
pub(crate) mod num;
pub(crate) mod peer;
pub(crate) mod retired;
pub(crate) mod scrub;
pub(crate) mod telnet;
pub(crate) mod token;
pub(crate) mod told;
pub(crate) mod words;
