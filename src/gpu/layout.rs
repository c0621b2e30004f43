//! Test support: compares a `Params` struct with what naga reflects from the shader.

use std::collections::BTreeMap;

/// Offsets of the members of uniform `global`, and the struct's size; padding left out.
pub(in crate::gpu) fn reflect(
    key: &crate::gpu::PipelineKey,
    global: &str,
) -> (BTreeMap<String, usize>, usize) {
    let module = naga::front::wgsl::parse_str(&key.source().unwrap()).unwrap();
    let (_, variable) =
        module.global_variables.iter().find(|(_, v)| v.name.as_deref() == Some(global)).unwrap();
    let naga::TypeInner::Struct { members, span } = &module.types[variable.ty].inner else {
        unreachable!("{global} is no struct")
    };
    let members = members
        .iter()
        .map(|m| (m.name.clone().unwrap(), m.offset as usize))
        .filter(|(name, _)| !name.starts_with("pad"))
        .collect();
    (members, *span as usize)
}

/// A test that `$type` has the fields, offsets and size of the shader's uniform `$global`.
macro_rules! layout_test {
    ($name:ident, $key:expr, $global:literal, $type:ty { $($field:ident),* $(,)? }) => {
        #[test]
        fn $name() {
            let (members, size) = crate::gpu::layout::reflect(&$key, $global);
            let ours: std::collections::BTreeMap<String, usize> =
                [$((stringify!($field).to_owned(), std::mem::offset_of!($type, $field))),*].into();
            assert_eq!(ours, members);
            assert_eq!(size_of::<$type>(), size);
        }
    };
}
