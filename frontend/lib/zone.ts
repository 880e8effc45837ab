// Filter times are meant in the reader's zone: tell the server which one that is.
import { all, find } from "./dom.ts";

export function nameZone(): void {
  const field = find<HTMLInputElement>("[data-zone]");
  if (!field) return;
  field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const label of all("[data-zone-name]")) label.textContent = `(${field.value})`;
}
