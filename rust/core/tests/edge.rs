//! The parts of the binding that have no Python in them, with the tests that stand beside them: shapes and broadcasting,
//! and whether arrays overlap. (Tests of the binding itself would have to be linked with Python's library, which not every
//! Python comes with.)

#[path = "../../python/src/grid.rs"]
#[expect(dead_code, reason = "the binding uses more of it than its tests do")]
mod grid;
#[path = "../../python/src/overlap.rs"]
mod overlap;
