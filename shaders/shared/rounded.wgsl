// x rounded for faster products with quantized weights, a block of 32 at a time:
//   rounded_of(eight vec4) -> Rounded, rounded_dot(Packed, Rounded) -> the block's share of a dot product.
#import shared/largest.wgsl
#ifdef DOT4
#import shared/whole.wgsl
#else
#import shared/halves.wgsl
#endif
