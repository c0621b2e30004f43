//! Fused attention, and the KV cache it reads.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022. The
//! positions are cut into spans of 512. For each span a query row gets its greatest score, the sum of the powers, and their
//! sum of values; these are then merged in the order of the spans. Where spans begin depends on nothing, so that a row's
//! bits depend neither on its neighbours nor on who computes what.
//!
//! The work is in chunks ([`Attend`]): with many query rows a chunk is a KV head and some of its rows; with few, a KV
//! head and one span, which [`Attend::finish`] merges. A chunk takes up to four rows at a time through a span, which lies in the
//! L2 cache until its last row has seen it.

mod cache;
mod kernels;

use std::marker::PhantomData;
use std::ops::Range;

use crate::graph::HeadShape;

use super::fetch::fetch;
use super::simd::Level;
use super::team::Spread;
use kernels::{Merge, Operand, Prepare, Query, Scores, Soften, Span, Values, Widen};

pub use cache::{Cache, Kept, Planes, Rows, head_floats, k_index, v_index};
use cache::{Head, LANES, TILE};

/// Positions that are merged at once: whole tiles.
const SPAN: usize = 512;
/// Query rows that share a pass over a span: their sums, a cell and its factor still fit into sixteen registers of 128
/// bits.
const TOGETHER: usize = 4;
/// Query rows of a chunk: so many share what is read of the cache.
const ROWS: usize = 48;
/// With at most so many rows to a KV head a chunk is a span.
const FEW: usize = 32;
/// The largest head of which a whole span is widened: more would leave the L2 cache, and the working memory of a thread.
const MOST_WIDE: usize = 128;

/// Attention of a batch over one layer's cache, which holds the batch's K and V already. Its chunks may be computed in any
/// order, by any thread; each has a result of [`Attend::chunk_floats`].
#[derive(Clone, Copy)]
pub struct Attend<'a> {
    /// Which vectors.
    pub level: Level,
    /// Of the layer.
    pub shape: HeadShape,
    /// The cache.
    pub kept: Kept<'a>,
    /// A token's row begins with the heads of its Q.
    pub q: &'a [f32],
    /// Floats from one token's row to the next.
    pub stride: usize,
    /// Position of the first token.
    pub pos: usize,
    /// Tokens.
    pub count: usize,
    /// Whether each token sees all positions of the shape's capacity; else those up to its own.
    pub all: bool,
}

