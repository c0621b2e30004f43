//! Every shader variant that the op set can ask for: expanded, validated by naga, and written to
//! `target/shaders` for other compilers (`cargo xtask test` gives them to tint).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use emberglass::gpu::{Access, bindings};
use emberglass::gpu::{GpuBackend, GpuImages, KernelMap, KernelPair, MatmulKernel, MatvecKernel};
use emberglass::graph::{
    Act, Activation, Backend, Batch, Conv, ConvShape, Each, GroupNorm, HeadNorm, HeadShape, ImageBackend,
    ImageShape, KvType, Norm, NormKind, Op, Precision, Rect, Rope, RopePairs, Rows, Segment, Then,
};
use emberglass::{DType, Gpu, GpuOptions};
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn shape(heads: u32, kv_heads: u32, head_dim: u32) -> HeadShape {
    let (scale, cap, window, max_batch, capacity, kv) = (0.1, 0.0, 0, 8, 8, KvType::F32);
    HeadShape { heads, kv_heads, head_dim, scale, cap, window, max_batch, capacity, kv }
}

/// Floats, nibbles, bytes, and two scales a block.
const FORMATS: [DType; 4] = [DType::F16, DType::Q4_1, DType::Q8_0, DType::Q6_K];

/// Compiles every op for every format, batch and kind of attention.
fn record_everything(gpu: &std::rc::Rc<Gpu>) -> Vec<GpuBackend> {
    let mut backends = Vec::new();
    // The last is too wide for merging partial sums, so it takes the path without splits.
    let shapes = [shape(9, 3, 64), shape(2, 2, 32), shape(7, 1, 128), shape(32, 16, 128)];
    let usual = shapes.map(|shape| (shape, KernelPair::DEFAULT, &FORMATS[..]));
    // Whole blocks of every format.
    let wide = shape(4, 2, 64);
    let every = [(wide, KernelPair::DEFAULT, &DType::ALL[..])];
    // Other kernels: floats, nibbles, bytes, and scales for halves of a block are all their conditions tell apart.
    let decode = MatvecKernel::ALL
        .map(|decode| (wide, KernelPair { decode, prefill: MatmulKernel::Rows }, &FORMATS[..]));
    let prefill =
        MatmulKernel::ALL.map(|prefill| (wide, KernelPair { prefill, ..KernelPair::DEFAULT }, &FORMATS[..]));
    let whole_blocks =
        |shape: HeadShape, dtype: DType| shape.heads().rows()[0].is_multiple_of(dtype.block_len() as u32);
    // Heads and rows that are no whole blocks of 32, which only floats have.
    let broken = [(shape(5, 1, 40), KernelPair::DEFAULT, &[DType::F16][..])];
    let all = usual.into_iter().chain(broken).chain(every).chain(decode).chain(prefill);
    for (shape, variant, formats) in all {
        // Natively llvmpipe has subgroups of eight, and f16.
        assert!(variant.possible(gpu.features()), "{variant}: not on this adapter");
        let heads = shape.heads();
        let [width, kv] = heads.rows();
        let mut backend = GpuBackend::new(gpu.clone(), 8, 8).unwrap();
        backend.set_kernels(KernelMap::all(variant));
        for &dtype in formats.iter().filter(|dtype| whole_blocks(shape, **dtype)) {
            let mut weight = |rows: u32| {
                let segment = Segment { dtype, rows: u64::from(rows) };
                backend.weight("w", u64::from(width), &[segment]).unwrap()
            };
            let (square, qkv_weight, gate_up) = (weight(width), weight(width + 2 * kv), weight(2 * width));
            // Gate and up of different types are stored and multiplied by kernels of their own.
            let other = if dtype == DType::F16 { DType::F32 } else { DType::F16 };
            let segments = [dtype, other].map(|dtype| Segment { dtype, rows: width.into() });
            let mixed = backend.weight("w", width.into(), &segments).unwrap();
            let x = backend.tensor("x", 2, width).unwrap();
            let y = backend.tensor("y", 2, width).unwrap();
            let half = backend.tensor("half", 2, width / 2).unwrap();
            let gain = backend.vector("gain", width).unwrap();
            let bias = backend.vector("bias", 2 * width + 2 * kv).unwrap();
            let table = backend.vector("rope", shape.capacity * heads.dim).unwrap();
            let qkv = backend.tensor("qkv", 2, width + 2 * kv).unwrap();
            let caches = KvType::ALL.map(|kv| backend.cache("cache", HeadShape { kv, ..shape }).unwrap());
            let windowed = KvType::ALL.map(|kv| {
                let shape = HeadShape { kv, window: 4, cap: 5.0, ..shape };
                backend.cache("cache", shape).unwrap()
            });
            let norm = |kind, bias| Norm { kind, gain: &gain, bias, eps: 1e-5 };
            let rms = || Some(norm(NormKind::Rms, None));
            let rope = |pairs| Rope { table: &table, dim: heads.dim, pairs };
            for batch in [Batch::Decode, Batch::Verify, Batch::Prefill] {
                // The activations, biases and the second kind of pairs depend neither on the format nor on the shape.
                let more = shape == wide && dtype == DType::Q4_1;
                let mut ops = vec![Op::Embed { table: &square, scale: 2.0, to: &x }];
                for bias in [None, Some(&bias)].into_iter().take(if more { 2 } else { 1 }) {
                    let mut linear = |x, norm, weight, then, to| {
                        let (rows, scale) = (Rows::Batch, 0.5);
                        ops.push(Op::Linear { x, rows, norm, weight, bias, scale, then, to });
                    };
                    let adjacent = Then::Rotate(heads, rope(RopePairs::Adjacent));
                    linear(&x, rms(), &qkv_weight, adjacent, &qkv);
                    linear(&x, rms(), &gate_up, Then::Gated(Act::Silu), &y);
                    linear(&x, None, &square, Then::Add, &y);
                    linear(&x, None, &square, Then::Store, &y);
                    if more {
                        let halves = Then::Rotate(heads, rope(RopePairs::Halves));
                        linear(&x, rms(), &qkv_weight, halves, &qkv);
                        for act in [Act::Silu, Act::Gelu, Act::Cap(3.0)] {
                            linear(&x, rms(), &mixed, Then::Gated(act), &y);
                            linear(&x, None, &square, Then::Map(act), &y);
                        }
                    }
                }
                for memory in caches.iter().chain(windowed.iter().filter(|_| more)) {
                    // With a product that merges, and without.
                    ops.push(Op::Attend { qkv: &qkv, memory, to: &x });
                    let (rows, weight, then) = (Rows::Batch, &square, Then::Add);
                    let (norm, bias, scale) = (None, None, 1.0);
                    ops.push(Op::Linear { x: &x, rows, norm, weight, bias, scale, then, to: &y });
                    ops.push(Op::Attend { qkv: &qkv, memory, to: &x });
                }
                if batch != Batch::Prefill {
                    let (rows, weight, then) = (Rows::Wanted, &square, Then::Store);
                    ops.push(Op::Linear {
                        x: &x,
                        rows,
                        norm: rms(),
                        weight,
                        bias: None,
                        scale: 1.0,
                        then,
                        to: &y,
                    });
                }
                if more {
                    ops.push(Op::Positions { table: &square, to: &x });
                    for (kind, bias) in
                        [(NormKind::Rms, None), (NormKind::Layer, None), (NormKind::Layer, Some(&bias))]
                    {
                        for (rows, add) in [(Rows::Batch, false), (Rows::Batch, true), (Rows::Wanted, false)]
                        {
                            ops.push(Op::Norm { x: &x, rows, norm: norm(kind, bias), add, to: &y });
                        }
                        for together in [false, true] {
                            let norm = Some(HeadNorm {
                                kind,
                                gains: [&gain; 2],
                                gain_of_each_head: true,
                                together,
                                eps: 1e-5,
                            });
                            let rope = bias.map(|_| rope(RopePairs::Halves));
                            ops.push(Op::Heads { qkv: &qkv, heads, norm, rope });
                        }
                    }
                    let rope = Some(rope(RopePairs::Adjacent));
                    ops.push(Op::Heads { qkv: &qkv, heads, norm: None, rope });
                    let acts = [Act::Silu, Act::Gelu, Act::Cap(3.0)];
                    let mut each: Vec<_> =
                        acts.map(Each::Map).into_iter().chain([Each::Scale(2.0)]).collect();
                    each.push(Each::Add);
                    for what in each {
                        let b = (what == Each::Add).then_some(&x);
                        ops.push(Op::Each { what, a: &x, b, to: &y });
                    }
                    ops.extend(acts.map(|act| Op::Each {
                        what: Each::Gated(act),
                        a: &x,
                        b: None,
                        to: &half,
                    }));
                    backend.compile(&ops, batch).unwrap();
                    continue;
                }
                backend.compile(&ops, batch).unwrap();
            }
        }
        backends.push(backend);
    }
    let mut backend = GpuBackend::new(gpu.clone(), 8, 8).unwrap();
    let logits = backend.tensor("logits", 1, 100).unwrap();
    for adjust in [false, true] {
        backend.compile(&[Op::Sample { logits: &logits, adjust }], Batch::Decode).unwrap();
    }
    backends.push(backend);
    backends
}

