//! Variants of the projections' kernels, and which one a matrix takes. What is fastest depends on the adapter and the
//! matrix; all compute the same.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::gpu::Features;

/// What activations are when they meet quantized weights. Where weights are floats, or x is too long for workgroup
/// memory, it makes no difference in `matvec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// f32.
    F32,
    /// f16, sums of a few products too; needs the feature.
    F16,
    /// Whole numbers of 16 bits; products are `dot4I8Packed`.
    Int16,
}

/// How `matvec` divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatvecKernel {
    /// Threads that share a row pair: 1, 2, 4, 8, 16 or 32. Many keep a wide GPU busy with few rows (they split the
    /// sum along K); few do without meeting.
    pub lanes: u32,
    /// Row pairs of a thread: 1 or 2. Two read x half as often.
    pub pairs: u32,
    /// The lanes meet by shuffles; needs subgroups of at least `lanes` threads.
    pub subgroups: bool,
    /// What x is when it meets the weights.
    pub activations: Activations,
}

impl MatvecKernel {
    /// What there is to choose from. The first is the default. The last is for software adapters and, as the plainest,
    /// for those where nothing else is right; no race needs it.
    pub const ALL: [MatvecKernel; 11] = [
        MatvecKernel::new(8, 1),
        MatvecKernel::new(8, 1).subgroups(),
        MatvecKernel::new(4, 1),
        MatvecKernel::new(16, 1),
        MatvecKernel::new(8, 1).half(),
        MatvecKernel::new(8, 1).dot4(),
        MatvecKernel::new(32, 1),
        MatvecKernel::new(4, 1).subgroups(),
        MatvecKernel::new(4, 1).subgroups().half(),
        MatvecKernel::new(4, 1).subgroups().dot4(),
        MatvecKernel::new(1, 2),
    ];

    const fn new(lanes: u32, pairs: u32) -> Self {
        MatvecKernel { lanes, pairs, subgroups: false, activations: Activations::F32 }
    }

    const fn subgroups(self) -> Self {
        MatvecKernel { subgroups: true, ..self }
    }

    const fn half(self) -> Self {
        MatvecKernel { activations: Activations::F16, ..self }
    }

    const fn dot4(self) -> Self {
        MatvecKernel { activations: Activations::Int16, ..self }
    }

    /// Whether it won on a GPU, so that a race tries it.
    #[must_use]
    pub fn is_raced(self) -> bool {
        self.lanes > 1
    }

    /// Whether a device can do it.
    #[must_use]
    pub fn possible(self, device: Features) -> bool {
        (!self.subgroups || self.lanes <= device.subgroup_size)
            && (self.activations != Activations::F16 || device.half)
    }

    /// No more lanes than there are blocks to take.
    pub(super) fn within(self, blocks: u32) -> Self {
        let most = 1 << blocks.max(1).ilog2();
        MatvecKernel { lanes: self.lanes.min(most), ..self }
    }
}

/// `lanes8+pairs1+subgroups+dot4`, or `+f16`.
impl fmt::Display for MatvecKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lanes{}+pairs{}", self.lanes, self.pairs)?;
        f.write_str(if self.subgroups { "+subgroups" } else { "" })?;
        f.write_str(match self.activations {
            Activations::F32 => "",
            Activations::F16 => "+f16",
            Activations::Int16 => "+dot4",
        })
    }
}

/// How `matmul` holds its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatmulKernel {
    /// Weights and activations in workgroup memory (`matmul.wgsl`).
    Memory,
    /// A thread's weights in registers, activations read by all threads at once (`matmul_rows.wgsl`).
    Rows,
    /// The same, and four threads load activations for each other; needs subgroups.
    Quads,
    /// Both in workgroup memory in f16, sums of 32 products too (`matmul_half.wgsl`); needs the feature.
    Half,
}

impl MatmulKernel {
    /// What there is to choose from. The first is the default; the last is for software adapters.
    pub const ALL: [MatmulKernel; 4] =
        [MatmulKernel::Memory, MatmulKernel::Rows, MatmulKernel::Half, MatmulKernel::Quads];

