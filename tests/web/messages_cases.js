import { ending } from "/messages.js";
import { equal, ok } from "./check.js";

export function test_what_the_server_refuses_a_page_for_is_said() {
  const { title, text } = ending("bad_hello", "session.instructions: 3333 tokens, 2048 fit");
  ok(text.includes("session.instructions: 3333 tokens, 2048 fit"));
  equal(title, ending("bad_hello", "").title);
  equal(ending("stopped", ""), null);
}
