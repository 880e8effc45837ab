// Bundles frontend/ and static/css/ into static/build/. Entry names are stable (the server adds hashes when it
// collects static files); chunks that are loaded on demand carry a hash of their own.
import { readdir, readFile, rm } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const root = resolve(fileURLToPath(import.meta.url), "../..");
const output = resolve(root, "static/build");

/** The most a page may load before anything on demand, in bytes after gzip. */
const BUDGET = { "chat.js": 250_000, "models.js": 80_000, "overview.js": 60_000, "monitoring.js": 60_000, "usage.js": 60_000, "deployments.js": 6_000, "knowledge.js": 8_000, "administration.js": 12_000, "audit.js": 12_000, "review.js": 6_000, "app.js": 20_000, "app.css": 20_000 };

const options = {
  absWorkingDir: root,
  entryPoints: [
    { in: "frontend/administration.ts", out: "administration" },
    { in: "frontend/app.ts", out: "app" },
    { in: "frontend/audit.ts", out: "audit" },
    { in: "frontend/chat.ts", out: "chat" },
    { in: "frontend/deployments.ts", out: "deployments" },
    { in: "frontend/knowledge.ts", out: "knowledge" },
    { in: "frontend/models.ts", out: "models" },
    { in: "frontend/monitoring.ts", out: "monitoring" },
    { in: "frontend/overview.ts", out: "overview" },
    { in: "frontend/passkeys.ts", out: "passkeys" },
    { in: "frontend/platform.ts", out: "platform" },
    { in: "frontend/proof.ts", out: "proof" },
    { in: "frontend/review.ts", out: "review" },
    { in: "frontend/usage.ts", out: "usage" },
    { in: "static/css/app.css", out: "app" },
    { in: "static/css/charts.css", out: "charts" },
    { in: "static/css/math.css", out: "math" },
  ],
  chunkNames: "chunks/[name]-[hash]",
  assetNames: "assets/[name]-[hash]",
  outdir: output,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["chrome123", "firefox121", "safari17.5"],
  minify: true,
  sourcemap: "linked",
  metafile: true,
  legalComments: "linked",
  loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
  logLevel: "warning",
};

/** Bytes after gzip of an output and of everything it imports at once. */
async function weight(outputs, name, seen = new Set()) {
  if (seen.has(name)) return 0;
  seen.add(name);
  let bytes = gzipSync(await readFile(resolve(root, name))).length;
  for (const imported of outputs[name].imports) {
    if (imported.kind === "import-statement") bytes += await weight(outputs, imported.path, seen);
  }
  return bytes;
}

async function report({ outputs }) {
  let failed = false;
  for (const [name, { entryPoint }] of Object.entries(outputs)) {
    if (name.endsWith(".map") || !/\.(js|css)$/.test(name)) continue;
    const bytes = await weight(outputs, name);
    const budget = entryPoint ? BUDGET[basename(name)] : undefined;
    const over = budget !== undefined && bytes > budget;
    failed ||= over;
    const limit = budget ? ` of ${(budget / 1000).toFixed(0)}` : "";
    console.log(`${(bytes / 1000).toFixed(1).padStart(7)}${limit} kB gz  ${name}${over ? "  OVER BUDGET" : ""}`);
  }
  if (failed) process.exitCode = 1;
}

/** Chunks of earlier builds. They go last, so that a running server is never without its files. */
async function removeStale(outputs) {
  const fresh = new Set(Object.keys(outputs).map((name) => resolve(root, name)));
  for (const entry of await readdir(output, { recursive: true, withFileTypes: true })) {
    const path = resolve(entry.parentPath, entry.name);
    if (entry.isFile() && !entry.name.startsWith(".") && !fresh.has(path)) await rm(path);
  }
}

if (process.argv.includes("--watch")) {
  await (await esbuild.context(options)).watch();
} else {
  const { metafile } = await esbuild.build(options);
  await removeStale(metafile.outputs);
  await report(metafile);
}
