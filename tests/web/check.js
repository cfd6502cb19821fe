/** Assertions for the browser-side tests. */

export function equal(actual, expected) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`expected ${b}, got ${a}`);
}

export function ok(value, message) {
  if (!value) throw new Error(message ?? "expected something true");
}

export function throws(action, type) {
  try {
    action();
  } catch (error) {
    ok(error instanceof type, `expected ${type.name}, got ${error}`);
    return;
  }
  throw new Error(`expected ${type.name}`);
}
