// Runs frontend/tests/ under Node's own test runner; esbuild turns the TypeScript into something Node reads.
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const root = resolve(fileURLToPath(import.meta.url), "../..");
const tests = resolve(root, "frontend/tests");
// Below the project, so that packages are found from there.
const output = await mkdtemp(join(root, "node_modules", ".custos-tests-"));

try {
  const names = (await readdir(tests)).filter((name) => name.endsWith(".test.ts"));
  await esbuild.build({
    entryPoints: names.map((name) => join(tests, name)),
    outdir: output,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = names.map((name) => join(output, name.replace(/\.ts$/, ".mjs")));
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { cwd: root, stdio: "inherit" });
  process.exitCode = status ?? 1;
} finally {
  await rm(output, { recursive: true, force: true });
}
