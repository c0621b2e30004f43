import assert from "node:assert/strict";
import { test } from "node:test";
import { EmberglassError } from "../src/errors.js";
import { type HubOptions, hubModel } from "../src/hub-source.js";
import { openTextModel } from "../src/load.js";
import { toWireSource } from "../src/source.js";
import { rejects } from "./harness.js";

const HUB = ["https://huggingface.co"];
const read = (source: string, options: HubOptions = {}) => hubModel(source, "source", options);
const plain = (name: string, more: object) => ({ name, repository: "o/r", revision: "main", hubs: HUB, ...more });

function refused(source: string, options: HubOptions = {}): EmberglassError {
  try {
    read(source, options);
  } catch (error) {
    assert.ok(error instanceof EmberglassError && error.code === "invalid-option", String(error));
    return error;
  }
  assert.fail(`${source} is taken`);
}

test("the forms of a source of a hub", () => {
  assert.deepEqual(read("hf:o/r"), plain("hf:o/r", {}));
  assert.deepEqual(read("HF://o/r"), plain("hf:o/r", {}));
  assert.deepEqual(read("hf:o/r:q4_k_m"), plain("hf:o/r:Q4_K_M", { quantization: "Q4_K_M" }));
  assert.deepEqual(read("hf:o/r:UD-Q4_K_XL"), plain("hf:o/r:UD-Q4_K_XL", { quantization: "UD-Q4_K_XL" }));
  assert.deepEqual(read("hf:o/r/a b/m:1.gguf"), plain("hf:o/r/a b/m:1.gguf", { path: "a b/m:1.gguf" }));
  assert.deepEqual(read("hf:o/r@v1.0:Q8_0"), plain("hf:o/r@v1.0:Q8_0", { revision: "v1.0", quantization: "Q8_0" }));
  assert.deepEqual(read("hf:o/r@refs%2Fpr%2F1/m.gguf"), plain("hf:o/r@refs%2Fpr%2F1/m.gguf", { revision: "refs/pr/1", path: "m.gguf" }));
  assert.equal(read("hf:01-ai/Yi-1.5_6B.x--y").repository, "01-ai/Yi-1.5_6B.x--y");
});

test("the revision and the hubs may be options", () => {
  assert.equal(read("hf:o/r", { revision: "refs/pr/1" }).name, "hf:o/r@refs%2Fpr%2F1");
  assert.equal(read("hf:o/r@main", { revision: "main" }).name, "hf:o/r");
  assert.match(refused("hf:o/r@v1", { revision: "v2" }).message, /^option revision = "v2" is another revision than the source's own, "v1"/);
  assert.deepEqual(read("hf:o/r", { hubs: ["https://a.test/", new URL("https://b.test/hub/")] }).hubs, ["https://a.test", "https://b.test/hub"]);
  assert.equal(read("hf:o/r", { accessToken: "hf_x" }).accessToken, "hf_x");
});

test("what is no source of a hub is named, with the forms that there are", () => {
  const wrong: [string, RegExp][] = [
    ["hf:", /does not name an owner and a repository/],
    ["hf:o", /does not name an owner and a repository/],
    ["hf:o/", /"" is no name of a repository/],
    ["hf:huggingface.co/o/r", /leave the hub's own name out/],
    ["hf:/r", /"" is no name of an owner/],
    ["hf:../r", /"\.\." is no name of an owner/],
    ["hf:o/..", /"\.\." is no name of a repository/],
    ["hf:o/r%2F", /"r%2F" is no name/],
    ["hf:o o/r", /"o o" is no name of an owner/],
    [`hf:o/${"r".repeat(97)}`, /no name of a repository/],
    ["hf:o/r/", /path has an empty part/],
    ["hf:o/r//m", /path has an empty part/],
    ["hf:o/r/a/../m", /path has a part \. or \.\./],
    ["hf:o/r/./m", /path has a part \. or \.\./],
    ["hf:o/r/a\u0000", /control character/],
    ["hf:o/r/a\nb", /control character/],
    ["hf:o/r/a\\b", /backslash/],
    ["hf:o/r:", /"" is no quantization/],
    ["hf:o/r:Q4/x", /"Q4\/x" is no quantization/],
    ["hf:o/r@", /"" is no revision/],
    ["hf:o/r@..", /"\.\." is no revision/],
    ["hf:o/r@a%2F..%2Fb", /is no revision/],
    ["hf:o/r@%zz", /not percent-encoded rightly/],
    [`hf:o/r/${"x".repeat(1000)}`, /longer than 1000 characters/],
  ];
  for (const [source, words] of wrong) {
    const { message } = refused(source);
    assert.match(message, words);
    assert.match(message, /The forms are hf:owner\/repo, hf:owner\/repo:Q4_K_M or hf:owner\/repo\/path\/to\/file\.gguf/);
    assert.ok(message.length < 450, message);
  }
});

test("options of a hub are checked, and the token is in no message", () => {
  for (const revision of ["", "a b", "..", "a//b", "a/./b", "a:b", "x".repeat(201), "a\u0007", "a@{1}"]) {
    assert.equal(refused("hf:o/r", { revision }).detail, "revision");
  }
  for (const hubs of [[], new Array(9).fill("https://a.test"), ["ftp://a.test"], ["https://u:p@a.test"], ["https://a.test?x=1"], ["https://a.test#x"]]) {
    const { message, detail } = refused("hf:o/r", { hubs });
    assert.match(detail ?? "", /^hubs/);
    assert.doesNotMatch(message, /u:p/);
  }
  for (const [accessToken, hubs, words] of [
    ["", HUB, /accessToken is empty/],
    ["secret token", HUB, /accessToken is empty, or has a space/],
    ["secret\r\nX: y", HUB, /accessToken is empty, or has a space/],
    [`secret${"x".repeat(1000)}`, HUB, /longer than 1000/],
    ["secret", ["https://a.test", "http://b.test"], /would be sent to http:\/\/b.test without encryption/],
  ] as [string, string[], RegExp][]) {
    const { message, detail } = refused("hf:o/r", { accessToken, hubs });
    assert.match(message, words);
    assert.equal(detail, "accessToken");
    assert.doesNotMatch(message, /secret/);
  }
  assert.equal(read("hf:o/r", { accessToken: "t", hubs: ["http://localhost:8080"] }).accessToken, "t");
});

test("options of a hub with another source are errors, for they would change nothing", async () => {
  for (const options of [{ revision: "main" }, { accessToken: "t" }, { hubs: HUB }]) {
    for (const source of ["https://e.test/m.gguf", new Blob(["x"]), { stored: "0af9".repeat(8) }]) {
      const { detail } = await rejects(toWireSource(source, options), "invalid-option");
      assert.deepEqual([detail], Object.keys(options));
    }
  }
  const loading = openTextModel("hf:o/r", { revision: 5 as never }, () => assert.fail("a worker"));
  assert.equal((await rejects(loading, "invalid-option")).detail, "revision");
});
