/**
 * What was said, as a list of entries; no DOM. The view draws an entry whenever `onChange(entry)` names it.
 *
 * Agent entry: {role: "agent", turn, deltas: [{text, pts}], final, heardText, unheardText, interrupted, firstAudioMs}
 * User entry:  {role: "user", turn, text (typed only), status: speaking | paused | answered | backchannel, spokenMs}
 */

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
    this.speaking = null; // the user entry that is open
  }

  /** A `state` message at `nowMs`. */
  state({ user, agent, turn }, nowMs) {
    if (user === "speaking") this.userSpeaks(turn, nowMs);
    else if (this.speaking) this.userStops(nowMs);
    if (user === "backchannel" && this.speaking) this.seal("backchannel");
    if (agent === "thinking" && this.speaking) this.seal("answered");
  }

  /** Speech in a turn that is not answered yet goes on in the same entry, however often it paused. */
  userSpeaks(turn, nowMs) {
    const last = this.entries.at(-1);
    const sameTurn = last?.role === "user" && last.turn === turn && last.status !== "backchannel";
    this.speaking = sameTurn ? last : this.add({ role: "user", turn, text: "", status: "speaking", spokenMs: 0 });
    this.speaking.since ??= nowMs;
    this.speaking.status = "speaking";
    this.onChange(this.speaking);
  }

  userStops(nowMs) {
    const entry = this.speaking;
    if (entry.since === undefined) return;
    entry.spokenMs += nowMs - entry.since;
    entry.since = undefined;
    entry.status = "paused";
    this.onChange(entry);
  }

  seal(status) {
    this.speaking.status = status;
    this.onChange(this.speaking);
    this.speaking = null;
  }

  typed(text) {
    this.onChange(this.add({ role: "user", turn: null, text, status: "answered", spokenMs: 0 }));
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