/// A crew's job has room for so much.
const _: () = assert!(size_of::<Attend<'_>>() <= 128);

/// Memory that attention on one thread takes, kept from run to run.
#[derive(Default)]
pub struct AttendScratch {
    results: Vec<f32>,
    scratch: Vec<f32>,
}

impl AttendScratch {
    /// For the results of all chunks.
    pub fn results(&mut self, job: &Attend<'_>) -> &mut [f32] {
        grown(&mut self.results, job.chunks() * job.chunk_floats())
    }
}

fn grown(floats: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if floats.len() < count {
        floats.resize(count, 0.0);
    }
    &mut floats[..count]
}

impl Attend<'_> {
    /// All of it, on this thread: a token's heads side by side, the tokens `stride` floats apart.
    pub fn alone(&self, room: &mut AttendScratch, to: &mut [f32], stride: usize) {
        let floats = self.chunk_floats();
        let results = grown(&mut room.results, self.chunks() * floats);
        let scratch = grown(&mut room.scratch, self.scratch_floats());
        for (chunk, out) in results.chunks_exact_mut(floats).enumerate() {
            self.run(chunk, scratch, out);
        }
        self.finish(results, to, stride);
    }

    fn dim(&self) -> usize {
        self.shape.head_dim as usize
    }

    /// Query heads of a KV head.
    fn group(&self) -> usize {
        (self.shape.heads / self.shape.kv_heads) as usize
    }

    /// Whether a chunk is a KV head and a span; else a KV head and whole rows.
    pub fn splits_positions(&self) -> bool {
        self.count * self.group() <= FEW
    }

    /// Tokens of a chunk.
    fn tokens(&self) -> usize {
        if self.splits_positions() { self.count } else { (ROWS / self.group()).clamp(1, self.count) }
    }

    /// What a token sees.
    fn seen(&self, token: usize) -> Range<usize> {
        if self.all {
            return 0..self.shape.capacity as usize;
        }
        let position = self.pos + token;
        self.shape.first_seen(position as u32) as usize..position + 1
    }

    /// Spans that any of these tokens, at least one, sees something of.
    fn spans(&self, tokens: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.seen(tokens.start), self.seen(tokens.end - 1));
        first.start / SPAN..last.end.div_ceil(SPAN)
    }

    /// Chunks of a KV head.
    fn chunks_of_head(&self) -> usize {
        match self.splits_positions() {
            true => self.spans(&(0..self.count)).len(),
            false => self.count.div_ceil(self.tokens()),
        }
    }

    /// How many there are.
    pub fn chunks(&self) -> usize {
        if self.count == 0 { 0 } else { self.shape.kv_heads as usize * self.chunks_of_head() }
    }

    /// Floats of a row in a chunk's result: its values; of a span also its greatest score and its sum of powers.
    fn row_floats(&self) -> usize {
        self.dim() + if self.splits_positions() { 2 } else { 0 }
    }

    /// Floats of a chunk's result.
    pub fn chunk_floats(&self) -> usize {
        self.tokens() * self.group() * self.row_floats()
    }

    /// Whether the chunks' results, one after the other, are the output: one head, and nothing to merge.
    pub fn is_in_place(&self) -> bool {
        self.shape.heads == 1 && !self.splits_positions()
    }

    /// Floats that [`Attend::run`] needs besides.
    pub fn scratch_floats(&self) -> usize {
        let rows = (self.tokens() * self.group()).next_multiple_of(TOGETHER);
        self.wide_floats() + kernels::span_floats(self.dim()) + rows * (self.dim() + Query::FLOATS)
    }

    /// Computes a chunk: `out` and `scratch` hold at least as many floats as they need.
    pub fn run(&self, chunk: usize, scratch: &mut [f32], out: &mut [f32]) {
        let (index, count) = (chunk / self.chunks_of_head(), self.shape.kv_heads as usize);
        let (wide, scratch) = scratch.split_at_mut(self.wide_floats());
        match self.kept {
            Kept::F32(planes) => self.run_on(planes.head(index, count), chunk, scratch, out),
            // Many rows share what is widened once; few widen as they read. The sums are the same: both differ by a power of 2.
            Kept::F16(planes) if self.wide_floats() > 0 => {
                let source = Wide { half: planes.head(index, count), floats: wide };
                self.run_on(source, chunk, scratch, out);
            }
            Kept::F16(planes) => self.run_on(planes.head(index, count), chunk, scratch, out),
            Kept::Q8_0(planes) => self.run_on(planes.head(index, count), chunk, scratch, out),
        }
    }

    /// Floats of a span that is widened; 0 where it is widened while it is read.
    fn wide_floats(&self) -> usize {
        match self.kept {
            Kept::F16(_) if !self.splits_positions() && self.dim() <= MOST_WIDE => 2 * SPAN * self.dim(),
            _ => 0,
        }
    }

    fn run_on<T: Source>(&self, mut source: T, chunk: usize, scratch: &mut [f32], out: &mut [f32]) {
        let (level, dim, group) = (self.level, self.dim(), self.group());
        let (index, part) = (chunk / self.chunks_of_head(), chunk % self.chunks_of_head());
        let (tokens, spans) = match self.splits_positions() {
            true => {
                let first = self.spans(&(0..self.count)).start + part;
                (0..self.count, first..first + 1)
            }
            false => {
                let first = part * self.tokens();
                let tokens = first..(first + self.tokens()).min(self.count);
                (tokens.clone(), self.spans(&tokens))
            }
        };
        let rows = tokens.len() * group;
        let (span_scratch, rest) = scratch.split_at_mut(kernels::span_floats(dim));
        let padded = rows.next_multiple_of(TOGETHER);
        let (factors, queries) = rest.split_at_mut(padded * dim);
        let queries = Query::cast(&mut queries[..padded * Query::FLOATS]);
        for (quad, (factors, queries)) in
            factors.chunks_exact_mut(TOGETHER * dim).zip(queries.chunks_exact_mut(TOGETHER)).enumerate()
        {
            let first = quad * TOGETHER;
            let count = TOGETHER.min(rows - first);
            for (n, query) in queries.iter_mut().enumerate().take(count) {
                let (token, h) = (tokens.start + (first + n) / group, (first + n) % group);
                let q = &self.q[token * self.stride + (index * group + h) * dim..][..dim];
                level.run(Prepare {
                    q,
                    scale: self.shape.scale,
                    factors,
                    n,
                    of: count,
                    query,
                    cells: PhantomData::<T::Cell>,
                });
            }
        }
        let row_floats = self.row_floats();
        out[..rows * row_floats].fill(0.0);
        for span in spans {
            let base = span * SPAN;
            let place = source.span(level, dim, base / TILE, self.seen(tokens.end - 1).end);
            if self.splits_positions() {
                let (first, last) = (self.seen(tokens.start), self.seen(tokens.end - 1));
                fetch_tiles(
                    place.0,
                    dim,
                    first.start.max(base) / TILE..last.end.min(base + SPAN).div_ceil(TILE),
                );
            }
            for (quad, (factors, queries)) in
                factors.chunks_exact(TOGETHER * dim).zip(queries.chunks_exact_mut(TOGETHER)).enumerate()
            {
                let first = quad * TOGETHER;
                let queries = &mut queries[..TOGETHER.min(rows - first)];
                let mut seen = [const { 0..0 }; TOGETHER];
                for (n, seen) in seen.iter_mut().enumerate().take(queries.len()) {
                    *seen = within(self.seen(tokens.start + (first + n) / group), base);
                }
                let seen = &seen[..queries.len()];
                let span = Span::new(span_scratch, dim, queries.len());
                if !attend_to_span(level, place, self.shape.cap, span, factors, queries, seen) {
                    continue;
                }
                let span = Span::new(span_scratch, dim, queries.len());
                for (n, query) in queries.iter_mut().enumerate().filter(|(n, _)| !seen[*n].is_empty()) {
                    let out = &mut out[(first + n) * row_floats..][..row_floats];
                    let sums = &span.sums[n * dim..][..dim];
                    if self.splits_positions() {
                        let (values, rest) = out.split_at_mut(dim);
                        values.copy_from_slice(sums);
                        rest.copy_from_slice(&[query.span_highest, query.span_total]);
                    } else {
                        let (highest, total) = (query.span_highest, query.span_total);
                        let Query { highest: highest_so_far, total: total_so_far, .. } = query;
                        level.run(Merge {
                            sums,
                            worth: T::Cell::WORTH,
                            highest,
                            total,
                            out,
                            highest_so_far,
                            total_so_far,
                        });
                    }
                }
            }
        }
        if !self.splits_positions() {
            for (row, query) in out.chunks_exact_mut(dim).zip(queries.iter()).take(rows) {
                divide(row, query.total);
            }
        }
    }

    /// Puts the results of all chunks, one after the other, in place: a token's heads side by side, the tokens `stride`
    /// floats apart.
    pub fn finish(&self, results: &[f32], to: &mut [f32], stride: usize) {
        if self.splits_positions() {
            self.merge(results, to, stride);
            return;
        }
        let to = Spread::new(to);
        for (chunk, result) in results.chunks_exact(self.chunk_floats()).enumerate() {
            // SAFETY: one after the other.
            unsafe { self.place(chunk, result, to, stride) };
        }
    }

    /// Puts the result of a chunk that holds whole rows in place, see [`Attend::finish`].
    ///
    /// # Safety
    /// Nobody else has these rows of these heads.
    pub unsafe fn place(&self, chunk: usize, result: &[f32], to: Spread<'_, f32>, stride: usize) {
        let (dim, group) = (self.dim(), self.group());
        let (index, part) = (chunk / self.chunks_of_head(), chunk % self.chunks_of_head());
        let first = part * self.tokens();
        let tokens = first..(first + self.tokens()).min(self.count);
        for (token, heads) in tokens.zip(result.chunks_exact(group * dim)) {
            let at = token * stride + index * group * dim;
            // SAFETY: as promised.
            unsafe { to.part(at..at + group * dim) }.copy_from_slice(heads);
        }
    }

    /// Merges the results of spans.
    fn merge(&self, results: &[f32], to: &mut [f32], stride: usize) {
        let (dim, group, row_floats) = (self.dim(), self.group(), self.row_floats());
        let worth = match self.kept {
            Kept::F32(_) => <[f32; 8] as Operand>::WORTH,
            Kept::F16(_) => <[u16; 8] as Operand>::WORTH,
            Kept::Q8_0(_) => <[i8; 16] as Operand>::WORTH,
        };
        let heads = results.chunks_exact(self.chunk_floats() * self.chunks_of_head());
        for (index, head) in heads.enumerate().take(self.shape.kv_heads as usize) {
            for row in 0..self.count * group {
                let (token, h) = (row / group, row % group);
                let out = &mut to[token * stride + (index * group + h) * dim..][..dim];
                out.fill(0.0);
                let (mut so_far, mut of_all) = (f32::NEG_INFINITY, 0.0);
                for (span, rows) in self.spans(&(0..self.count)).zip(head.chunks_exact(self.chunk_floats())) {
                    if within(self.seen(token), span * SPAN).is_empty() {
                        continue;
                    }
                    let (sums, rest) = rows[row * row_floats..][..row_floats].split_at(dim);
                    let (highest, total) = (rest[0], rest[1]);
                    let (highest_so_far, total_so_far) = (&mut so_far, &mut of_all);
                    self.level.run(Merge { sums, worth, highest, total, out, highest_so_far, total_so_far });
                }
                divide(out, of_all);
            }
        }
    }
}

