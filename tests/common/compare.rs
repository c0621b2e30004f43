//! The comparer. Everything that can be wrong is looked for before any number is compared, and the
//! comparison is written so that NaN fails it.

/// What outputs are filled with before a kernel runs; whatever it does not own must keep it.
pub const GUARD: f32 = -12345.678;

/// A matrix with padding: `rows × cols` values, rows `stride` apart, in a buffer of any size.
pub struct Layout {
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

/// Compares got with wanted values (rows × cols, dense) under a tolerance for each value, and
/// demands that everything outside the matrix still holds `GUARD`. Returns the largest error as a
/// share of its tolerance.
pub fn check(
    what: &str,
    got: &[f32],
    layout: &Layout,
    want: &[f64],
    tolerance: &[f64],
) -> Result<f64, String> {
    let Layout { rows, cols, stride } = *layout;
    if want.len() != rows * cols || tolerance.len() != want.len() {
        return Err(format!(
            "{what}: {} values wanted, {} tolerances, shape {rows}x{cols}",
            want.len(),
            tolerance.len()
        ));
    }
    if rows > 0 && got.len() < (rows - 1) * stride + cols {
        return Err(format!("{what}: only {} values for {rows} rows of {cols}, stride {stride}", got.len()));
    }
    for (i, &value) in got.iter().enumerate() {
        let (row, col) = (i / stride, i % stride);
        if (row >= rows || col >= cols) && value != GUARD {
            return Err(format!("{what}: wrote {value} outside its output, at row {row}, column {col}"));
        }
    }
    let mut worst: f64 = 0.0;
    for row in 0..rows {
        for col in 0..cols {
            let value = f64::from(got[row * stride + col]);
            let (wanted, tolerance) = (want[row * cols + col], tolerance[row * cols + col]);
            let error = (value - wanted).abs();
            #[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN must fail
            if !(error <= tolerance) {
                return Err(format!(
                    "{what}: row {row}, column {col}: got {value}, wanted {wanted}, error {error:.3e} > {tolerance:.3e}"
                ));
            }
            worst = worst.max(error / tolerance);
        }
    }
    Ok(worst)
}

/// [`check`], failing the test.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], layout: &Layout, want: &[f64], tolerance: &[f64]) {
    if let Err(message) = check(what, got, layout, want, tolerance) {
        panic!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Layout = Layout { rows: 2, cols: 2, stride: 3 };
    const WANT: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
    const TOLERANCE: [f64; 4] = [1e-6; 4];

    fn good() -> Vec<f32> {
        vec![1.0, 2.0, GUARD, 3.0, 4.0, GUARD, GUARD, GUARD, GUARD]
    }

    fn verdict(got: &[f32]) -> Result<f64, String> {
        check("test", got, &SHAPE, &WANT, &TOLERANCE)
    }

    #[test]
    fn passes_what_is_right() {
        assert_eq!(verdict(&good()), Ok(0.0));
    }

    #[test]
    fn fails_one_wrong_element_swapped_input_zeros_and_nan() {
        for (i, value) in [(0, 1.00001), (4, f32::NAN), (3, f32::INFINITY), (1, 0.0)] {
            let mut got = good();
            got[i] = value;
            assert!(verdict(&got).is_err(), "element {i} = {value}");
        }
        let mut swapped = good();
        swapped.swap(0, 1);
        assert!(verdict(&swapped).is_err());
        let zeros: Vec<f32> = good().iter().map(|&v| if v == GUARD { v } else { 0.0 }).collect();
        assert!(verdict(&zeros).is_err());
    }

    #[test]
    fn fails_short_output_and_overwritten_guards() {
        assert!(verdict(&good()[..4]).is_err());
        assert!(verdict(&[]).is_err());
        for i in [2, 5, 8] {
            for value in [0.0, f32::NAN] {
                let mut got = good();
                got[i] = value;
                assert!(verdict(&got).is_err(), "guard {i} = {value}");
            }
        }
    }

    #[test]
    fn fails_a_reference_of_another_shape_and_a_nan_reference() {
        assert!(check("test", &good(), &SHAPE, &WANT[..3], &TOLERANCE[..3]).is_err());
        assert!(check("test", &good(), &SHAPE, &[f64::NAN; 4], &TOLERANCE).is_err());
        assert!(check("test", &good(), &SHAPE, &WANT, &[f64::NAN; 4]).is_err());
    }
}
