use crate::*;
unsafe fn load(a: &Array, off: isize) -> f64 {
    unsafe {
        let p = a.ptr.offset(off);
        macro_rules! rd { ($t:ty) => {{ let mut v = (p as *const $t).read_unaligned(); if a.swapped { v = <$t>::from_ne_bytes({ let mut b = v.to_ne_bytes(); b.reverse(); b }) } v }} }
        match a.dtype {
            Dtype::Bool => (p.read() != 0) as u8 as f64,
            Dtype::I8 => (p as *const i8).read() as f64,
            Dtype::U8 => p.read() as f64,
            Dtype::I16 => rd!(i16) as f64, Dtype::U16 => rd!(u16) as f64,
            Dtype::I32 => rd!(i32) as f64, Dtype::U32 => rd!(u32) as f64,
            Dtype::I64 => rd!(i64) as f64, Dtype::U64 => rd!(u64) as f64,
            Dtype::F16 => half::f16::from_bits(rd!(u16)).to_f64(),
            Dtype::Bf16 => half::bf16::from_bits(rd!(u16)).to_f64(),
            Dtype::F32 => rd!(f32) as f64, Dtype::F64 => rd!(f64),
        }
    }
}
unsafe fn store(a: &Array, off: isize, v: f64) {
    unsafe {
        let p = a.ptr.offset(off);
        match a.dtype {
            Dtype::F16 => (p as *mut u16).write_unaligned(half::f16::from_f64(v).to_bits()),
            Dtype::Bf16 => (p as *mut u16).write_unaligned(half::bf16::from_f64(v).to_bits()),
            Dtype::F32 => (p as *mut f32).write_unaligned(v as f32),
            _ => (p as *mut f64).write_unaligned(v),
        }
    }
}
fn round(d: Dtype, v: f64) -> f64 {
    match d { Dtype::F16 => half::f16::from_f64(v).to_f64(), Dtype::Bf16 => half::bf16::from_f64(v).to_f64(), Dtype::F32 => v as f32 as f64, _ => v }
}
fn indices(shape: &[usize], pick: &[bool], want: bool) -> Vec<Vec<usize>> {
    let mut all = vec![vec![0; shape.len()]];
    for d in 0..shape.len() {
        if pick[d] == want {
            let mut next = vec![];
            for i in &all { for j in 0..shape[d] { let mut k: Vec<usize> = i.clone(); k[d] = j; next.push(k); } }
            all = next;
        }
    }
    all
}
fn off(s: &[isize], i: &[usize], j: &[usize]) -> isize { (0..s.len()).map(|d| s[d] * (i[d] + j[d]) as isize).sum() }
pub unsafe fn run(p: &Problem) {
    unsafe {
        let rows = indices(p.shape, p.reduced, false);
        let cols = indices(p.shape, p.reduced, true);
        let zero = vec![0; p.shape.len()];
        for r in &rows {
            let on: Vec<bool> = cols.iter().map(|c| p.mask.as_ref().is_none_or(|m| load(m, off(m.strides, r, c)) != 0.0)).collect();
            let x: Vec<f64> = cols.iter().zip(&on).map(|(c, &o)| if o { round(p.out.dtype, load(&p.x, off(p.x.strides, r, c))) } else { f64::NEG_INFINITY }).collect();
            let t = match &p.temperature { Temperature::One(t) => *t, Temperature::Rows(a) => {
                let s: Vec<isize> = (0..p.shape.len()).map(|d| if p.reduced[d] { 0 } else { a.strides[d] }).collect();
                load(a, off(&s, r, &zero)) } };
            let nan = x.iter().any(|v| v.is_nan());
            let m = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let k = x.iter().position(|&v| v == m).unwrap_or(0);
            let s: f64 = x.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, v)| ((v - m) / t).exp()).sum();
            if p.op == Op::LogSumExp {
                let s0: Vec<isize> = (0..p.shape.len()).map(|d| if p.reduced[d] { 0 } else { p.out.strides[d] }).collect();
                let v = if nan { f64::NAN } else if m.is_infinite() { m } else { m / t + s.ln_1p() };
                store(&p.out, off(&s0, r, &zero), v);
            } else {
                for (j, c) in cols.iter().enumerate() {
                    let v = if !on[j] { if p.op == Op::Softmax { 0.0 } else { f64::NEG_INFINITY } }
                        else if nan || m.is_infinite() { f64::NAN }
                        else if p.op == Op::Softmax { ((x[j] - m) / t).exp() / (1.0 + s) }
                        else { (x[j] - m) / t - s.ln_1p() };
                    store(&p.out, off(p.out.strides, r, c), v);
                }
            }
        }
    }
}
