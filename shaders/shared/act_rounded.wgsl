// x rounded for faster products with quantized weights, a block of 32 at a time:
//   rounded_of(eight vec4) -> Rounded, rounded_dot(Packed, Rounded) -> the block's share of a dot product.
#import shared/block_max.wgsl
#ifdef DOT4
#import shared/act_int16.wgsl
#else
#import shared/act_f16.wgsl
#endif
