/** 128 tokens of SmolLM2's tokenizer; `bench` in tools/reference/prompts.json. */
export const PROMPT =
  "A river is never finished. Rain falls on the hills, gathers in the grass, and runs down through stones that " +
  "it has been rounding for thousands of years. In the valley it slows, drops its sand, and bends away from its " +
  "own old bed. Farmers who live beside it learn to read the colour of the water: brown after a storm, green in " +
  "late summer, almost black under ice. They build their houses a little higher than their grandparents did, and " +
  "they still keep a boat in the barn. When the flood comes, it does not come like a wall, as visitors imagine, " +
  "but like a guest who arrives early and will";
