//! What a shader binds, read off its expanded text, so that no list of it is kept elsewhere.

use crate::error::{Error, Result};

/// How a shader uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<uniform>`.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// Numbers and accesses of all bindings that an expanded text declares, whether it uses them or not. A declaration
/// begins a line: `@group(0) @binding(N) var<…> name`.
///
/// # Errors
/// [`Error::Gpu`] with the line, for a binding that is written in another way.
pub fn bindings(text: &str) -> Result<Vec<(u32, Access)>> {
    let declarations = text.lines().filter(|line| line.contains("@binding"));
    declarations
        .map(|line| {
            declaration(line).ok_or_else(|| Error::Gpu {
                label: line.trim().to_owned(),
                reason: "not a binding of group 0 as all shaders write it".to_owned(),
            })
        })
        .collect()
}

fn declaration(line: &str) -> Option<(u32, Access)> {
    let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
    let (space, _) = rest.split_once('>')?;
    let access = match space {
        "uniform" => Access::Uniform,
        "storage, read" => Access::Read,
        "storage, read_write" => Access::ReadWrite,
        _ => return None,
    };
    Some((number.parse().ok()?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let text = "
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(12) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> overflow: atomic<u32>;
var<workgroup> tile: array<f32, 4>;
";
        let want = vec![(0, Access::Uniform), (12, Access::Read), (3, Access::ReadWrite)];
        assert_eq!(bindings(text).unwrap(), want);
        assert_eq!(bindings("fn f() {}").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for line in [
            "@binding(0) @group(0) var<uniform> p: P;",
            "@group(1) @binding(0) var<uniform> p: P;",
            "@group(0) @binding(x) var<uniform> p: P;",
            "@group(0) @binding(0) var<storage> p: P;",
            "@group(0) @binding(0) var picture: texture_2d<f32>;",
        ] {
            let error = bindings(line).unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
    }
}