    /// File name of the kernel.
    pub(super) fn shader(self) -> &'static str {
        match self {
            MatmulKernel::Memory => "matmul",
            MatmulKernel::Rows | MatmulKernel::Quads => "matmul_rows",
            MatmulKernel::Half => "matmul_half",
        }
    }

    /// What the kernel is expanded with.
    pub(super) fn define(self) -> Option<&'static str> {
        match self {
            MatmulKernel::Memory | MatmulKernel::Rows => None,
            MatmulKernel::Quads => Some("QUADS"),
            MatmulKernel::Half => Some("F16"),
        }
    }

    /// Row pairs and tokens of a workgroup.
    pub(super) fn shape(self) -> (u32, u32) {
        match self {
            MatmulKernel::Memory | MatmulKernel::Half => (32, 32),
            MatmulKernel::Rows | MatmulKernel::Quads => (128, 16),
        }
    }

    /// Whether it won on a GPU, so that a race tries it.
    #[must_use]
    pub fn is_raced(self) -> bool {
        self != MatmulKernel::Quads
    }

    /// Whether a device can do it.
    #[must_use]
    pub fn possible(self, device: Features) -> bool {
        match self {
            MatmulKernel::Memory | MatmulKernel::Rows => true,
            MatmulKernel::Quads => device.subgroup_size >= 4,
            MatmulKernel::Half => device.half,
        }
    }
}

impl fmt::Display for MatmulKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatmulKernel::Memory => "memory",
            MatmulKernel::Rows => "rows",
            MatmulKernel::Quads => "quads",
            MatmulKernel::Half => "f16",
        })
    }
}

/// The kernels of one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPair {
    /// For one token, and for a few.
    pub decode: MatvecKernel,
    /// For many.
    pub prefill: MatmulKernel,
}

impl KernelPair {
    /// What every adapter can do well.
    pub const DEFAULT: KernelPair =
        KernelPair { decode: MatvecKernel::ALL[0], prefill: MatmulKernel::Memory };
    /// The plainest.
    pub const PLAIN: KernelPair = KernelPair { decode: MatvecKernel::new(1, 2), prefill: MatmulKernel::Rows };

    /// For adapters that compute on the CPU: one lane, few loads.
    #[must_use]
    pub fn software(device: Features) -> Self {
        let quads = KernelPair { prefill: MatmulKernel::Quads, ..KernelPair::PLAIN };
        if quads.possible(device) { quads } else { KernelPair::PLAIN }
    }

    /// Whether a device can do it.
    #[must_use]
    pub fn possible(self, device: Features) -> bool {
        self.decode.possible(device) && self.prefill.possible(device)
    }
}

/// `lanes8+pairs1/memory`.
impl fmt::Display for KernelPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.decode, self.prefill)
    }
}

impl FromStr for KernelPair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let decode = MatvecKernel::ALL.into_iter().find(|t| text.strip_prefix(&format!("{t}/")).is_some());
        let prefill = MatmulKernel::ALL.into_iter().find(|tile| text.ends_with(&format!("/{tile}")));
        match (decode, prefill) {
            (Some(decode), Some(prefill)) if KernelPair { decode, prefill }.to_string() == text => {
                Ok(KernelPair { decode, prefill })
            }
            _ => Err(unknown(text)),
        }
    }
}

/// Which kernels a model's matrices take. Its text form is for people, for pinning and for remembering:
/// `lanes8+pairs1/memory 576x3072:lanes4+pairs2/rows`, the first for all matrices that are not named by columns and
/// rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelMap {
    usual: KernelPair,
    chosen: Vec<((u64, u64), KernelPair)>,
}

/// Matrices that a text may name; a model has five or six shapes.
const MOST_SHAPES: usize = 64;

impl KernelMap {
    /// The same for every matrix.
    #[must_use]
    pub fn all(variant: KernelPair) -> Self {
        KernelMap { usual: variant, chosen: Vec::new() }
    }

    /// Another variant for matrices of this shape.
    pub fn set(&mut self, cols: u64, rows: u64, variant: KernelPair) {
        self.chosen.retain(|(shape, _)| *shape != (cols, rows));
        self.chosen.push(((cols, rows), variant));
    }

    /// Those of a matrix.
    #[must_use]
    pub fn of(&self, cols: u64, rows: u64) -> KernelPair {
        self.chosen
            .iter()
            .find(|(shape, _)| *shape == (cols, rows))
            .map_or(self.usual, |(_, variant)| *variant)
    }

    /// Whether one of them needs subgroups.
    #[must_use]
    pub fn use_subgroups(&self) -> bool {
        !self.possible(Features { subgroup_size: 1, half: true })
    }

