//! One function per public name: read the arguments, call.
//!
//! The text of a docstring that several functions share is in `doc/`.

#![allow(
    clippy::doc_lazy_continuation,
    rustdoc::broken_intra_doc_links,
    reason = "the docstrings are Python's: reStructuredText, not Markdown"
)]

mod derivatives;
mod forward;
mod losses;

pub use derivatives::{
    log_softmax_backward, log_softmax_jacobian, log_softmax_jvp, log_softmax_vjp, logsumexp_jvp, logsumexp_vjp,
    softmax_backward, softmax_jacobian, softmax_jvp, softmax_vjp,
};
pub use forward::{log_softmax, logsumexp, softmax};
pub use losses::{cross_entropy, cross_entropy_hvp, cross_entropy_with_grad};
