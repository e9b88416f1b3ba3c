//! Elementary functions on vectors, each with a contract: domain, largest error, special values.

pub(crate) mod exp;
pub(crate) mod log;
pub(crate) mod tanh;
