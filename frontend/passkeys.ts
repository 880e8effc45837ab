// Passkeys: what the server asks goes to the browser's own dialogue, its answer into the form that is sent.
import { all, find, must, readJson } from "./lib/dom.ts";
import { say, type Strings } from "./lib/text.ts";

interface Options<T> {
  publicKey: T;
}

const strings = readJson<Strings>("passkey-strings");

/** The options in the page, or those at an address, which belong to this browser's session. */
async function options<T>(form: HTMLFormElement): Promise<T> {
  const url = form.dataset.options;
  if (!url) return readJson<Options<T>>("passkey-options").publicKey;
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`options: ${answer.status}`);
  return ((await answer.json()) as { request_options: Options<T> }).request_options.publicKey;
}

async function ask(form: HTMLFormElement): Promise<PublicKeyCredential> {
  const isNew = form.dataset.passkey === "create";
  const credential = isNew
    ? await navigator.credentials.create({
        publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(await options(form)),
      })
    : await navigator.credentials.get({
        publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(await options(form)),
      });
  return credential as PublicKeyCredential;
}

/** What went wrong, in words that help: most often the person closed the dialogue, or the address is a bare number. */
function explain(error: unknown): string {
  if (!("PublicKeyCredential" in window) || !("parseRequestOptionsFromJSON" in PublicKeyCredential)) {
    return say(strings, "unsupported");
  }
  const name = error instanceof DOMException ? error.name : "";
  if (name === "SecurityError") return say(strings, "insecure");
  if (name === "InvalidStateError") return say(strings, "known");
  return say(strings, name === "NotAllowedError" ? "cancelled" : "failed");
}

async function fill(form: HTMLFormElement): Promise<void> {
  const problem = find("[data-passkey-error]", form);
  if (problem) problem.hidden = true;
  try {
    const credential = await ask(form);
    must<HTMLInputElement>("[name=credential]", form).value = JSON.stringify(credential.toJSON());
    form.submit();
  } catch (error) {
    if (!problem) return;
    problem.textContent = explain(error);
    problem.hidden = false;
  }
}

for (const form of all<HTMLFormElement>("form[data-passkey]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void fill(form);
  });
}
