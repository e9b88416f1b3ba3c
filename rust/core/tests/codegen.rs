//! What the compiler made of the kernels: disassembles this very executable and looks for vector code that is not inside
//! the functions which are compiled with a level's instructions (`compiled` and `apart` in `simd/level.rs`).
//!
//! The trap is silent: a function, closure or iterator adaptor on the way that is not inlined is compiled for the baseline,
//! and there each intrinsic is a call of its own. Results are right, and ten times slower.
//!
//! Inlining is the optimiser's work, so this means something from `opt-level = 2` on (the test profile has it; so has
//! `--release`). It needs `objdump`, which comes with every C compiler (binutils); without it nothing is checked, loudly.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::process::Command;

use common::layout::{Case, Heat, Layout};
use common::{DTYPES, OPS, encode, report};
use softmax_core::simd::Level;

/// The functions that carry `#[target_feature]`.
const KERNELS: &[&str] = &[ENTERED, APART];
const ENTERED: &str = "dispatch_unchecked::Compiled>::compiled";
const APART: &str = "dispatch_apart::Compiled>::apart";
/// So many of those of each level have a loop of packed multiply-adds: for each type and op rows, panels and saved rows, but where there is
/// nothing to multiply ...
const APART_WITH_LOOPS: usize = 61;
/// ... and, of what is entered, the passes over long rows and the Jacobians; and it may be what is for a single row of one
/// vector, where a compiler does not see that a loop ends.
const ENTERED_WITH_LOOPS: usize = 34;

/// What a hot loop may call: it is never reached, or never returns.
const NEVER_RETURN: &[&str] = &[
    "core::panicking::",
    "core::slice::index::",
    "core::result::unwrap_failed",
    "core::option::",
];
/// What a loop over rows, or over the blocks of one, may call (the compiler may unroll all that is inside of it, and then it looks like a hot one).
const ONCE_A_ROW: &[&str] = &[
    "drive::pack::write_value",
    "drive::plan::at",
    "drive::plan::Plan::kept",
    "drive::long::refined",
    "drive::stage::classify",
    "drive::stage::given",
    "drive::rows::move_row",
    "drive::rows::scale_row",
    "drive::rows::one_nan",
    "drive::rows::fill",
    "drive::long::State::merge",
    "dispatch_apart::Compiled>::apart",
];
/// With debug assertions an unaligned access checks its pointer, and is too large to be inlined; so is `array::map`;
/// and more is copied.
const DEBUG_ONLY: &[&str] = &[
    "loadu",
    "storeu",
    "storel",
    "write_unaligned",
    "core::array::",
    "memcpy",
];

fn is_any(name: &str, of: &[&str]) -> bool {
    of.iter().any(|part| name.contains(part))
}

/// Floors of which nothing should be left outside of the kernels.
const LOW_FLOORS: &[&str] = &[
    "softmax_core::row::",
    "softmax_core::ops::",
    "softmax_core::math::",
    "softmax_core::simd::avx",
    "softmax_core::simd::float::",
    "softmax_core::simd::Vector",
    "softmax_core::element::",
];
/// Functions of the crate's lower floors that may stand on their own, and why.
const OUTLINED: &[(&str, &str)] = &[
    ("softmax_core::ops::Op", "the name of what was asked for"),
    ("softmax_core::ops::Kernel", "the name of what computes it"),
    ("core::ptr::drop_in_place", "frees the list of axes"),
    ("math::exp::Base<T>::new", "scalar, once for a temperature"),
    ("Float>::scaled_difference", "scalar, for rare rows"),
    ("ops::log_softmax::LogSoftmax", "drop glue and Debug of the op's type"),
    ("ops::softmax::Softmax", "drop glue and Debug of the op's type"),
    ("ops::logsumexp::LogSumExp", "drop glue and Debug of the op's type"),
];

/// A line of the disassembly.
struct Instruction {
    address: u64,
    text: String,
}

struct Function {
    name: String,
    code: Vec<Instruction>,
}

/// The executable, taken apart.
struct Program {
    functions: Vec<Function>,
    /// Names by address, and where slots of the global offset table lead: calls between crates go through them.
    names: HashMap<u64, String>,
    slots: HashMap<u64, String>,
}

