// The texts the reference logits are computed on. They are tokenized with special tokens recognised.

/** One sequence of 256 to 320 tokens: prose, chat markup, code and other languages. */
export const SEQUENCE = `The lamp had burned in the window for eleven winters, and nobody in the village could say who trimmed it. On clear nights it could be seen from the far shore, a small steady point that the fishermen used instead of the stars. When Mara finally climbed the stairs, she found a chair, a jar of oil, and a notebook filled with weather.
<|im_start|>system
You answer in one sentence.<|im_end|>
<|im_start|>user
Why is the sky dark at night?<|im_end|>
<|im_start|>assistant
Because the Earth has turned away from the Sun, and starlight alone is too faint to brighten the air.<|im_end|>
def mean(values):
    """Return the arithmetic mean."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)

El río baja crecido y los niños miran desde el puente. Der Zug nach Hamburg fährt um 17:45 Uhr. 今日は天気がいい。
1. Boil 250 ml of water.
2. Add two spoons of rice & wait 12 minutes.

She turned the page and read the last entry twice: "Wind from the east. The ship is late, but I have seen her lantern."
`;

/**
 * Chats that are continued greedily. They were chosen so that at each of the 64 steps the best token leads the second by far more
 * than 0.01: an implementation with small rounding errors has no near-tie to lose, and none to hide behind.
 */
export const CHATS = [
  {
    name: "story",
    messages: [{ role: "user", content: "Write a short story about an old lighthouse keeper and a letter in a bottle." }],
  },
  {
    name: "explain",
    messages: [{ role: "user", content: "Why do we have seasons on Earth?" }],
  },
  {
    name: "turns",
    messages: [
      { role: "system", content: "You are a patient cooking teacher." },
      { role: "user", content: "What do I need for a simple tomato soup?" },
      { role: "assistant", content: "You need ripe tomatoes, an onion, garlic, olive oil, salt and some basil." },
      { role: "user", content: "Now explain how to cook it." },
    ],
  },
];

/** Its first 128 tokens are the prompt of the speed comparison. */
export const BENCH = `A river is never finished. Rain falls on the hills, gathers in the grass, and runs down through stones that it has been rounding for thousands of years. In the valley it slows, drops its sand, and bends away from its own old bed. Farmers who live beside it learn to read the colour of the water: brown after a storm, green in late summer, almost black under ice. They build their houses a little higher than their grandparents did, and they still keep a boat in the barn. When the flood comes, it does not come like a wall, as visitors imagine, but like a guest who arrives early and will not leave. First the ditch is full, then the lane, then the lower field, and at last the kitchen floor is wet and the cat is sitting on the table.`;
