/**
 * One conversation with the server: handshake, keepalive, playback reports, and after a dropped connection
 * reconnection with a growing delay and the resume token. No DOM; socket, clock and timers can be replaced.
 *
 * Handlers, all optional:
 *   onPhase(phase, detail)   connecting | live | reconnecting | ended; detail of ended is {code, message}
 *   onReady(ready)           also after each reconnection; `ready.resumed` tells a resumed from a fresh session
 *   onMessage(message)       every other JSON message
 *   onAudio(frame)           agent audio to play, in order and without repeats
 *   onFlush()                drop queued playback
 *   onFresh(ready)           a new session has begun, its clocks start at ready.epoch and ready.pts
 */

import { AgentStream, FRAME_MS, MicrophoneQueue, VERSION, decodeFrame, subprotocols } from "./wire.js";

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5000;
const GIVE_UP_MS = 120_000;
const HANDSHAKE_MS = 10_000;
const PING_MS = 3000;
const SILENCE_LIMIT_MS = 10_000; // no message for this long, pongs included: the connection is dead
const DOUBT_MS = 3000; // the same where there are signs that it may be
const PLAYED_MS = 100;
const PROBE_MS = 5000;
const STABLE_MS = 5000; // live for this long, the next loss is a new one and its delays begin anew
const DONE = 1000; // to the server a goodbye
const ABANDONED = 3001; // any other code keeps the session for a resume

const CLOSE_CODES = {
  1000: "finished",
  1008: "policy",
  1009: "too_large",
  4400: "bad_hello",
  4401: "unauthorized",
  4408: "idle",
  4409: "replaced",
  4413: "too_large",
  4429: "capacity",
  4503: "draining",
};

export class Session {
  /**
   * @param {object} options `url`, `apiKey`, `inputRate`, `outputRate`, `settings` (session part of hello),
   *   `heard` (() => {epoch, pts, queuedMs, underruns, outputMs} of the sound device)
   */
  constructor(options, handlers = {}, platform = {}) {
    this.options = options;
    this.handlers = handlers;
    this.platform = {
      socket: (url, protocols) => new WebSocket(url, protocols),
      now: () => performance.now(),
      random: Math.random,
      probe: probeReadiness,
      ...platform,
    };
    this.settings = options.settings ?? {};
    this.phase = "idle";
    this.microphone = new MicrophoneQueue(options.inputRate);
    this.agent = new AgentStream();
    this.lastCut = 0; // the newest epoch that a `cut` has told of
    this.resumeToken = null;
    this.ready = null;
    this.framesSent = 0;
    this.framesReceived = 0;
    this.reconnections = 0;
    this.attempt = 0;
    this.lostAt = null;
    this.roundTrips = [];
    this.lastPlayed = null;
  }

  start() {
    this.setPhase("connecting");
    this.connect();
  }

  /** Ends the conversation for good; the server frees its state at once. */
  stop() {
    if (this.phase === "ended") return;
    this.send({ type: "bye", reason: "user" });
    this.end("stopped");
  }

  get live() {
    return this.phase === "live";
  }

  get roundTripMs() {
    return this.roundTrips.length ? Math.min(...this.roundTrips) : null;
  }

