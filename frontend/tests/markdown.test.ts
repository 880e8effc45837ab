import assert from "node:assert/strict";
import { test } from "node:test";

import { createMarkdown } from "../chat/markdown.ts";

const markdown = createMarkdown((name) => name);

test("formulas are found in all four spellings", () => {
  assert.match(markdown("so $x^2$ is"), /<span class="math-inline">x\^2<\/span>/);
  assert.match(markdown("so \\(x^2\\) is"), /<span class="math-inline">x\^2<\/span>/);
  assert.match(markdown("$$\nx < y\n$$"), /<span class="math-display">\s*x &lt; y\s*<\/span>/);
  assert.match(markdown("\\[\nE = mc^2\n\\]"), /<span class="math-display">/);
});

test("money is not a formula", () => {
  for (const text of ["$5 and $10", "between $5–$10", "US$ 3 or US$ 4", "it costs $5."]) {
    assert.ok(!markdown(text).includes("math"), text);
  }
});

test("code is never read as a formula", () => {
  assert.ok(!markdown("`$x$`").includes("math"));
  assert.ok(!markdown("```\n$$x$$\n```").includes("math"));
});

test("half a formula is plain text until its end arrives", () => {
  assert.ok(!markdown("$$\nx <").includes("math"));
});

test("headings start below the page's own, and tables align by class", () => {
  assert.match(markdown("# Title"), /<h3>Title<\/h3>/);
  const table = markdown("| a | b |\n|---|--:|\n| 1 | 2 |");
  assert.match(table, /<td class="align-right">2<\/td>/);
  assert.ok(!table.includes("style="));
});

test("raw HTML stays text", () => {
  assert.ok(!markdown("a <b>bold</b> <script>x</script>").includes("<b>"));
});
