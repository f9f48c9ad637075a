//! The checks of recorded frames, by what the frames are about. The test binary `golden` owns them and says which check
//! reads which file.

#[macro_use]
pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod operators;
pub(crate) mod pull;
pub(crate) mod routes;
pub(crate) mod send;