  /** Sends a control message; returns false when there is no live connection. */
  send(message) {
    if (!this.live) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** Changes settings: all of them for a later hello, and `patch` of them now if live. */
  update(settings, patch) {
    this.settings = settings;
    return this.send({ type: "update", session: patch });
  }

  /** One frame from the microphone (Int16Array). */
  pushMicrophone(pcm) {
    if (!this.live) return;
    const { dropped } = this.microphone;
    this.microphone.push(pcm);
    if (this.microphone.dropped > dropped) this.doubt();
    for (const frame of this.microphone.take(this.socket.bufferedAmount)) {
      this.socket.send(frame);
      this.framesSent += 1;
    }
  }

  /**
   * Sends `played` while anything is queued, when it would tell the server anything new, or always when forced. Of a
   * queue that stands still the server would believe that it is heard.
   */
  reportPlayed(force = false) {
    const { epoch, pts, queuedMs, underruns, outputMs } = this.options.heard();
    const news = `${epoch}/${pts}/${queuedMs}`;
    if (!force && !queuedMs && news === this.lastPlayed) return;
    const report = { type: "played", epoch, pts, queued_ms: queuedMs, underruns, output_ms: outputMs };
    if (this.send(report)) this.lastPlayed = news;
  }

  /** The network is back: do not wait for the delay to pass. */
  retryNow() {
    if (this.phase !== "reconnecting" || !this.retryTimer) return;
    clearTimeout(this.retryTimer);
    this.connect();
  }

  setPhase(phase, detail = null) {
    this.phase = phase;
    this.handlers.onPhase?.(phase, detail);
  }

  connect() {
    this.retryTimer = null;
    this.fatal = null;
    let socket;
    try {
      socket = this.platform.socket(this.options.url, subprotocols(this.options.apiKey));
    } catch (error) {
      this.end(error instanceof TypeError ? "bad_key" : "bad_url", error.message);
      return;
    }
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.lastArrival = this.platform.now();
    socket.onopen = () => socket.send(JSON.stringify(this.hello()));
    socket.onmessage = ({ data }) => {
      this.lastArrival = this.platform.now();
      if (typeof data === "string") this.receive(JSON.parse(data));
      else this.receiveAudio(data);
    };
    socket.onclose = ({ code }) => this.closed(code);
    this.handshakeTimer = setTimeout(() => this.abandon(), HANDSHAKE_MS);
  }

  hello() {
    const { inputRate, outputRate } = this.options;
    const message = {
      type: "hello",
      v: VERSION,
      features: ["trace", "metrics"],
      input: { rate: inputRate, frame_ms: FRAME_MS },
      output: { rate: outputRate },
      playback: "report",
      session: this.settings,
    };
    if (this.resumeToken) {
      const { epoch, pts } = this.options.heard();
      message.resume = { token: this.resumeToken, last_seq: this.agent.lastSeq, played: { epoch, pts } };
    }
    return message;
  }

  receive(message) {
    if (message.type === "ready") this.becomeLive(message);
    else if (message.type === "pong") this.measureRoundTrip(message.t);
    else {
      if (message.type === "error" && message.fatal) this.fatal = message;
      if (message.type === "cut") {
        if (message.new_epoch === this.lastCut) return; // a resumed session tells it again
        this.lastCut = message.new_epoch;
        if (this.agent.cut(message.new_epoch)) {
          this.handlers.onFlush?.();
          this.reportPlayed(true);
        }
      }
      this.handlers.onMessage?.(message);
    }
  }

  receiveAudio(buffer) {
    const frame = decodeFrame(buffer);
    const fresh = frame && this.agent.accept(frame);
    if (!fresh) return;
    this.framesReceived += 1;
    this.handlers.onAudio?.(fresh);
  }

  becomeLive(ready) {
    clearTimeout(this.handshakeTimer);
    this.ready = ready;
    this.resumeToken = ready.resume_token;
    if (this.lostAt !== null) this.reconnections += 1;
    this.lostAt = null;
    if (ready.resumed) {
      this.microphone.resume(ready.mic_pts);
      if (this.agent.cut(ready.epoch)) this.handlers.onFlush?.();
    } else {
      this.handlers.onFresh?.(ready);
      this.microphone = new MicrophoneQueue(this.options.inputRate, ready.mic_pts);
      this.agent = new AgentStream(ready.epoch, ready.pts);
      this.lastCut = ready.epoch;
    }
    this.lastPlayed = null;
    this.timers = [
      setInterval(() => this.reportPlayed(), PLAYED_MS),
      setInterval(() => this.keepAlive(), PING_MS),
      setTimeout(() => (this.attempt = 0), STABLE_MS),
    ];
    this.setPhase("live");
    this.handlers.onReady?.(ready);
    this.keepAlive();
  }

  /** There are signs that the connection is dead: it has a short while to show that it is not. */
  doubt() {
    if (!this.live || this.doubtTimer) return;
    const asked = this.platform.now();
    this.send({ type: "ping", t: asked });
    this.doubtTimer = setTimeout(() => {
      this.doubtTimer = null;
      if (this.lastArrival < asked) this.abandon();
    }, DOUBT_MS);
  }

  keepAlive() {
    if (this.platform.now() - this.lastArrival > SILENCE_LIMIT_MS) this.abandon();
    else this.send({ type: "ping", t: this.platform.now() });
  }

  measureRoundTrip(sentAt) {
    this.roundTrips = [...this.roundTrips.slice(-4), this.platform.now() - sentAt];
  }

  /** Gives up on a socket that does not answer; its own close event may take a minute. */
  abandon() {
    this.detach(ABANDONED);
    this.closed(1006);
  }

  closed(code) {
    this.detach();
    if (this.phase === "ended") return;
    const reason = this.fatal?.code ?? CLOSE_CODES[code];
    if (this.resumeToken && !reason) this.reconnect();
    else if (reason) this.end(reason, this.fatal?.message);
    else this.explainRefusal();
  }

  detach(code = DONE) {
    clearTimeout(this.handshakeTimer);
    clearTimeout(this.doubtTimer);
    this.doubtTimer = null;
    for (const timer of this.timers ?? []) clearTimeout(timer); // intervals too
    this.timers = [];
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(code);
    this.socket = null;
  }

  reconnect() {
    const now = this.platform.now();
    this.lostAt ??= now;
    if (now - this.lostAt > GIVE_UP_MS) {
      this.end("unreachable");
      return;
    }
    const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.attempt);
    this.attempt += 1;
    this.retryTimer = setTimeout(() => this.connect(), delay * (0.75 + 0.5 * this.platform.random()));
    this.setPhase("reconnecting", { attempt: this.attempt });
  }

  /** Refused before the upgrade: browsers hide the HTTP status, the readiness probe often knows why. */
  async explainRefusal() {
    const reason = await this.platform.probe(this.options.url);
    if (this.phase !== "ended") this.end(reason);
  }

  end(code, message = "") {
    clearTimeout(this.retryTimer);
    this.retryTimer = null;
    this.setPhase("ended", { code, message });
    this.detach();
  }
}

/** Asks `/readyz` beside the socket: "capacity", "draining", or "unreachable". */
export async function probeReadiness(socketUrl) {
  const url = new URL("/readyz", socketUrl.replace(/^ws/, "http"));
  try {
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) });
    if (answer.status === 503) return (await answer.text()).includes("drain") ? "draining" : "capacity";
  } catch {
    // Also another origin without CORS: nothing more can be learnt.
  }
  return "unreachable";
}

