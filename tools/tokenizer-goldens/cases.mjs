// The strings whose token ids are recorded, by group. Invisible and combining characters are written as escapes, so that no
// editor can change them.

const repeat = (text, n) => text.repeat(n);

export const GROUPS = {
  "plain English": [
    "Hello", "hello world", "Hello, world!", " leading space", "trailing space ", " both ", "The quick brown fox jumps over the lazy dog.",
    "It was the best of times, it was the worst of times.", "Mr. O'Neill-Smith (aged 42) said: \"Hi!\"", "e.g., i.e., etc.",
    "semi;colon:colon—dash–dash-hyphen_underscore", "ALL CAPS SENTENCE", "camelCaseIdentifier PascalCaseIdentifier snake_case_identifier SCREAMING_SNAKE",
    "a", "I", ".", "!", "?!?!", "...", "\u2026", "''", "\"\"", "``", "#hashtag @mention", "$100 & 50% off*",
  ],
  "empty-ish": ["", " ", "  ", "\n", "\t", "\r", "\r\n", "\u00a0", "\u200b", "\ufeff", "\u0000", "0", "-", "_"],
  contractions: [
    "don't", "DON'T", "Don'T", "I'm I'M i'm", "you're YOU'RE", "we've WE'VE", "they'll THEY'LL", "he'd HE'D", "it's IT'S", "can't've",
    "'tis 'twas", "rock 'n' roll", "o'clock", "'s 't 're 've 'm 'll 'd", "'S 'T 'RE 'VE 'M 'LL 'D", "don\u2019t it\u2019s we\u2019re", "x'sy", "dogs' tails", "l'amour d'été",
  ],
  numbers: [
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "0x1F4A9", "1e-10", "2024-11-24T00:23:21Z", "192.168.0.1", "+1 (555) 010-9999",
    "v1.2.3-rc4", "a1b2c3", "abc123def", "123abc", "7 8 9", "007", "٠١٢٣٤٥", "१२३", "\uff11\uff12\uff13", "½ ¾ ⅓", "x² + y³ = z₁₀", "Ⅳ Ⅻ ⅷ", "①②③", "١٢ and 12", "10000000000000000000000000000",
    "50%", "$3.50", "1st 2nd 3rd", "3×4=12", "-273.15°C", "1/2",
  ],
  whitespace: [
    "a b", "a  b", "a   b", "a    b", repeat(" ", 3), repeat(" ", 7), repeat(" ", 16), repeat(" ", 33), repeat(" ", 100) + "x", "x" + repeat(" ", 50),
    "a\nb", "a\n\nb", "a\n\n\nb", "a\r\nb", "a\r\n\r\nb", "a\rb", "\n\n\n\n", "a\tb", "\t\t\tindented", "    \tmixed", "line one  \nline two", "trailing newline\n", "trailing spaces   \n",
    "\n leading", " \n \n ", "a \n b", "a\n    b\n        c", "\ta\n\tb", "\u000b\u000cvertical tab, form feed", "\u0085next line\u0085", "a\u2028b\u2029c",
  ],
  "Unicode spaces": [
    "a\u00a0b", "a\u00a0\u00a0b", "10\u202f000", "a\u2002b\u2003c\u2009d\u200ae", "a\u3000b\u3000\u3000c", "a\u1680b", "a\u205fb", "a\u2060b", "a\u200bb", "\ufeffBOM first", "a\u180eb", "end\u00a0", "\u3000start", "a \u00a0 b", "a\u00adb soft hyphen",
  ],
  emoji: [
    "\u{1f600}", "Hello \u{1f44b} world \u{1f30d}!", "\u{1f600}\u{1f601}\u{1f602}", "\u{1f44d}\u{1f3fd}", "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466}", "\u{1f3f3}\ufe0f\u200d\u{1f308}", "\u{1f1eb}\u{1f1f7}\u{1f1ef}\u{1f1f5}\u{1f1e7}\u{1f1f7}",
    "\u2764\ufe0f", "\u2764", "\u263a\ufe0e", "1\ufe0f\u20e3 #\ufe0f\u20e3", "\u{1f9d1}\u{1f3ff}\u200d\u{1f680}", "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}", "code \u{1f4bb}, bug \u{1f41b}, fire \u{1f525}\u{1f525}\u{1f525}", ":-) ^_^ \u00af\\_(\u30c4)_/\u00af", "\u{1fae0}\u{1fae8}", "\u2728done\u2728", "\u{1f937}\u{1f3fb}\u200d\u2640\ufe0f",
    "\u{10ffff}\u{f0000}", "\u{1d4d7}\u{1d4ee}\u{1d4f5}\u{1d4f5}\u{1d4f8}",
  ],
  CJK: [
    "\u4f60\u597d", "你好,世界!", "我喜欢编程。", "这是一个测试,包含123和ABC。", "こんにちは世界", "カタカナとひらがなと漢字", "ﾊﾝｶｸ ｶﾅ", "日本語の文章です。改行\nあり。", "안녕하세요 세계", "한국어와 English 혼합", "\u1112\u1161\u11ab\u1100\u1173\u11af", "繁體中文測試", "\u{20000}\u{2a6a5}", "「引用」『二重』", "Ｆｕｌｌｗｉｄｔｈ", "東京2020オリンピック", "㎏ ㍿ ㊙",
  ],
  "other scripts": [
    "مرحبا بالعالم", "السَّلامُ عَلَيْكُم", "العربية and English", "שלום עולם", "שָׁלוֹם", "नमस्ते दुनिया", "क्षत्रिय", "हिन्दी १२३", "สวัสดีชาวโลก", "ภาษาไทยไม่มีช่องว่าง", "Привет, мир!", "Съешь ещё этих мягких французских булок", "Γειά σου Κόσμε", "ΑΒΓ αβγ ς", "Ողջույն աշխարհ", "გამარჯობა მსოფლიო", "வணக்கம் உலகம்", "ನಮಸ್ಕಾರ", "မင်္ဂလာပါ", "ሰላም ልዑል", "ᏣᎳᎩ", "བོད་སྐད", "ភាសាខ្មែរ",
    "Zażółć gęślą jaźń", "Příliš žluťoučký kůň", "Größe Straße ẞ", "İstanbul ıspanak", "Đặng Thị Nguyễn", "\u202bright\u202c \u200fmark\u200e", "𐍈𐌰𐌿", "𓀀𓁐",
  ],
  "combining marks": [
    "caf\u00e9", "cafe\u0301", "\u00c5ngstr\u00f6m", "A\u030angstro\u0308m", "n\u0303 \u00f1", "e\u0301\u0302\u0323", "Z\u0351\u036b\u0343a\u0334\u0321l\u0358g\u0322o\u0337", "\u0301alone", "a\u0301b\u0302c\u0303", "\u1ea5 a\u0302\u0301", "d\u0307\u0323 d\u0323\u0307", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u05e9\u05c1\u05b8", "x\u20d7 = y\u20d7", "\ufb01ne \ufb02ow",
  ],
  "control characters": ["\u0001\u0002\u0003", "a\u0000b", "\u0000\u0000", "\u001b[31mred\u001b[0m", "\u0007bell\u0008", "\u007f", "\u0080\u0081\u009f", "tab\u0009nul\u0000end", "\ue000 private use", "\ufffe\uffff", "\ufff9\ufffa\ufffb"],
  "invalid UTF-8 as U+FFFD": ["\ufffd", "\ufffd\ufffd", "a\ufffdb", "caf\ufffd", "\ufffd\ufffd\ufffd tail", "x \ufffd y", "\u{1f600}\ufffd", "\ufffd\n\ufffd", "1\ufffd2"],
  "special-token text": [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>\n", "a<|im_end|>b", "text <|endoftext|> more text", "<repo_name>", "<file_sep>", "<jupyter_code>", "<empty_output>", "<filename>src/main.rs", "<|im_start|", "<|im_", "im_start|>", "< |im_start| >", "<|IM_START|>", "<|im_start|><|im_end|>", "<s>[INST] hi [/INST]</s>", "<0x0A>", "<unk>",
  ],
  code: [
    "fn main() {\n    println!(\"Hello, {}!\", name);\n}\n", "let mut v: Vec<Option<&'static str>> = vec![None; 10];", "impl<'a, T: Clone + 'a> Iterator for Foo<'a, T> {}", "#[derive(Debug, Clone)]\npub struct P { x: f32, y: f32 }",
    "def f(x, *args, **kwargs):\n    return [i ** 2 for i in range(x) if i % 2 == 0]\n", "if __name__ == \"__main__\":\n\tmain()", "class A(B):\n    '''Docstring'''\n\n    def __init__(self):\n        self.x = 1",
    "const f = async ({ a, ...rest }) => await fetch(`/api/${a}?q=1`);", "for (let i = 0; i < n; i++) { sum += a[i] ?? 0; }", "interface Props<T extends object = {}> { readonly items?: T[] }",
    "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 1 << 3); return 0; }", "std::unique_ptr<std::vector<int>> p = std::make_unique<std::vector<int>>();", "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name ORDER BY 2 DESC;",
    "@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;", "<div class=\"a b\" id='x'>&nbsp;&amp;<br/></div>", "body { margin: 0 auto; color: #ff00AA; }", "{\"key\": [1, 2.5, true, null], \"nested\": {\"a\": \"b\\n\"}}",
    "key: value\n- item: 1\n  sub: |\n    text\n", "#!/bin/sh\nset -eu\nfor f in *.txt; do echo \"$f\" | sed 's/a/b/g' > /dev/null 2>&1; done", "\\begin{equation} \\frac{a}{b} = \\sum_{i=0}^{n} x_i^2 \\end{equation}",
    "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"hi\")\n}\n", "main :: IO ()\nmain = mapM_ print $ filter (> 3) [1..10]", "x = a[b[c]][::-1] # comment", "/* block */ // line", "a += b -= c *= d /= e %= f ^= g |= h &= i <<= j >>= k", "!==  === =>  -> <- :: ... ..= && || ?? ?.", "```rust\nlet x = 1;\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "(((((())))))[[[]]]{{{}}}",
  ],
  "URLs and paths": ["https://example.com/path/to?query=1&b=%20c#frag", "user.name+tag@example.co.uk", "C:\\Users\\me\\file.txt", "/usr/local/bin/../lib", "file:///a%2Fb", "www.example.org", "git@example.com:a/b.git"],
  long: [
    repeat("a", 100), repeat("ab", 64), "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "pneumonoultramicroscopicsilicovolcanoconiosis", repeat("ha", 40), repeat("!", 64), repeat("=", 80), repeat("-", 33) + "\n" + repeat("-", 33), repeat("中", 40), repeat("\u{1f600}", 12), repeat("9", 50), "ACGTACGTTAGCCGATCGATCGGCTAGCTAGGATCCGATCGTACGATCG", "dGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZw==", repeat("word ", 40), repeat("\n", 40),
  ],
  mixed: [
    "Hello你好Привет مرحبا\u{1f600}123", "naïve café—“quoted” ‘single’", "x≤y ∧ y≥z ⇒ ∀ε>0 ∃δ", "→ ← ↑ ↓ ⇄", "™ © ® § ¶ † ‡ •", "€100 £20 ¥3000 ₹50 ₿1", "┌─┐│ │└─┘ ▓▒░", "Q: Why?\nA: Because!\n\n1. One\n2. Two\n\t- sub", "a'b\"c`d", "foo\u0000bar\ufffdbaz\u200dqux", "日本 was founded 1234年 ago\u{1f3ef}.", "µ μ Ω Ω K K", "ﷺ ﷽", "ǅ ǈ ǋ", "ʰʷ ˈstress ˌmark", "ª º ᵃ",
  ],
};

/** Texts whose tokens, taken one by one, are not whole characters. */
export const PIECES = [
  "\u{1f600}", "\u{1fae0}", "\u{1f44d}\u{1f3fd}", "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466}", "\u{1f3f3}\ufe0f\u200d\u{1f308}", "\u{1f1eb}\u{1f1f7}", "a\u{1f9e0}b", "fire \u{1f525}!", "1\ufe0f\u20e3",
  "你好世界", "こんにちは", "안녕하세요", "नमस्ते", "สวัสดี", "مرحبا", "שלום", "cafe\u0301", "\u{1d4d7}\u{1d4ee}", "\u{20000}", "\u{10ffff}", "မင်္ဂလာပါ", "Hi \u{1f44b}\u{1f30d} ok", "\ufffd", "x\u{1f600}\u{1f600}\u{1f600}y", "𓀀", "naïve — “ok”",
];
