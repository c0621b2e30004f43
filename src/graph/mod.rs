//! What is computed, without a word of how: a model writes a [`Graph`] in the terms of its paper, `fuse.rs` makes a
//! [`Program`] of ops of it, and a [`Backend`] compiles these into plans.
//!
//! | file | job |
//! |---|---|
//! | `graph.rs` | nodes and their shapes |
//! | `fuse.rs` | nodes → ops: what follows a product is done with it |
//! | `op.rs` | ops, the vocabulary that both backends carry out |
//! | `memory.rs` | what a model remembers of earlier tokens |
//! | `backend.rs` | what a backend does |
//! | `needs.rs` | what a program takes of its memory |
//! | `image.rs` | the same for image networks, whose op set is another |

mod backend;
mod fuse;
#[allow(clippy::module_inception)] // the type's name
mod graph;
mod image;
mod memory;
mod needs;
mod op;

pub use backend::{Backend, Batch, MAX_VERIFY_ROWS, Segment, Step, Traffic};
pub use fuse::{Program, TensorShape};
pub use graph::{Graph, LayerNorm, M, V, W, X};
pub use image::{Activation, Conv, ConvShape, GroupNorm, ImageBackend, ImageShape, Precision, Rect, Window};
pub(crate) use image::{
    check_attention, check_conv, check_copy, check_norm, check_pixels, check_rect, check_weights, not_finite,
};
pub use memory::{HeadShape, KvType};
pub use needs::{Fit, MatrixNeed, Needs};
pub use op::{
    Act, Bind, Each, HeadNorm, Heads, Ids, Norm, NormKind, Of, Op, Operands, Rope, RopePairs, Rows, Then,
};
