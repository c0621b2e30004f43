//! Cutting a large picture into tiles of one size and joining them without a seam.
//!
//! Tiles overlap. Near an edge where a picture was cut its tile has seen zeros instead of neighbours, so
//! there the other tile counts: weights rise over the middle half of the overlap from 0 to 1.

use crate::error::{Error, Result};
use crate::ops::ImageShape;

/// Positions that a tile sees beyond its share on a cut side. A TAESD-family decoder's large half reaches
/// 10/2 + 10/4 + 4/8 = 8 positions of the latents; what the outermost of them contribute is measured in
/// `tests/image.rs`.
pub(super) const HALO: u32 = 8;

/// How one side of a picture is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Positions of every tile.
    pub size: u32,
    /// First position of each tile.
    pub starts: Vec<u32>,
}

impl Cut {
    /// `length` positions into `count` tiles that overlap by two halos at least.
    pub fn new(length: u32, count: u32) -> Self {
        if count <= 1 {
            return Cut { size: length, starts: vec![0] };
        }
        let size = (length + (count - 1) * 2 * HALO).div_ceil(count).min(length);
        let starts = (0..count).map(|i| (length - size) * i / (count - 1)).collect();
        Cut { size, starts }
    }

    /// The positions of tile `i` that no other tile counts: cut in the middle of each overlap; first and behind
    /// the last, within the tile.
    pub fn share(&self, i: usize) -> (u32, u32) {
        let start = self.starts[i];
        let first = i.checked_sub(1).map_or(0, |j| (self.starts[j] + self.size).midpoint(start) - start);
        let last =
            self.starts.get(i + 1).map_or(self.size, |next| (start + self.size).midpoint(*next) - start);
        (first, last)
    }

    /// Positions in all.
    fn length(&self) -> u32 {
        self.starts.last().map_or(0, |last| last + self.size)
    }

    /// The weights of each tile's pixels, `scale` of them a position; of all tiles together every pixel has 1.
    pub fn weights(&self, scale: u32) -> Vec<Vec<f32>> {
        let raw = |i: usize, at: u32| {
            let start = self.starts[i] * scale;
            let pixel = start + at;
            let end = start + self.size * scale;
            let overlap = |with: Option<&u32>, inner: fn(u32, u32, u32) -> u32| {
                with.map(|&other| inner(start, other * scale, self.size * scale))
            };
            let before = i.checked_sub(1).and_then(|j| self.starts.get(j));
            let left = overlap(before, |start, other, size| other + size - start);
            let right = overlap(self.starts.get(i + 1), |start, other, size| start + size - other);
            ramp(pixel - start, left).min(ramp(end - 1 - pixel, right))
        };
        let tiles: Vec<Vec<f32>> =
            (0..self.starts.len()).map(|i| (0..self.size * scale).map(|at| raw(i, at)).collect()).collect();
        let mut sums = vec![0.0f32; (self.length() * scale) as usize];
        for (start, weights) in self.starts.iter().zip(&tiles) {
            for (sum, weight) in sums[(start * scale) as usize..].iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        let share = |(start, weights): (&u32, &Vec<f32>)| {
            weights.iter().zip(&sums[(start * scale) as usize..]).map(|(w, s)| w / s).collect()
        };
        self.starts.iter().zip(&tiles).map(share).collect()
    }
}

/// Weight of a pixel at a distance from the edge that was cut, for an overlap of so many pixels. Never
/// quite 0, so that sums are not either.
fn ramp(distance: u32, overlap: Option<u32>) -> f32 {
    let Some(overlap) = overlap else { return 1.0 };
    let quarter = overlap as f32 / 4.0;
    ((distance as f32 + 0.5 - quarter) / (2.0 * quarter)).clamp(1e-6, 1.0)
}

/// A window of a picture (height, width, channels).
pub(super) fn window(
    values: &[f32],
    width: u32,
    channels: u32,
    (y, x): (u32, u32),
    (rows, columns): (u32, u32),
) -> Vec<f32> {
    let line = (columns * channels) as usize;
    (y..y + rows)
        .flat_map(|row| {
            let from = ((row * width + x) * channels) as usize;
            &values[from..from + line]
        })
        .copied()
        .collect()
}

/// Values at the latents' resolution that tiles are put into.
pub(super) struct Joined {
    width: usize,
    channels: usize,
    starts: (Vec<u32>, Vec<u32>),
    weights: (Vec<Vec<f32>>, Vec<Vec<f32>>),
    /// (height, width, channels).
    pub values: Vec<f32>,
}

impl Joined {
    /// All zeros.
    pub fn new(shape: ImageShape, rows: &Cut, columns: &Cut) -> Result<Self> {
        let count = shape.pixels().saturating_mul(u64::from(shape.channels));
        let mut values = Vec::new();
        let room = usize::try_from(count).ok().filter(|&room| values.try_reserve_exact(room).is_ok());
        let Some(room) = room else {
            let bytes = count.saturating_mul(4);
            return Err(Error::OutOfMemory { what: "a picture".to_owned(), bytes });
        };
        values.resize(room, 0.0);
        Ok(Joined {
            width: shape.width as usize,
            channels: shape.channels as usize,
            starts: (rows.starts.clone(), columns.starts.clone()),
            weights: (rows.weights(1), columns.weights(1)),
            values,
        })
    }

