//! GPU or CPU: what `auto` decides from, on this machine's adapter.

use crate::model;

use emberglass::engine::device::{
    Device, DeviceChoice, DeviceReason, TuneOptions, TuneSource, choose, probe,
};
use emberglass::gpu::KernelMap;
use emberglass::{Gpu, GpuOptions};

#[test]
fn a_wish_is_followed_and_a_software_adapter_is_not_chosen() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let DeviceChoice { gpu, why, .. } =
            choose(Device::Cpu, &directory, TuneOptions::default()).await.unwrap();
        assert!(gpu.is_none());
        assert_eq!((why.code(), why), ("asked", DeviceReason::Asked));
        let DeviceChoice { gpu, why, .. } =
            choose(Device::WebGpu, &directory, TuneOptions::default()).await.unwrap();
        assert!(gpu.is_some());
        assert_eq!(why, DeviceReason::Asked);
        let DeviceChoice { gpu, why, .. } =
            choose(Device::Auto, &directory, TuneOptions::default()).await.unwrap();
        let real = !Gpu::new(GpuOptions::default()).await.unwrap().adapter().is_fallback;
        match why {
            DeviceReason::Probe { gpu_ms, cpu_ms } if real => assert_eq!(gpu.is_some(), gpu_ms <= cpu_ms),
            DeviceReason::SoftwareAdapter { .. } if !real => assert!(gpu.is_none()),
            other => panic!("{other:?}, real adapter: {real}"),
        }
    });
}

/// Kernels that somebody names are taken; what was remembered is taken if it is this adapter's and this model's, and
/// never believed: nonsense is chosen anew.
#[test]
fn kernels_can_be_pinned_and_remembered() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let kernels = "lanes4+pairs1/memory 576x576:lanes8+pairs1+dot4/rows";
        let hints = TuneOptions { pinned: Some(kernels), remembered: &[], ..TuneOptions::default() };
        let chosen = choose(Device::WebGpu, &directory, hints).await.unwrap().kernels.unwrap();
        assert_eq!((chosen.kernels.to_string().as_str(), chosen.how), (kernels, TuneSource::Pinned));

        let remembered = |key: &str, text: &str| [(key.to_owned(), text.to_owned())];
        for (of, how) in [(chosen.key.as_str(), Some(TuneSource::Remembered)), ("another adapter", None)] {
            let hints =
                TuneOptions { pinned: None, remembered: &remembered(of, kernels), ..TuneOptions::default() };
            let again = choose(Device::WebGpu, &directory, hints).await.unwrap().kernels.unwrap();
            match how {
                Some(how) => assert_eq!((again.kernels.to_string().as_str(), again.how), (kernels, how)),
                None => assert_ne!(again.how, TuneSource::Remembered),
            }
        }
        let hints = TuneOptions {
            pinned: None,
            remembered: &remembered(&chosen.key, "lanes99/nonsense"),
            ..TuneOptions::default()
        };
        let again = choose(Device::WebGpu, &directory, hints).await.unwrap().kernels.unwrap();
        assert_ne!(again.how, TuneSource::Remembered);

        for bad in ["lanes99/nonsense", "lanes8+pairs1+subgroups/memory x"] {
            let hints = TuneOptions { pinned: Some(bad), remembered: &[], ..TuneOptions::default() };
            let error = choose(Device::WebGpu, &directory, hints).await.err().unwrap();
            assert_eq!(error.code(), "invalid-option", "{bad}");
        }
    });
}

/// What a real adapter goes through; this one is so slow that few variants have a turn.
#[test]
fn kernels_are_raced_and_what_wins_is_right() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let hints = TuneOptions { race_anyway: true, ..TuneOptions::default() };
        let chosen = choose(Device::WebGpu, &directory, hints).await.unwrap().kernels.unwrap();
        println!("{chosen} {}", chosen.kernels);
        let TuneSource::Timed { tried, ms } = chosen.how else { panic!("{:?}", chosen.how) };
        assert!(tried > 0 && ms > 0.0);
        assert!(chosen.wrong.is_empty(), "{:?}", chosen.wrong);
        assert_eq!(chosen.kernels.to_string().parse::<KernelMap>().ok(), Some(chosen.kernels));
    });
}

/// The probe's guess is of the size of the real thing: it decides between devices that differ by
/// orders of magnitude, and a busy machine may disturb either.
#[test]
fn the_probe_guesses_the_time_of_a_token() {
    pollster::block_on(async {
        let (directory, _) = model::open().await;
        let gpu = Gpu::new(GpuOptions::default()).await.unwrap();
        let (mut gpu_ms, mut cpu_ms) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..3 {
            let (gpu_now, cpu_now) = probe(&gpu, &directory).await.unwrap();
            (gpu_ms, cpu_ms) = (gpu_ms.min(gpu_now), cpu_ms.min(cpu_now));
        }
        let mut engine = model::load(model::cpu(Default::default())).await;
        let prompt = emberglass::Prompt::Tokens(vec![500]);
        let mut options = emberglass::GenerateOptions { max_tokens: Some(9), ..Default::default() };
        options.ignore_end = true;
        let done = engine.generate(&prompt, &options, &mut |_| (), &|| false).await.unwrap();
        let real = done.decode_ms / 8.0;
        println!("probe: GPU {gpu_ms:.1} ms, CPU {cpu_ms:.1} ms; really {real:.1} ms on the CPU");
        assert!(gpu_ms > 0.0 && gpu_ms.is_finite());
        assert!(cpu_ms > 0.05 * real && cpu_ms < 20.0 * real, "{cpu_ms} against {real}");
        // The probe leaves nothing behind.
        assert_eq!(gpu.allocated_bytes(), 0);
    });
}
