// What changes from one submit to the next; everything else is in Params, written once.
struct Step {
  pos: u32,     // position of the first token of this batch in the KV cache
  count: u32,   // tokens in this batch
  row: u32,     // which row of the activations the head reads (the last one)
  counter: u32, // index of the token to be drawn: the counter of the random generator
}