fn objdump(arguments: &[&str]) -> Option<String> {
    let executable = std::env::current_exe().ok()?;
    let output = Command::new("objdump").args(arguments).arg(executable).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Generic arguments and hashes say nothing here: `a::b<C>::d::h0123456789abcdef` becomes `a::b<C>::d`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

impl Program {
    fn load() -> Option<Self> {
        let text = objdump(&["-d", "-C", "--no-show-raw-insn", "-j", ".text"])?;
        let mut functions: Vec<Function> = Vec::new();
        let mut names = HashMap::new();
        for line in text.lines() {
            if let Some((address, rest)) = line.split_once(" <")
                && let Some(name) = rest.strip_suffix(">:")
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                let name = without_hash(name).to_owned();
                names.insert(address, name.clone());
                functions.push(Function { name, code: Vec::new() });
            } else if let Some((address, text)) = line.split_once(":\t")
                && let Ok(address) = u64::from_str_radix(address.trim(), 16)
                && let Some(function) = functions.last_mut()
            {
                function.code.push(Instruction {
                    address,
                    text: text.trim().to_owned(),
                });
            }
        }
        let mut slots = HashMap::new();
        for line in objdump(&["-R", "-C"])?.lines() {
            // 000000000039eff8 R_X86_64_RELATIVE  *ABS*+0x000000000030bfe0, or a name of another library.
            let mut fields = line.split_whitespace();
            if let (Some(slot), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next())
                && let Ok(slot) = u64::from_str_radix(slot, 16)
            {
                let target = value
                    .strip_prefix("*ABS*+0x")
                    .and_then(|v| u64::from_str_radix(v, 16).ok());
                let name = match target {
                    Some(target) => names.get(&target).cloned(),
                    None => Some(value.to_owned()),
                };
                if let Some(name) = name {
                    slots.insert(slot, name);
                }
            }
        }
        Some(Self {
            functions,
            names,
            slots,
        })
    }

    /// Whom the `i`-th instruction of a function calls.
    fn callee(&self, function: &Function, i: usize) -> Option<String> {
        let operand = function.code[i].text.strip_prefix("call")?.trim();
        // `call 22a160 <name>`, `call *0x91866(%rip)  # 39eff8 <_DYNAMIC+0x490>`, `call *%rbx`.
        let address = |text: &str| u64::from_str_radix(text.split_whitespace().next()?, 16).ok();
        let slot = |text: &str| {
            let (_, slot) = text.split_once("# ")?;
            self.slots.get(&address(slot)?)
        };
        let name = match operand.strip_prefix('*') {
            None => address(operand).and_then(|target| self.names.get(&target)),
            Some(register) if register.starts_with('%') => {
                // Loaded from a slot before: `mov 0x91866(%rip),%rbx  # 39eff8 <_DYNAMIC+0x490>`.
                let loads = format!(",{register} ");
                let mut before = function.code[..i].iter().rev();
                before
                    .find(|code| code.text.starts_with("mov") && code.text.contains(&loads))
                    .and_then(|code| slot(&code.text))
            }
            Some(_) => slot(operand),
        };
        Some(name.cloned().unwrap_or_else(|| operand.to_owned()))
    }
}

impl Function {
    /// Indices of the instructions that backward jumps span, first and last. (A loop of whatever kind has one.)
    fn loops(&self) -> Vec<(usize, usize)> {
        let place: HashMap<u64, usize> = self
            .code
            .iter()
            .enumerate()
            .map(|(i, code)| (code.address, i))
            .collect();
        let mut found = Vec::new();
        for (i, code) in self.code.iter().enumerate() {
            let mut words = code.text.split_whitespace();
            if let (Some(mnemonic), Some(target)) = (words.next(), words.next())
                && mnemonic.starts_with('j')
                && let Some(&start) = u64::from_str_radix(target, 16)
                    .ok()
                    .and_then(|target| place.get(&target))
                && start <= i
            {
                found.push((start, i));
            }
        }
        found
    }

    /// The loops that have packed multiply-adds and no loop within: those where the time goes. (Loops around them, over
    /// rows and batches, may call what they like.)
    fn hot_loops(&self) -> Vec<(usize, usize)> {
        let all = self.loops();
        let holds =
            |outer: &(usize, usize), inner: &(usize, usize)| outer != inner && outer.0 <= inner.0 && inner.1 <= outer.1;
        all.iter()
            .filter(|outer| !all.iter().any(|inner| holds(outer, inner)))
            .filter(|&&(start, end)| self.code[start..=end].iter().any(|code| is_packed_fma(&code.text)))
            .copied()
            .collect()
    }

    fn uses(&self, register: &str) -> bool {
        self.code.iter().any(|code| code.text.contains(register))
    }
}

/// vfmadd213ps %zmm..., vfnmadd231pd %ymm...
fn is_packed_fma(text: &str) -> bool {
    let mnemonic = text.split_whitespace().next().unwrap_or("");
    (mnemonic.starts_with("vfmadd") || mnemonic.starts_with("vfnmadd"))
        && (mnemonic.ends_with("ps") || mnemonic.ends_with("pd"))
        && (text.contains("%ymm") || text.contains("%zmm"))
}