/// Where the cells of a span come from.
trait Source {
    /// What they are.
    type Cell: Operand;
    /// The span that begins with a tile, of which positions below `end` are wanted: a head, and which of its tiles that is.
    fn span(&mut self, level: Level, dim: usize, tile: usize, end: usize) -> (Head<'_, Self::Cell>, usize);
}

/// They are read where they lie.
impl<C: Operand> Source for Head<'_, C> {
    type Cell = C;
    fn span(&mut self, _: Level, _: usize, tile: usize, _: usize) -> (Head<'_, C>, usize) {
        (*self, tile)
    }
}

/// Halves are made floats, a span at a time.
struct Wide<'a> {
    half: Head<'a, [u16; 8]>,
    /// K and V.
    floats: &'a mut [f32],
}

impl Source for Wide<'_> {
    type Cell = [f32; 8];
    fn span(&mut self, level: Level, dim: usize, tile: usize, end: usize) -> (Head<'_, [f32; 8]>, usize) {
        let (k, v) = self.floats.split_at_mut(SPAN * dim);
        let tiles = (end.div_ceil(TILE) - tile).min(SPAN / TILE);
        for (from, to) in [(self.half.k, &mut *k), (self.half.v, &mut *v)] {
            for (i, to) in to.chunks_exact_mut(TILE * dim).enumerate().take(tiles) {
                let from = kernels::of_tile(from, TILE * dim / LANES, tile + i);
                level.run(Widen { from, to });
            }
        }
        (Head { k: k.as_chunks().0, v: v.as_chunks().0, k_scales: &[], v_scales: &[] }, 0)
    }
}

