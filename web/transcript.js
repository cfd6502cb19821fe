/**
 * What was said, as a list of entries; no DOM. The view draws an entry whenever `onChange(entry)` names it.
 *
 * Agent entry: {role: "agent", turn, deltas: [{text, pts}], final, heardText, unheardText, interrupted, firstAudioMs}
 * User entry:  {role: "user", text (typed only), status: speaking | paused | answered | backchannel, spokenMs}
 */

const SAME_TURN_PAUSE_MS = 2500; // speech after a longer pause is shown as an entry of its own

/** Splits a caption at the end of what the agent remembers of it. */
export function splitHeard(fullText, heardText) {
  const heard = heardText.trim();
  const at = fullText.indexOf(heard);
  if (at < 0) return [heardText, ""];
  const end = at + heard.length;
  const space = fullText.slice(end).match(/^\s*/)[0].length;
  return [fullText.slice(0, end + space), fullText.slice(end + space)];
}

export class Transcript {
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.entries = [];
    this.agentByTurn = new Map();
    this.speaking = null; // the user entry that may still go on
  }

  /** A `state` message at `nowMs`. */
  state({ user, agent }, nowMs) {
    if (user === "speaking") this.userSpeaks(nowMs);
    else if (this.speaking) this.userStops(nowMs);
    if (user === "backchannel" && this.speaking) this.seal("backchannel");
    if (agent === "thinking" && this.speaking) this.seal("answered");
  }

  userSpeaks(nowMs) {
    if (this.speaking?.until < nowMs - SAME_TURN_PAUSE_MS) this.speaking = null;
    this.speaking ??= this.add({ role: "user", text: "", status: "speaking", spokenMs: 0 });
    const entry = this.speaking;
    entry.since ??= nowMs;
    entry.until = undefined;
    entry.status = "speaking";
    this.onChange(entry);
  }

  userStops(nowMs) {
    const entry = this.speaking;
    if (entry.since === undefined) return;
    entry.spokenMs += nowMs - entry.since;
    entry.since = undefined;
    entry.until = nowMs;
    entry.status = "paused";
    this.onChange(entry);
  }

  seal(status) {
    this.speaking.status = status;
    this.onChange(this.speaking);
    this.speaking = null;
  }

  typed(text) {
    this.onChange(this.add({ role: "user", text, status: "answered", spokenMs: 0 }));
  }

  /** A `text` message; a resumed session sends some again. */
  text({ turn, delta, pts, final }) {
    const entry = this.agentEntry(turn);
    const repeated = entry.deltas.some((known) => known.pts === pts && known.text === delta);
    if (delta && !repeated) entry.deltas.push({ text: delta, pts });
    if (final) entry.final = true;
    this.onChange(entry);
  }

  /** A `cut` message: the caption keeps what was heard, the rest stays visible as unsaid. */
  cut({ turn, heard_text: heardText = "" }) {
    const entry = this.agentByTurn.get(turn);
    if (!entry) return;
    this.agentByTurn.delete(turn); // a withdrawn reply may be followed by another one to the same turn
    const full = entry.deltas.map(({ text }) => text).join("");
    [entry.heardText, entry.unheardText] = splitHeard(full, heardText);
    entry.interrupted = true;
    entry.final = true;
    this.onChange(entry);
  }

  firstAudio(turn, milliseconds) {
    const entry = this.agentEntry(turn);
    entry.firstAudioMs = milliseconds;
    this.onChange(entry);
  }

  /** The session is over or was replaced: nothing of it goes on. */
  close() {
    if (this.speaking) this.userStops(this.speaking.since);
    this.speaking = null;
    for (const entry of this.agentByTurn.values()) {
      if (entry.final) continue;
      entry.final = true;
      this.onChange(entry);
    }
    this.agentByTurn.clear();
  }

  agentEntry(turn) {
    const known = this.agentByTurn.get(turn);
    if (known) return known;
    const entry = this.add({ role: "agent", turn, deltas: [], final: false, interrupted: false, firstAudioMs: null });
    this.agentByTurn.set(turn, entry);
    return entry;
  }

  add(entry) {
    this.entries.push(entry);
    return entry;
  }
}