/// Calls every op in every dtype, so that the linker keeps all kernels.
fn link_everything() {
    for level in Level::all_supported() {
        for dtype in DTYPES {
            for op in OPS {
                let x: Vec<u64> = (0..100).map(|j| encode(dtype, f64::from(j))).collect();
                let case = Case {
                    level,
                    op,
                    dtype,
                    rows: 1,
                    n: 100,
                    x: &x,
                    mask: None,
                    temperature: Heat::One(1.0),
                };
                Layout::packed(1, 100, dtype.size()).run(&case);
            }
        }
    }
}

fn list(names: &BTreeMap<String, usize>) -> String {
    let mut text = String::new();
    for (name, count) in names {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {count:4} x {name}");
    }
    text
}

#[test]
fn kernels_are_compiled_for_their_level_in_one_piece() {
    if !cfg!(target_arch = "x86_64") {
        report("NOT RUN: the check of the machine code, which knows x86-64 only");
        return;
    }
    link_everything();
    let Some(program) = Program::load() else {
        report("NOT RUN: the check of the machine code. There is no objdump here (install binutils)");
        return;
    };
    let kernels: Vec<&Function> = program
        .functions
        .iter()
        .filter(|f| is_any(&f.name, KERNELS) && f.name.contains("softmax_core") && (f.uses("%ymm") || f.uses("%zmm")))
        .collect();
    // All kernels of the AVX-512 level use its registers, none of the AVX2 level does.
    let levels = [("avx2", false), ("avx512", true)];
    let mut text = String::new();
    let mut problems = Vec::new();
    let mut in_loops = BTreeMap::new();
    let mut elsewhere = BTreeMap::new();
    for (level, wide) in levels {
        let own: Vec<&&Function> = kernels.iter().filter(|f| f.uses("%zmm") == wide).collect();
        let (mut loops, mut entered, mut apart) = (0, 0, 0);
        for function in &own {
            let hot = function.hot_loops();
            let count = if function.name.contains(APART) {
                &mut apart
            } else {
                &mut entered
            };
            *count += usize::from(!hot.is_empty());
            loops += hot.len();
            for i in 0..function.code.len() {
                let Some(callee) = program.callee(function, i) else {
                    continue;
                };
                let is_hot = hot.iter().any(|&(start, end)| (start..=end).contains(&i));
                let into = if is_hot { &mut in_loops } else { &mut elsewhere };
                *into.entry(callee).or_insert(0) += 1;
            }
        }
        let _ = writeln!(
            text,
            "{level}: {} kernels; {loops} loops with packed multiply-adds, in {apart} apart and in {entered} that are entered",
            own.len()
        );
        // Nothing found is nothing checked.
        if apart != APART_WITH_LOOPS || entered < ENTERED_WITH_LOOPS {
            problems.push(format!(
                "{level}: kernels with a loop of packed multiply-adds: {apart} functions named {APART} and not {APART_WITH_LOOPS}, or \
                 {entered} named {ENTERED} and less than {ENTERED_WITH_LOOPS}. Symbols are needed, and an opt-level of 2 or more"
            ));
        }
    }

    let debug = |name: &str| cfg!(debug_assertions) && is_any(name, DEBUG_ONLY);
    in_loops.retain(|name, _| !is_any(name, NEVER_RETURN) && !is_any(name, ONCE_A_ROW) && !debug(name));
    if !in_loops.is_empty() {
        problems.push(format!("calls inside of hot loops:\n{}", list(&in_loops)));
    }

    // An intrinsic with a body of its own was called from code that is not compiled for its level.
    let mut callers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for function in &program.functions {
        for i in 0..function.code.len() {
            if let Some(callee) = program.callee(function, i)
                && callee.contains("core_arch::x86")
                && !callee.contains("xgetbv") // the detection itself
                && !debug(&callee)
                && !debug(&function.name)
                && !function.name.contains("core_arch::x86")
            {
                callers.entry(function.name.clone()).or_default().insert(callee);
            }
        }
    }
    for (caller, callees) in &callers {
        let callees: Vec<&str> = callees.iter().filter_map(|name| name.rsplit("::").next()).collect();
        problems.push(format!(
            "{caller} is not compiled for a level, and calls {}",
            callees.join(", ")
        ));
    }

    // Vectors, the passes over rows, the ops and the elementary functions belong inside the kernels.
    let mut outlined = BTreeMap::new();
    for function in &program.functions {
        let name = &function.name;
        let low = is_any(name, LOW_FLOORS);
        let allowed = OUTLINED.iter().any(|(allowed, _)| name.contains(allowed));
        if low && !allowed {
            *outlined.entry(name.clone()).or_insert(0) += 1;
        }
    }
    if !outlined.is_empty() {
        problems.push(format!(
            "functions that should have been inlined into the kernels:\n{}",
            list(&outlined)
        ));
    }

    elsewhere.retain(|name, _| !is_any(name, NEVER_RETURN));
    let _ = write!(text, "calls outside of hot loops:\n{}", list(&elsewhere));
    report(&text);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