/// Records convolutions of every kernel, stride, enlargement and activation, with all that can be fused.
fn record_images(gpu: &std::rc::Rc<Gpu>, precision: Precision) {
    let mut images = GpuImages::new(gpu.clone(), precision).unwrap();
    let shape = |height, width| ImageShape { height, width, channels: 8 };
    let (input, large, small) = (
        images.image(shape(4, 4)).unwrap(),
        images.image(shape(8, 8)).unwrap(),
        images.image(shape(2, 2)).unwrap(),
    );
    let norm = GroupNorm { groups: 2, eps: 1e-5, gain: &[1.0; 8], bias: &[0.0; 8] };
    let norm = images.group_norm(&input, &norm).unwrap();
    for kernel in [1, 3] {
        let filter = ConvShape { inputs: 8, outputs: 8, kernel };
        let weights = vec![0.0; 64 * (kernel * kernel) as usize];
        let weights = images.weights("w", filter, &weights, None).unwrap();
        for (out, stride, upsample) in [(&input, 1, false), (&large, 1, true), (&small, 2, false)] {
            for activation in [Activation::None, Activation::Relu, Activation::Silu, Activation::Clamp] {
                for fused in [false, true] {
                    let conv = Conv {
                        weights: &weights,
                        input: &input,
                        norm: fused.then_some(&norm),
                        before: activation,
                        upsample,
                        stride,
                        padding: kernel / 2,
                        residual: fused.then_some(out),
                        after: activation,
                    };
                    let other = images.image(GpuImages::shape(out)).unwrap();
                    images.conv(&conv, &other).unwrap();
                }
            }
        }
    }
    let mixed = images.image(shape(4, 4)).unwrap();
    images.attention(&input, &input, &input, &mixed).unwrap();
    let colours = images.image(ImageShape { height: 4, width: 4, channels: 3 }).unwrap();
    images.pixels(&colours, 1.0, 0.0).unwrap();
    let rect = Rect { from: (1, 2), to: (0, 0), size: (2, 2) };
    images.copy(&large, rect, &input).unwrap();
    let joined = images.blank(4, 4).unwrap();
    images.place(&colours, (1.0, 0.0), rect, &joined).unwrap();
}

