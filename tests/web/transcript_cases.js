import { Transcript, splitHeard } from "/transcript.js";
import { addressSettings, changes, sessionPatch } from "/settings.js";
import { equal, ok } from "./check.js";

function spoken(transcript, turn, words) {
  words.forEach((text, i) => transcript.text({ turn, delta: text, pts: i * 1000, final: false }));
}

export function test_split_keeps_the_space_with_what_was_heard() {
  equal(splitHeard("Paris is in France.", "Paris is"), ["Paris is ", "in France."]);
  equal(splitHeard("Paris", ""), ["", "Paris"]);
  equal(splitHeard("Paris", "Paris"), ["Paris", ""]);
  equal(splitHeard("Pa", "Paris"), ["Paris", ""]);
}

export function test_interrupted_reply_is_divided_at_the_heard_point() {
  const transcript = new Transcript();
  spoken(transcript, 1, ["Paris ", "is ", "in ", "France."]);
  transcript.cut({ turn: 1, heard_text: "Paris is" });
  const [entry] = transcript.entries;
  equal([entry.interrupted, entry.heardText, entry.unheardText], [true, "Paris is ", "in France."]);
}

export function test_withdrawn_reply_and_its_successor_are_two_entries() {
  const transcript = new Transcript();
  spoken(transcript, 1, ["Too ", "early"]);
  transcript.cut({ turn: 1, heard_text: "" });
  spoken(transcript, 1, ["Now"]);
  equal(transcript.entries.map(({ interrupted, deltas }) => [interrupted, deltas.length]), [[true, 2], [false, 1]]);
}

export function test_words_sent_again_after_a_resumption_appear_once() {
  const transcript = new Transcript();
  spoken(transcript, 1, ["Paris ", "is "]);
  spoken(transcript, 1, ["Paris ", "is ", "in "]);
  equal(transcript.entries[0].deltas.map(({ text }) => text), ["Paris ", "is ", "in "]);
}

export function test_pauses_and_early_decisions_do_not_split_the_users_turn() {
  const transcript = new Transcript();
  transcript.state({ user: "speaking", agent: "listening", turn: 1 }, 0);
  transcript.state({ user: "silent", agent: "listening", turn: 1 }, 1000);
  transcript.state({ user: "silent", agent: "thinking", turn: 1 }, 1100);
  transcript.state({ user: "speaking", agent: "listening", turn: 1 }, 1600);
  transcript.state({ user: "silent", agent: "thinking", turn: 1 }, 2600);
  equal(transcript.entries.map(({ status, spokenMs }) => [status, spokenMs]), [["answered", 2000]]);
}

export function test_the_next_turn_is_a_new_entry() {
  const transcript = new Transcript();
  transcript.state({ user: "speaking", agent: "listening", turn: 1 }, 0);
  transcript.state({ user: "silent", agent: "listening", turn: 1 }, 500);
  transcript.state({ user: "speaking", agent: "listening", turn: 2 }, 900);
  equal(transcript.entries.map(({ status }) => status), ["paused", "speaking"]);
}

export function test_backchannel_is_marked_and_closed() {
  const transcript = new Transcript();
  transcript.state({ user: "speaking", agent: "speaking", turn: 2 }, 0);
  transcript.state({ user: "silent", agent: "speaking", turn: 2 }, 300);
  transcript.state({ user: "backchannel", agent: "speaking", turn: 2 }, 350);
  transcript.state({ user: "silent", agent: "speaking", turn: 2 }, 350);
  transcript.state({ user: "speaking", agent: "speaking", turn: 3 }, 900);
  equal(transcript.entries.map(({ status, spokenMs }) => [status, spokenMs]), [["backchannel", 300], ["speaking", 0]]);
}

export function test_barge_in_is_answered() {
  const transcript = new Transcript();
  transcript.state({ user: "speaking", agent: "speaking", turn: 2 }, 0);
  transcript.state({ user: "speaking", agent: "listening", turn: 2 }, 500);
  transcript.state({ user: "silent", agent: "thinking", turn: 2 }, 1500);
  equal(transcript.entries.map(({ status }) => status), ["answered"]);
}

export function test_close_finishes_what_was_open() {
  const transcript = new Transcript();
  spoken(transcript, 1, ["Half a"]);
  transcript.close();
  ok(transcript.entries[0].final);
  spoken(transcript, 1, ["Another session's first turn"]);
  equal(transcript.entries.length, 2);
}

export function test_settings_leave_empty_fields_to_the_server() {
  equal(sessionPatch({ instructions: " ", eagerness: "", temperature: "", top_k: "", top_p: "" }), {});
  equal(sessionPatch({ instructions: "Be brief.", eagerness: "high", temperature: "0", top_k: "5", top_p: "" }), {
    instructions: "Be brief.", eagerness: "high", sampling: { temperature: 0, top_k: 5 },
  });
}

export function test_only_changed_settings_are_sent() {
  const inForce = { instructions: "Be brief.", sampling: { temperature: 0.7, top_k: 20 } };
  equal(changes({ instructions: "Be brief.", sampling: { temperature: 0.7, top_k: 5 } }, inForce), { sampling: { top_k: 5 } });
  equal(changes({ instructions: "Be brief." }, inForce), {});
}

export function test_server_and_key_come_from_the_address() {
  equal(addressSettings("http://x/?server=wss://a:1#key=K"), { server: "wss://a:1", apiKey: "K" });
  equal(addressSettings("http://x/"), { server: "", apiKey: "" });
}
