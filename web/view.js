/** Everything the page shows besides the lanes: status, messages, agent state, captions, figures, buttons. */

const PHASES = {
  idle: "Not connected",
  opening: "Waiting for the microphone…",
  connecting: "Connecting…",
  live: "Connected",
  reconnecting: "Connection lost, reconnecting…",
  ended: "Not connected",
};

const AGENT_STATES = { off: "Ready", listening: "Listening", thinking: "Thinking", speaking: "Speaking" };

const HINTS = {
  off: "Press Start and speak. You can interrupt at any time.",
  listening: "Go ahead, speak.",
  thinking: "One moment.",
  speaking: "You can talk over it.",
};

const USER_STATES = { silent: "", speaking: "speaking", backchannel: "just agreeing" };

const byId = (id) => document.getElementById(id);
const milliseconds = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} ms`);

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text;
  return node;
}

/** A button that keeps the keyboard's focus while it cannot be used, which `disabled` would take away. */
function unavailable(id, value) {
  byId(id).ariaDisabled = String(value);
}

export class View {
  /** `actions`: start, stop, mute, interrupt, say(text), openSettings; called when the user wants them. */
  constructor(actions) {
    this.nodes = new Map(); // transcript entry -> list item
    this.agentState = "off";
    this.mutedNow = false;
    this.unsent = false; // a message waits for the connection
    this.scroller = document.querySelector(".scroller");
    byId("start").addEventListener("click", actions.start);
    byId("stop").addEventListener("click", actions.stop);
    byId("mute").addEventListener("click", actions.mute);
    byId("interrupt").addEventListener("click", () => {
      if (byId("interrupt").ariaDisabled !== "true") actions.interrupt();
    });
    byId("open-settings").addEventListener("click", actions.openSettings);
    byId("notice-close").addEventListener("click", () => this.hideNotice());
    byId("notice-action").addEventListener("click", () => this.noticeAction?.());
    byId("say-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = byId("message").value.trim();
      this.unsent = Boolean(text) && !actions.say(text);
      if (!this.unsent) byId("message").value = "";
    });
    byId("message").addEventListener("input", () => (this.unsent = false));
  }

  phase(phase) {
    byId("status").dataset.phase = phase;
    byId("status-text").textContent = PHASES[phase];
    const running = !["idle", "ended"].includes(phase);
    const focusedStart = document.activeElement === byId("start");
    const focusedStop = document.activeElement === byId("stop");
    byId("start").hidden = running;
    byId("stop").hidden = !running;
    byId("mute").disabled = !running;
    byId("message").readOnly = !running; // and not disabled, which takes the keyboard's focus away
    unavailable("send", phase !== "live");
    if (focusedStart && running) byId("stop").focus();
    if (focusedStop && !running) byId("start").focus();
    if (phase !== "live") this.user("silent");
    if (!running) {
      this.agent("off");
      this.unsent = false;
    } else if (phase === "live" && this.unsent) byId("say-form").requestSubmit();
  }

  agent(state) {
    this.agentState = state;
    for (const id of ["agent-state", "orb"]) byId(id).dataset.state = state;
    byId("agent-state").textContent = AGENT_STATES[state];
    unavailable("interrupt", !["thinking", "speaking"].includes(state));
    this.hint();
  }

  hint() {
    const deaf = this.mutedNow && this.agentState !== "off";
    byId("hint").textContent = deaf ? "Your microphone is muted." : HINTS[this.agentState];
  }

  user(state) {
    byId("user-state").textContent = USER_STATES[state] ?? "";
    byId("user-state").hidden = !USER_STATES[state];
  }

  muted(value) {
    byId("mute").setAttribute("aria-pressed", String(value));
    this.mutedNow = value;
    this.hint();
  }

  /** Level of the agent's voice, 0 to 1, for the orb. */
  level(value) {
    byId("orb").style.setProperty("--level", value.toFixed(2));
  }

  figures({ firstAudioMs, medianMs, roundTripMs }) {
    byId("first-audio").textContent = milliseconds(firstAudioMs);
    byId("first-audio-median").textContent = milliseconds(medianMs);
    byId("round-trip").textContent = milliseconds(roundTripMs);
  }

  /** A message above the page: {kind: "error" | "info", title, text, action?: {label, run}, topic?}. */
  notice({ kind = "error", title, text, action = null, topic = null }) {
    this.topic = topic;
    byId("notice").dataset.kind = kind;
    byId("notice-title").textContent = title;
    byId("notice-text").textContent = text;
    byId("notice-action").hidden = !action;
    byId("notice-action").textContent = action?.label ?? "";
    this.noticeAction = action && (() => {
      this.hideNotice();
      action.run();
    });
    byId("notice").hidden = false;
  }

  /** Hides the message, or only one on a `topic`. */
  hideNotice(topic = this.topic) {
    if (topic === this.topic) byId("notice").hidden = true;
  }

  divider(text) {
    byId("captions").append(element("li", "entry divider", text));
    this.follow();
  }

  /** Draws one transcript entry; `heardPts` is how far the agent's audio has been heard. */
  entry(entry, heardPts) {
    byId("empty").hidden = true;
    let node = this.nodes.get(entry);
    if (!node) {
      node = element("li", `entry from-${entry.role}`);
      node.append(element("div", "who"), element("p", "words"));
      this.nodes.set(entry, node);
      byId("captions").append(node);
    }
    if (entry.role === "user") this.userEntry(node, entry);
    else this.agentEntry(node, entry, heardPts);
    this.follow();
  }

  userEntry(node, { text, status, spokenMs }) {
    const [who, words] = node.children;
    who.replaceChildren(element("b", "", "You"));
    node.classList.toggle("minor", status === "backchannel");
    words.classList.toggle("spoken", !text);
    const seconds = `${(spokenMs / 1000).toFixed(1)} s`;
    const spoken = { speaking: "Speaking…", backchannel: `Spoke along, ${seconds}` }[status] ?? `Spoke for ${seconds}`;
    words.textContent = text || spoken;
  }

  agentEntry(node, entry, heardPts) {
    const [who, words] = node.children;
    node.hidden = entry.deltas.length === 0; // nothing said yet, or withdrawn before its first word
    byId("captions").setAttribute("aria-busy", String(!entry.final)); // read aloud once, when complete
    who.replaceChildren(element("b", "", "Agent"));
    if (entry.firstAudioMs !== null) who.append(element("span", "", `first audio ${milliseconds(entry.firstAudioMs)}`));
    if (entry.interrupted) who.append(element("span", "", entry.heardText ? "interrupted" : "withdrawn"));
    if (entry.interrupted) {
      words.replaceChildren(element("span", "heard", entry.heardText), element("s", "unheard", entry.unheardText));
    } else {
      for (const { text, pts } of entry.deltas.slice(words.children.length)) {
        const span = element("span", "pending", text);
        span.dataset.pts = pts;
        words.append(span);
      }
      this.progress(entry, heardPts);
    }
  }

  /** Words turn from faint to full as they are heard. */
  progress(entry, heardPts) {
    const words = this.nodes.get(entry)?.children[1];
    if (!words || entry.interrupted) return;
    for (const span of words.children) if (Number(span.dataset.pts) <= heardPts) span.classList.remove("pending");
  }

  /** Keeps the newest caption in sight unless the reader has scrolled back. */
  follow() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < 160) this.scroller.scrollTop = scrollHeight;
  }
}