    /// Whether one of them computes in f16.
    #[must_use]
    pub fn use_half(&self) -> bool {
        !self.possible(Features { subgroup_size: u32::MAX, half: false })
    }

    /// Whether a device can do all of them.
    #[must_use]
    pub fn possible(&self, device: Features) -> bool {
        let all = self.chosen.iter().map(|(_, variant)| variant);
        all.chain([&self.usual]).all(|variant| variant.possible(device))
    }
}

impl Default for KernelMap {
    fn default() -> Self {
        KernelMap::all(KernelPair::DEFAULT)
    }
}

impl fmt::Display for KernelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.usual)?;
        self.chosen.iter().try_for_each(|((cols, rows), variant)| write!(f, " {cols}x{rows}:{variant}"))
    }
}

impl FromStr for KernelMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let mut kernels = KernelMap::all(words.next().unwrap_or_default().parse()?);
        for word in words.by_ref().take(MOST_SHAPES) {
            let (shape, variant) = word.split_once(':').ok_or_else(|| unknown(word))?;
            let (cols, rows) = shape.split_once('x').ok_or_else(|| unknown(word))?;
            let number = |digits: &str| digits.parse::<u32>().map(u64::from).map_err(|_| unknown(word));
            kernels.set(number(cols)?, number(rows)?, variant.parse()?);
        }
        if words.next().is_some() { Err(unknown("more than 64 shapes")) } else { Ok(kernels) }
    }
}

fn unknown(text: &str) -> Error {
    // A stranger's text may be long.
    let value = text.chars().take(80).collect();
    Error::InvalidOption { option: "kernels", value, range: "what info.device.kernels says".into() }
}

#[cfg(test)]
mod tests {
    use super::{Activations, KernelMap, KernelPair, MatmulKernel, MatvecKernel};
    use crate::gpu::Features;

    #[test]
    fn every_variant_survives_its_text() {
        for decode in MatvecKernel::ALL {
            for prefill in MatmulKernel::ALL {
                let variant = KernelPair { decode, prefill };
                assert_eq!(variant.to_string().parse::<KernelPair>().ok(), Some(variant));
            }
        }
        let mut kernels = KernelMap::all(KernelPair::PLAIN);
        kernels.set(576, 3072, KernelPair::DEFAULT);
        assert_eq!(kernels.to_string(), "lanes1+pairs2/rows 576x3072:lanes8+pairs1/memory");
        assert_eq!(kernels.to_string().parse::<KernelMap>().ok(), Some(kernels.clone()));
        assert_eq!(kernels.of(576, 3072), KernelPair::DEFAULT);
        assert_eq!(kernels.of(3072, 576), KernelPair::PLAIN);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "lanes8+pairs1",
            "lanes8+pairs1/",
            "lanes7+pairs1/memory",
            "lanes8+pairs1+dot4+dot4/memory",
            "lanes8+pairs1/memory ",
            "lanes8+pairs1/memory 576:lanes8+pairs1/memory",
            "lanes8+pairs1/memory -1x2:lanes8+pairs1/memory",
            "lanes8+pairs1/memory 99999999999x2:lanes8+pairs1/memory",
            &format!("lanes8+pairs1/memory{}", " 1x1:lanes8+pairs1/memory".repeat(65)),
        ] {
            assert!(text.parse::<KernelMap>().is_err(), "{text}");
        }
    }

    #[test]
    fn subgroups_must_be_wide_enough() {
        let device = |subgroup_size| Features { subgroup_size, half: false };
        let wide = MatvecKernel { lanes: 8, pairs: 1, subgroups: true, activations: Activations::F32 };
        assert!(wide.possible(device(8)) && !wide.possible(device(4)) && !wide.possible(Features::NONE));
        let mut kernels = KernelMap::default();
        kernels.set(32, 32, KernelPair { decode: wide, prefill: MatmulKernel::Rows });
        assert!(kernels.possible(device(32)) && !kernels.possible(device(4)) && kernels.use_subgroups());
        assert!(!kernels.use_half() && !KernelMap::default().use_subgroups());
    }

    #[test]
    fn f16_is_for_devices_that_have_it() {
        let half = Features { subgroup_size: 1, half: true };
        for text in ["lanes8+pairs1+f16/memory", "lanes8+pairs1/f16"] {
            let kernels: KernelMap = text.parse().unwrap();
            assert!(kernels.possible(half) && !kernels.possible(Features::NONE));
            assert!(kernels.use_half() && !kernels.use_subgroups());
        }
    }
}
