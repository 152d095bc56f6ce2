//! Commands besides running seeds and plans.

pub(crate) mod explore;
pub(crate) mod scale;
pub(crate) mod speed;