/// What [`bindings`] reads off the text, by naga's parser.
fn naga_bindings(module: &naga::Module) -> Vec<(u32, Access)> {
    let variables = module.global_variables.iter();
    variables
        .filter_map(|(_, variable)| {
            let binding = variable.binding?;
            assert_eq!(binding.group, 0);
            let access = match variable.space {
                naga::AddressSpace::Uniform => Access::Uniform,
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    Access::ReadWrite
                }
                naga::AddressSpace::Storage { .. } => Access::Read,
                other => panic!("a binding in {other:?}"),
            };
            Some((binding.binding, access))
        })
        .collect()
}

#[test]
fn every_variant_is_valid() {
    let gpu = pollster::block_on(Gpu::new(GpuOptions::default())).unwrap();
    let _backends = record_everything(&gpu);
    record_images(&gpu, Precision::F32);
    record_images(&gpu, Precision::F16);
    gpu.check("recording").unwrap();

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("../shaders");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let variants = gpu.compiled_sources().unwrap();
    for (label, source) in &variants {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(source)));
        // Nothing beyond what WebGPU has without any feature: unpack2x16float is core WGSL, which
        // naga counts as a capability.
        let mut validator = Validator::new(
            ValidationFlags::all(),
            Capabilities::SHADER_FLOAT16_IN_FLOAT32
                | Capabilities::SUBGROUP
                | if source.contains("enable f16;") {
                    Capabilities::SHADER_FLOAT16
                } else {
                    Capabilities::empty()
                },
        );
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        validator.validate(&module).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(source)));
        // naga has them in the order of their use.
        let by_number = |mut bindings: Vec<(u32, Access)>| {
            bindings.sort_by_key(|(number, _)| *number);
            bindings
        };
        let declared = bindings(source).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(by_number(declared), by_number(naga_bindings(&module)), "{label}");
        let storage = module
            .global_variables
            .iter()
            .filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. }))
            .count();
        assert!(storage <= 8, "{label}: {storage} storage buffers, WebGPU promises 8");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let workgroup: u32 = module
            .global_variables
            .iter()
            .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
            .map(|(_, v)| layouter[v.ty].size)
            .sum();
        assert!(workgroup <= 16_384, "{label}: {workgroup} bytes of workgroup memory, WebGPU promises 16384");
        // The line that browsers require and naga refuses.
        let subgroups = label.contains("_subgroups") || label.contains("_quads");
        let enable = if subgroups { "enable subgroups;\n" } else { "" };
        std::fs::write(folder.join(format!("{label}.wgsl")), format!("{enable}{source}")).unwrap();
    }
    // 28 formats × (embed + 2 batches × (qkv, gate_up, add) + head), one format with biases and both kinds of pairs, and attention.
    println!("{} variants", variants.len());
    assert!(variants.len() > 80, "{} variants", variants.len());
}