    /// Adds a tile, (rows, columns, channels).
    pub fn add(&mut self, tile: &[f32], (i, j): (usize, usize)) {
        let (top, left) = (self.starts.0[i] as usize, self.starts.1[j] as usize);
        let (down, across) = (&self.weights.0[i], &self.weights.1[j]);
        let channels = self.channels;
        for (y, (line, wy)) in tile.chunks_exact(across.len() * channels).zip(down).enumerate() {
            let from = ((top + y) * self.width + left) * channels;
            let sums = self.values[from..].chunks_exact_mut(channels);
            for ((position, sums), wx) in line.chunks_exact(channels).zip(sums).zip(across) {
                for (sum, v) in sums.iter_mut().zip(position) {
                    *sum += wy * wx * v;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_everything_and_overlap() {
        for length in [17, 40, 64, 127, 128] {
            for count in 1..6 {
                let cut = Cut::new(length, count);
                assert_eq!(cut.starts[0], 0);
                assert_eq!(cut.starts[cut.starts.len() - 1] + cut.size, length);
                for pair in cut.starts.windows(2) {
                    assert!(pair[0] + cut.size + 1 >= pair[1] + 2 * HALO, "{length} {count}");
                }
                let counted: u32 = (0..cut.starts.len()).map(|i| cut.share(i)).map(|(a, b)| b - a).sum();
                assert_eq!(counted, length);
                let mut sums = vec![0.0; length as usize * 8];
                for (start, weights) in cut.starts.iter().zip(cut.weights(8)) {
                    for (i, weight) in weights.iter().enumerate() {
                        sums[*start as usize * 8 + i] += weight;
                    }
                }
                assert!(sums.iter().all(|s: &f32| (s - 1.0).abs() < 1e-5), "{length} {count}");
            }
        }
    }

    #[test]
    fn what_was_cut_is_joined_again() {
        let (rows, columns) = (Cut::new(70, 3), Cut::new(41, 2));
        let values: Vec<f32> = (0u16..70 * 41 * 3).map(f32::from).collect();
        let mut joined =
            Joined::new(ImageShape { height: 70, width: 41, channels: 3 }, &rows, &columns).unwrap();
        for (i, &top) in rows.starts.iter().enumerate() {
            for (j, &left) in columns.starts.iter().enumerate() {
                joined.add(&window(&values, 41, 3, (top, left), (rows.size, columns.size)), (i, j));
            }
        }
        assert!(joined.values.iter().zip(&values).all(|(a, b)| (a - b).abs() <= 1e-6 * b));
    }

    #[test]
    fn the_edge_of_a_cut_counts_nothing_where_another_tile_knows_better() {
        let cut = Cut::new(64, 2);
        let weights = cut.weights(1);
        assert!(weights[0][cut.size as usize - 1] < 1e-5 && weights[1][0] < 1e-5);
        assert_eq!((weights[0][0], weights[1][cut.size as usize - 1]), (1.0, 1.0));
    }
}
