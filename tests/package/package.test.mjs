// The package as it is packed: what is in it, what publint and are-the-types-wrong say of it, and that its types compile in
// the oldest and the newest TypeScript, by each way of resolving modules. It takes a built pkg/dist.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import oldest from "typescript-oldest";

const PACKAGE = fileURLToPath(new URL("../../pkg/", import.meta.url));
const tool = (name) => fileURLToPath(new URL(`node_modules/${name}`, import.meta.url));
let project, tarball, installed;

before(() => {
  project = mkdtempSync(join(tmpdir(), "emberglass-package-"));
  const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", project], { cwd: PACKAGE, encoding: "utf8" }));
  tarball = join(project, filename);
  installed = join(project, "node_modules/emberglass");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"]);
  copyFileSync(new URL("consumer.ts", import.meta.url), join(project, "consumer.ts"));
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
});
after(() => rmSync(project, { recursive: true, force: true }));

test("the tarball has what its texts, maps and licences need", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  assert.equal(manifest.private, undefined);
  for (const file of ["README.md", "NOTICE.md", "LICENSE-MIT", "LICENSE-APACHE", "src/index.ts", "dist/index.js.map"]) readFileSync(join(installed, file));
  // Every file that the README links to is there.
  const readme = readFileSync(join(installed, "README.md"), "utf8");
  for (const [, target] of readme.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) readFileSync(join(installed, target));
});

test("publint has nothing to say", async () => {
  const { messages } = await publint({ pkgDir: installed, strict: true });
  assert.deepEqual(messages.map((message) => formatMessage(message, manifestOf(installed))), []);
});

test("are-the-types-wrong has nothing to say", () => {
  const { status, stdout } = spawnSync(process.execPath, [tool("@arethetypeswrong/cli/dist/index.js"), tarball, ...KNOWN], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

/** The package has modules only, as Node.js can require them, too; the wasm builds are addresses and have no types. */
const KNOWN = ["--ignore-rules", "cjs-resolves-to-esm", "--exclude-entrypoints", "./simd128.wasm", "./relaxed.wasm"];

for (const [name, compiler, ways] of [
  ["5.0", "typescript-oldest", [["ES2020", "node"], ["Node16", "node16"], ["ESNext", "bundler"]]],
  ["newest", "typescript-newest", [["Node16", "node16"], ["ESNext", "bundler"]]],
]) {
  for (const [module, moduleResolution] of ways) {
    test(`types compile: TypeScript ${name}, moduleResolution ${moduleResolution}`, () => {
      const compilerOptions = {
        target: "ES2020",
        lib: ["ES2020", "DOM"],
        types: [],
        module,
        moduleResolution,
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        noEmit: true,
      };
      writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }));
      const { status, stdout } = spawnSync(process.execPath, [tool(`${compiler}/bin/tsc`), "-p", project], { encoding: "utf8" });
      assert.equal(status, 0, stdout);
    });
  }
}

test("every optional member of a public type takes undefined", () => {
  const program = oldest.createProgram([join(installed, "dist/index.d.ts")], { types: [] });
  const refusing = [];
  for (const file of program.getSourceFiles()) {
    if (!file.fileName.includes("emberglass/dist/") || INTERNAL.test(file.fileName)) continue;
    const visit = (node) => {
      if (oldest.isInterfaceDeclaration(node) && MADE_HERE.includes(node.name.text)) return;
      const member = oldest.isPropertySignature(node) || oldest.isPropertyDeclaration(node);
      if (member && node.questionToken && !/(\| undefined|^unknown)$/.test(node.type.getText(file))) refusing.push(`${file.fileName.split("/").at(-1)}: ${node.getText(file)}`);
      oldest.forEachChild(node, visit);
    };
    visit(file);
  }
  assert.deepEqual(refusing, []);
});

/** What only the package makes, and what has to fit OpenAI's own type, which does not take undefined. */
const MADE_HERE = ["ChatCompletionChunk"];

/** Types of messages between page and worker. */
const INTERNAL = /\/(protocol|wasm-surface|helper-team|engine-client)\.d\.ts$/;

function manifestOf(folder) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}
