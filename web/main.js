/** Wires the page: sound device, session, transcript, lanes, view. The only module that knows them all. */

import { AudioDevice, SoundError } from "./audio.js";
import { SOUND, ending, remark } from "./messages.js";
import { Scope, TurnLane, WaveformLane, loudness } from "./scope.js";
import { Session } from "./session.js";
import { SettingsDialog, changes } from "./settings.js";
import { Transcript } from "./transcript.js";
import { View } from "./view.js";
import { FRAME_MS, socketUrl } from "./wire.js";

const INPUT_RATE = 16000; // Hz; what the models hear, and a third of the upload of 48 kHz
const OUTPUT_RATE = 24000; // Hz; the codec's own
const REFRESH_MS = 100;

let device = null;
let session = null;
let muted = false;
let refreshTimer = null;
let settingsInForce = {};
let firstAudio = newFirstAudio();
const counters = { inputRms: 0, outputRms: 0, firstAudioMs: [] };

const transcript = new Transcript((entry) => view.entry(entry, heardPts()));
const view = new View({
  start: () => start({ microphone: true }),
  stop,
  mute: toggleMute,
  interrupt: () => session?.send({ type: "interrupt", epoch: session.agent.epoch }),
  say,
  openSettings: () => settings.open(),
});
const settings = new SettingsDialog(document.getElementById("settings"), applySettings);
const lanes = {
  input: new WaveformLane(document.getElementById("input-wave"), "--lane-user"),
  output: new WaveformLane(document.getElementById("output-wave"), "--lane-agent"),
  turn: new TurnLane(document.getElementById("turn-trace")),
};
const scope = new Scope(Object.values(lanes));
scope.draw();

function heardPts() {
  return device?.heard().pts ?? 0;
}

// Starting and stopping

async function start({ microphone }) {
  if (device) return;
  view.hideNotice();
  view.phase("opening");
  const opening = new AudioDevice({
    onFrame: microphoneFrame,
    onLevel: outputLevel,
    onStarted: utteranceStarted,
    onMicrophoneLost: () => tell(SOUND.lost),
    onMicrophoneSilenced: (silenced) => passing("silenced", silenced),
    onPaused: (paused) => passing("paused", paused, { label: "Continue", run: () => device?.resume() }),
  });
  device = opening;
  try {
    await opening.open({ microphone, inputRate: INPUT_RATE, outputRate: OUTPUT_RATE, frameMs: FRAME_MS });
  } catch (error) {
    if (device === opening) await refuseStart(error);
    return;
  }
  if (device !== opening) await opening.close(); // stopped while the browser was asking
  else openSession();
}

async function refuseStart(error) {
  await closeDevice();
  view.phase("ended");
  const code = error instanceof SoundError ? error.code : "unsupported";
  const typingWorks = ["denied", "missing", "busy"].includes(code);
  const typeInstead = { label: "Type instead", run: () => start({ microphone: false }) };
  tell(SOUND[code], typingWorks ? typeInstead : null);
  if (!(error instanceof SoundError)) throw error;
}

function openSession() {
  const { server, apiKey } = settings.values;
  let url;
  try {
    url = socketUrl(server.trim(), location.href);
  } catch {
    sessionPhase("ended", { code: "bad_url" });
    return;
  }
  session = new Session(
    { url, apiKey, inputRate: INPUT_RATE, outputRate: OUTPUT_RATE, settings: settings.patch, heard: () => device.heard() },
    {
      onPhase: sessionPhase,
      onReady: sessionReady,
      onMessage: (message) => receivers[message.type]?.(message),
      onAudio: agentAudio,
      onFlush: () => device.cut(),
      onFresh: sessionFresh,
    },
  );
  device.muted = muted;
  scope.start();
  refreshTimer = setInterval(refresh, REFRESH_MS);
  session.start();
}

function stop() {
  if (session) session.stop();
  else closeDevice().then(() => view.phase("ended"));
}

async function closeDevice() {
  const closing = device;
  device = null;
  await closing?.close();
}

function sessionPhase(phase, detail) {
  view.phase(phase);
  if (phase !== "ended") return;
  clearInterval(refreshTimer);
  scope.stop();
  transcript.close();
  session = null;
  closeDevice();
  view.level(0);
  const notice = ending(detail.code, detail.message);
  if (!notice) return;
  const key = ["unauthorized", "bad_key"].includes(detail.code);
  const address = ["bad_url", "unreachable"].includes(detail.code);
  const field = (key && "apiKey") || (address && "server") || (detail.code === "bad_hello" && "instructions");
  if (field) notice.action = { label: "Settings", run: () => settings.open(field) };
  view.notice(notice);
}

function sessionReady(ready) {
  settingsInForce = ready.session ?? {};
  settings.learnDefaults(settingsInForce);
  if (!ready.resumed) view.agent("listening");
}

