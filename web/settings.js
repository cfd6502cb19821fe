/** The settings dialog: reads and writes the form, remembers it on this device, turns it into a session patch. */

const STORAGE_KEY = "duplex.settings";
const SAMPLING = ["temperature", "top_k", "top_p"];

/** Server and API key from the page's address: `?server=` and `#key=` (a fragment is never sent or logged). */
export function addressSettings(pageUrl) {
  const url = new URL(pageUrl);
  const fragment = new URLSearchParams(url.hash.slice(1));
  return {
    server: fragment.get("server") ?? url.searchParams.get("server") ?? "",
    apiKey: fragment.get("key") ?? url.searchParams.get("key") ?? "",
  };
}

/** Form values (strings) as the `session` of hello and update; empty fields are left to the server. */
export function sessionPatch(values) {
  const patch = {};
  if (values.instructions?.trim()) patch.instructions = values.instructions.trim();
  if (values.eagerness) patch.eagerness = values.eagerness;
  const given = SAMPLING.filter((name) => values[name]);
  if (given.length) patch.sampling = Object.fromEntries(given.map((name) => [name, Number(values[name])]));
  return patch;
}

/** What of a patch differs from the settings in force. */
export function changes(patch, inForce) {
  const different = {};
  for (const [key, value] of Object.entries(patch)) {
    if (typeof value === "object") {
      const inner = changes(value, inForce?.[key]);
      if (Object.keys(inner).length) different[key] = inner;
    } else if (value !== inForce?.[key]) different[key] = value;
  }
  return different;
}

export class SettingsDialog {
  /** `onApply()` runs when the user saves. */
  constructor(dialog, onApply) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.fields = Object.fromEntries([...this.form.elements].filter((e) => e.name).map((e) => [e.name, e]));
    this.defaults = {}; // the server's values of fields left empty
    this.restore();
    const address = addressSettings(location.href);
    if (address.server) this.fields.server.value = address.server;
    if (address.apiKey) this.fields.apiKey.value = address.apiKey;
    this.applied = this.values;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.applied = this.values;
      this.remember();
      dialog.close();
      onApply();
    });
    dialog.addEventListener("close", () => { // what was not applied is not meant
      for (const [name, value] of Object.entries(this.applied)) this.fields[name].value = value;
    });
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the backdrop
    });
  }

  open(fieldName) {
    if (!this.dialog.open) this.dialog.showModal();
    this.fields[fieldName]?.focus();
  }

  get values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.value]));
  }

  get patch() {
    const filled = Object.entries(this.values).filter(([, value]) => value.trim());
    return sessionPatch({ ...this.defaults, ...Object.fromEntries(filled) });
  }

  /** Learns the server's own values from `ready`: they show where the form is empty, and come back when it is emptied. */
  learnDefaults({ instructions, eagerness, sampling }) {
    for (const [name, value] of Object.entries({ instructions, eagerness, ...sampling })) {
      const field = this.fields[name];
      if (!field || field.value.trim() || value === null || value === undefined) continue;
      this.defaults[name] ??= String(value);
      if (field.placeholder !== undefined) field.placeholder = this.defaults[name];
    }
  }

  remember() {
    const { server: _server, apiKey: _apiKey, ...kept } = this.values;
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(kept));
    } catch {
      // Storage can be switched off; then the settings last as long as the page.
    }
  }

  restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
      for (const [name, value] of Object.entries(kept)) if (this.fields[name]) this.fields[name].value = value;
    } catch {
      // Nothing kept, or not ours.
    }
  }
}