/// Positions `seen` of the span that begins at `base`, counted from there.
fn within(seen: Range<usize>, base: usize) -> Range<usize> {
    let [start, end] = [seen.start, seen.end].map(|position| position.saturating_sub(base).min(SPAN));
    start..end
}

fn divide(row: &mut [f32], by: f32) {
    for value in row {
        *value /= by;
    }
}

/// Brings K and V of some tiles into the cache.
fn fetch_tiles<C: Operand>(head: Head<'_, C>, dim: usize, tiles: Range<usize>) {
    for cells in [head.k, head.v] {
        for tile in tiles.clone() {
            fetch(kernels::of_tile(cells, dim * TILE / LANES / C::PAIR, tile));
        }
    }
}

/// Leaves the rows' sums of values in `span`, and what they are to be merged by in `queries`. False if they see nothing of it.
fn attend_to_span<C: Operand>(
    level: Level,
    (head, tile): (Head<'_, C>, usize),
    cap: f32,
    span: Span<'_>,
    factors: &[f32],
    queries: &mut [Query],
    seen: &[Range<usize>],
) -> bool {
    let seeing = || seen.iter().filter(|seen| !seen.is_empty());
    let Some(from) = seeing().map(|seen| seen.start).min() else { return false };
    let here = from..seeing().map(|seen| seen.end).max().unwrap_or(from);
    let whole = here.start / LANES * LANES..here.end.next_multiple_of(LANES);
    let Span { p, sums } = span;
    let dim = sums.len() / queries.len();
    macro_rules! rows {
        ($($n:literal)*) => {
            match queries.len() {
                $($n => level.run(Scores::<C, $n> { head, dim, tile, whole: whole.clone(), factors, p }),)*
                _ => {}
            }
            for ((p, query), seen) in p.chunks_exact_mut(SPAN).zip(queries.iter_mut()).zip(seen) {
                let (p, lift) = (&mut p[whole.clone()], C::LIFT);
                let seen = seen.start.max(whole.start) - whole.start..seen.end.max(whole.start) - whole.start;
                level.run(Soften { p, seen, cap, lift, query });
            }
            match queries.len() {
                $($n => level.run(Values::<C, $n> { head, dim, tile, here, p, sums }),)*
                _ => {}
            }
        };
    }
    rows!(1 2 3 4);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::team::Team;
    use crate::graph::KvType;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Tokens at once, in chunks of rows that are computed last to first, have the bits of tokens one by one, in chunks of spans.
    #[test]
    fn bits_do_not_depend_on_chunks() {
        const TOKENS: usize = 21;
        for kv in KvType::ALL {
            for (window, pos) in [(0, 1030), (600, 1500), (0, 500)] {
                let shape = HeadShape {
                    heads: 6,
                    kv_heads: 2,
                    head_dim: 40,
                    scale: 0.9,
                    cap: 0.0,
                    window,
                    max_batch: TOKENS as u32,
                    capacity: 1600,
                    kv,
                };
                let cache = Cache::new(&Default::default(), "cache", shape).unwrap();
                for (i, kv) in numbers(160 * (pos + TOKENS), 7).chunks_exact(160).enumerate() {
                    assert!(cache.store(&mut Team::solo(), i, Rows { data: kv, stride: 160, count: 1 }));
                }
                let (q, reading) = (numbers(240 * TOKENS, 9), cache.reading());
                for level in Level::available() {
                    let kept = reading.kept();
                    let whole =
                        Attend { level, shape, kept, q: &q, stride: 240, pos, count: TOKENS, all: false };
                    assert!(!whole.splits_positions() && whole.chunks() > 2);
                    let mut results = vec![f32::NAN; whole.chunks() * whole.chunk_floats()];
                    for (chunk, out) in results.chunks_exact_mut(whole.chunk_floats()).enumerate().rev() {
                        whole.run(chunk, &mut vec![f32::NAN; whole.scratch_floats()], out);
                    }
                    let mut want = vec![f32::NAN; 240 * TOKENS];
                    whole.finish(&results, &mut want, 240);
                    let mut room = AttendScratch::default();
                    for (token, want) in want.chunks_exact(240).enumerate() {
                        let one = Attend { q: &q[token * 240..], pos: pos + token, count: 1, ..whole };
                        assert!(one.splits_positions());
                        let mut got = vec![f32::NAN; 240];
                        one.alone(&mut room, &mut got, 240);
                        assert!(got.iter().all(|value| value.is_finite()));
                        assert_eq!(got, want, "{kv:?} {window} {token} {}", level.name());
                    }
                }
            }
        }
    }

    /// A query that is no number, or infinite, does not look like one that is.
    #[test]
    fn what_is_not_finite_shows() {
        for kv in KvType::ALL {
            let shape = HeadShape {
                heads: 1,
                kv_heads: 1,
                head_dim: 8,
                scale: 1.0,
                cap: 0.0,
                window: 0,
                max_batch: 1,
                capacity: 64,
                kv,
            };
            let cache = Cache::new(&Default::default(), "cache", shape).unwrap();
            cache.store(&mut Team::solo(), 0, Rows { data: &[1.0; 16], stride: 16, count: 1 });
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let (reading, level) = (cache.reading(), Level::best());
                let q = [0.5, bad, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5];
                let job = Attend {
                    level,
                    shape,
                    kept: reading.kept(),
                    q: &q,
                    stride: 8,
                    pos: 0,
                    count: 1,
                    all: false,
                };
                let mut got = [0.0; 8];
                job.alone(&mut AttendScratch::default(), &mut got, 8);
                assert!(got.iter().all(|value| value.is_nan()), "{kv:?} {bad}: {got:?}");
            }
        }
    }
}