function sessionFresh(ready) {
  device.reset(ready.epoch, ready.pts);
  firstAudio = newFirstAudio();
  if (!transcript.entries.length) return;
  transcript.close();
  view.divider("New conversation");
}

// From the server

const receivers = {
  state(message) {
    view.user(message.user);
    view.agent(message.agent);
    transcript.state(message, performance.now());
  },
  text: (message) => transcript.text(message),
  cut: (message) => transcript.cut(message),
  turn: (message) => lanes.turn.push(performance.now(), message),
  metrics(message) {
    firstAudio.metrics = message;
    showFirstAudio();
  },
  updated(message) {
    settingsInForce = message.session;
  },
  overload: () => view.notice(remark("overload")),
  notice: ({ code, message }) => view.notice(remark(code, message)),
  error({ code, message, fatal }) {
    if (!fatal) view.notice(remark(code, message));
  },
};

function agentAudio(frame) {
  if (frame.first) firstAudio = { ...newFirstAudio(), pts: frame.pts, arrivedAt: performance.now(), metrics: firstAudio.metrics };
  device.play(frame);
}

// Time to first audio: the server's figure (user's last speech sample to first frame sent), plus the network's
// round trip, plus what passed between the arrival of that frame and its sound.

function newFirstAudio() {
  return { pts: null, arrivedAt: null, heardAt: null, metrics: null };
}

function utteranceStarted({ pts, time }) {
  if (pts !== firstAudio.pts) return;
  firstAudio.heardAt = performance.now() + (time - device.now + device.outputLatency) * 1000;
  showFirstAudio();
}

function showFirstAudio() {
  const { metrics, heardAt, arrivedAt } = firstAudio;
  if (!metrics || heardAt === null) return;
  const total = metrics.first_audio_ms + (session.roundTripMs ?? 0) + (heardAt - arrivedAt);
  counters.firstAudioMs.push(Math.round(total));
  transcript.firstAudio(metrics.turn, total);
  firstAudio = newFirstAudio();
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

// From the user and the sound device

function microphoneFrame({ pcm, rms }) {
  counters.inputRms = Math.max(counters.inputRms, rms);
  lanes.input.push(performance.now(), rms);
  session?.pushMicrophone(new Int16Array(pcm));
}

function outputLevel({ rms }) {
  counters.outputRms = Math.max(counters.outputRms, rms);
  lanes.output.push(performance.now(), rms);
  view.level(loudness(rms));
}

function toggleMute() {
  muted = !muted;
  if (device) device.muted = muted;
  view.muted(muted);
}

function say(text) {
  if (!session?.send({ type: "say", text })) return false;
  transcript.typed(text);
  return true;
}

function applySettings() {
  if (!session) return;
  const patch = changes(settings.patch, settingsInForce);
  const given = Object.keys({ ...session.settings, ...session.settings.sampling });
  const left = { ...settings.patch, ...settings.patch.sampling };
  if (given.some((name) => !(name in left))) view.notice(remark("next_time")); // the server's own values are not known
  if (Object.keys(patch).length) session.update(settings.patch, patch);
}

function refresh() {
  const pts = heardPts();
  for (const entry of transcript.entries.slice(-3)) if (entry.role === "agent") view.progress(entry, pts);
  view.figures({
    firstAudioMs: counters.firstAudioMs.at(-1),
    medianMs: median(counters.firstAudioMs),
    roundTripMs: session?.roundTripMs,
  });
}

function tell([title, text], action = null) {
  view.notice({ kind: "error", title, text, action });
}

/** What is said for as long as it lasts. */
function passing(code, begun, action = null) {
  const [title, text] = SOUND[code];
  if (!begun) view.hideNotice(code);
  else if (session) view.notice({ kind: "info", title, text, action, topic: code });
}

addEventListener("offline", () => session?.doubt());
addEventListener("online", () => session?.retryNow());
addEventListener("pagehide", () => session?.stop());

/** Read-only counters for tests and the curious. */
globalThis.duplexDebug = Object.freeze({
  get phase() { return session?.phase ?? "ended"; },
  get sessionId() { return session?.ready?.session_id ?? null; },
  get epoch() { return session?.agent.epoch ?? 0; },
  get framesSent() { return session?.framesSent ?? 0; },
  get framesReceived() { return session?.framesReceived ?? 0; },
  get framesDropped() { return session?.microphone.dropped ?? 0; },
  get staleFrames() { return session?.agent.stale ?? 0; },
  get reconnections() { return session?.reconnections ?? 0; },
  get underruns() { return device?.heard().underruns ?? 0; },
  get queuedMs() { return device?.heard().queuedMs ?? 0; },
  get heardPts() { return heardPts(); },
  get inputRms() { return counters.inputRms; },
  get outputRms() { return counters.outputRms; },
  get firstAudioMs() { return [...counters.firstAudioMs]; },
  get roundTripMs() { return session?.roundTripMs ?? null; },
});
