// Rows of a form that are ticked, and what can be done with them.
import { all, find, must } from "./dom.ts";
import { say, type Strings } from "./text.ts";

/** [data-tick-all] ticks the rows of its form; [data-bulk] shows how many are, and nothing while none is. */
export function setUpTicks(form: HTMLFormElement, strings: Strings): void {
  const rows = all<HTMLInputElement>(".tick input:not([data-tick-all])", form);
  const whole = find<HTMLInputElement>("[data-tick-all]", form);
  const bar = find("[data-bulk]", form);
  let last = -1;

  function show(): void {
    const ticked = rows.filter((row) => row.checked).length;
    if (bar) {
      bar.hidden = ticked === 0;
      must("[data-bulk-count]", bar).textContent = say(strings, "selected", { count: ticked });
    }
    if (!whole) return;
    whole.checked = ticked > 0 && ticked === rows.length;
    whole.indeterminate = ticked > 0 && ticked < rows.length;
  }

  whole?.addEventListener("change", () => {
    for (const row of rows) row.checked = whole.checked;
    show();
  });
  rows.forEach((row, index) =>
    row.addEventListener("click", (event) => {
      // With Shift, all between this one and the one before.
      if (event.shiftKey && last >= 0) {
        for (const between of rows.slice(Math.min(last, index), Math.max(last, index))) between.checked = row.checked;
      }
      last = index;
      show();
    }),
  );
  window.addEventListener("pageshow", show);
  show();
}
