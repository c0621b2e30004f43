//! Cutting a large picture into tiles of one size.
//!
//! Each tile has a share of the picture to itself. It also sees a halo around the share: as many positions as reach the
//! share through the layers. So what a tile computes of its share is what the picture in one piece has there, and
//! tiles are joined without blending.

/// How one side of a picture is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Positions of every tile, its halo included.
    pub size: u32,
    /// First position of each tile.
    pub starts: Vec<u32>,
    /// First position of each tile's share, and the position behind its last.
    pub shares: Vec<(u32, u32)>,
}

impl Cut {
    /// `length` positions into `count` tiles, at most one for each position, that see `halo` positions beyond their
    /// shares.
    pub fn new(length: u32, count: u32, halo: u32) -> Self {
        let count = count.clamp(1, length.max(1));
        #[allow(clippy::cast_possible_truncation)] // at most `length`
        let bound = |i: u32| (u64::from(length) * u64::from(i) / u64::from(count)) as u32;
        let shares: Vec<(u32, u32)> = (0..count).map(|i| (bound(i), bound(i + 1))).collect();
        let size = length.div_ceil(count).saturating_add(halo.saturating_mul(2)).min(length);
        let starts = shares.iter().map(|(begin, _)| begin.saturating_sub(halo).min(length - size)).collect();
        Cut { size, starts, shares }
    }

    /// Tiles.
    pub fn count(&self) -> u32 {
        self.starts.iter().fold(0, |count, _| count + 1)
    }

    /// The share of tile `i`, counted from the tile's first position.
    pub fn within(&self, i: usize) -> (u32, u32) {
        let (begin, end) = self.shares[i];
        (begin - self.starts[i], end - self.starts[i])
    }
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
            let from = (row as usize * width as usize + x as usize) * channels as usize;
            &values[from..from + line]
        })
        .copied()
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_and_have_their_halo() {
        for length in [1, 2, 17, 40, 64, 127, 128] {
            for count in [1, 2, 3, 5, 16, 200] {
                for halo in [0, 1, 7, 70] {
                    let cut = Cut::new(length, count, halo);
                    assert_eq!(cut.count(), count.min(length));
                    assert_eq!((cut.shares[0].0, cut.shares[cut.shares.len() - 1].1), (0, length));
                    assert!(cut.shares.windows(2).all(|pair| pair[0].1 == pair[1].0));
                    for (i, &start) in cut.starts.iter().enumerate() {
                        let (begin, end) = cut.shares[i];
                        assert!(begin < end && start + cut.size <= length);
                        assert!(begin - start >= halo.min(begin), "{length} {count} {halo}");
                        assert!(start + cut.size - end >= halo.min(length - end), "{length} {count} {halo}");
                        assert_eq!(cut.within(i), (begin - start, end - start));
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_has_its_rows_and_columns() {
        let values: Vec<f32> = (0u16..5 * 4 * 2).map(f32::from).collect();
        assert_eq!(window(&values, 4, 2, (3, 1), (2, 2)), [26.0, 27.0, 28.0, 29.0, 34.0, 35.0, 36.0, 37.0]);
    }
}
