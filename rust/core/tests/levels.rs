//! Which levels there are here: detection against what the system says, so that none stays away unseen.

mod common;

use common::{LEVELS, report};
use softmax_core::simd::Level;

/// The levels of this CPU by other means than the library's. An emulator shows the file of the CPU that it runs on: who
/// starts one names the levels in `SOFTMAX_RS_TEST_LEVELS`.
fn levels_by_the_system() -> Option<Vec<String>> {
    if let Ok(names) = std::env::var("SOFTMAX_RS_TEST_LEVELS") {
        return Some(names.split(',').map(str::to_owned).collect());
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text
        .lines()
        .find(|l| l.starts_with("flags") || l.starts_with("Features"))?;
    let flags: Vec<&str> = line.split_whitespace().collect();
    let has = |names: &[&str]| names.iter().all(|name| flags.contains(name));
    let needs: [(&str, &[&str]); 3] = [
        ("avx2", &["avx2", "fma", "f16c"]),
        (
            "avx512",
            &[
                "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "popcnt",
            ],
        ),
        ("neon", &["asimd"]),
    ];
    let found = needs.iter().filter(|(_, names)| has(names)).map(|(level, _)| *level);
    Some(std::iter::once("portable").chain(found).map(str::to_owned).collect())
}

#[test]
fn detection_finds_what_the_system_says() {
    let found: Vec<&str> = Level::all_supported().map(Level::name).collect();
    report(&format!(
        "levels: {} of {}",
        found.join(", "),
        LEVELS.map(Level::name).join(", ")
    ));
    match levels_by_the_system() {
        Some(expected) => assert_eq!(found, expected),
        None => report("NOT RUN: detection against the system, which does not tell what this CPU has"),
    }
    if std::env::var_os("SOFTMAX_RS_SIMD").is_none() {
        assert_eq!(Level::active().map(Level::name), Ok(found[found.len() - 1]));
    }
}
