const GRID_WORDS = 0u;
#import shared/packed.wgsl
#import shared/sub_blocks.wgsl
// TQ2_0: 256 weights of two bits. quants as in Q2_K; scales: d.
const ZERO_POINT = 0.0;
fn load_packed(row: u32, block: u32, blocks: u32) -> Packed {
  let at = panel_index(row, block / 8u, blocks / 8u, 4u) + (block & 4u) / 2u * PANEL;
  let shift = 2u * (block % 4u);
  return Packed(
    bytes_less(bits_of_bytes(quants[at], shift, 3u), 1u),
    bytes_less(bits_of_bytes(quants[at + PANEL], shift, 3u), 1u),
    half_scale_of(row, block, blocks, 8u),
    0.0,
  );
}
