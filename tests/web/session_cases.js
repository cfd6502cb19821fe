import { Session } from "/session.js";
import { KIND_AGENT, decodeFrame, encodeFrame } from "/wire.js";
import { equal, ok } from "./check.js";

class FakeSocket {
  constructor() {
    this.sent = [];
    this.bufferedAmount = 0;
    this.closed = false;
  }
  send(message) { this.sent.push(message); }
  close(code) { this.closed = true; this.code = code; }
  json(type) { return this.sent.filter((m) => typeof m === "string").map((m) => JSON.parse(m)).filter((m) => m.type === type); }
  open() { this.onopen(); }
  receive(message) { this.onmessage({ data: JSON.stringify(message) }); }
  audio(header, samples = 480) { this.onmessage({ data: encodeFrame({ kind: KIND_AGENT, ...header }, new Int16Array(samples)) }); }
  break(code = 1006) { this.onclose({ code }); }
}

const READY = { type: "ready", resume_token: "t1", resumed: false, epoch: 0, pts: 0, mic_pts: 0, session: {} };

function newSession({ probe = "unreachable", now = () => performance.now(), ...options } = {}) {
  const sockets = [];
  const log = [];
  const heard = { epoch: 0, pts: 0, queuedMs: 0, underruns: 0 };
  const handlers = {
    onPhase: (phase, detail) => log.push(detail ? `${phase}:${detail.code ?? detail.attempt}` : phase),
    onMessage: ({ type }) => log.push(type),
    onAudio: ({ pts }) => log.push(`audio:${pts}`),
    onFlush: () => log.push("flush"),
    onFresh: () => log.push("fresh"),
  };
  const platform = {
    socket: () => sockets[sockets.push(new FakeSocket()) - 1],
    probe: async () => probe,
    random: () => 0.5,
    now,
  };
  const session = new Session(
    { url: "ws://x/v1/duplex", inputRate: 16000, outputRate: 24000, heard: () => heard, ...options }, handlers, platform);
  session.start();
  return { session, sockets, log, heard };
}

function live(options) {
  const world = newSession(options);
  world.sockets[0].open();
  world.sockets[0].receive(READY);
  return world;
}

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function test_hello_comes_first_and_settings_with_it() {
  const { session, sockets, log } = newSession({ settings: { instructions: "Be brief." } });
  ok(!session.send({ type: "say", text: "too early" }));
  sockets[0].open();
  const [hello] = sockets[0].json("hello");
  equal([hello.v, hello.input, hello.output, hello.playback, hello.session.instructions],
    [1, { rate: 16000, frame_ms: 20 }, { rate: 24000 }, "report", "Be brief."]);
  sockets[0].receive(READY);
  equal(log, ["connecting", "fresh", "live"]);
  session.stop();
}

export function test_microphone_flows_only_while_live() {
  const { session, sockets } = live();
  session.pushMicrophone(new Int16Array(320));
  equal(session.framesSent, 1);
  sockets[0].break();
  session.pushMicrophone(new Int16Array(320));
  equal(session.framesSent, 1);
  session.stop();
}

export function test_a_cut_flushes_reports_and_makes_old_audio_stale() {
  const { session, sockets, log, heard } = live();
  sockets[0].audio({ epoch: 0, seq: 0, pts: 0, flags: 1 });
  heard.pts = 240;
  sockets[0].receive({ type: "cut", old_epoch: 0, new_epoch: 1, heard_pts: 240, heard_text: "", turn: 1 });
  sockets[0].audio({ epoch: 0, seq: 1, pts: 480 });
  sockets[0].audio({ epoch: 1, seq: 2, pts: 960 });
  equal(log.slice(3), ["audio:0", "flush", "cut", "audio:960"]);
  equal(sockets[0].json("played").at(-1).pts, 240);
  session.stop();
}

export async function test_playback_is_reported_while_it_moves() {
  const { session, sockets, heard } = live();
  heard.pts = 2400;
  await later(250);
  heard.pts = 4800;
  await later(150);
  await later(250);
  equal(sockets[0].json("played").map(({ pts }) => pts), [2400, 4800]);
  session.stop();
}

export async function test_a_queue_that_stands_still_is_reported_again_and_again() {
  const { session, sockets, heard } = live();
  Object.assign(heard, { pts: 2400, queuedMs: 300, outputMs: 40 });
  await later(350);
  const reports = sockets[0].json("played");
  ok(reports.length >= 2, "the server takes silence for playback");
  equal(reports.at(-1), { type: "played", epoch: 0, pts: 2400, queued_ms: 300, underruns: 0, output_ms: 40 });
  heard.queuedMs = 0;
  await later(150);
  const told = sockets[0].json("played").length;
  await later(250);
  equal(sockets[0].json("played").length, told);
  session.stop();
}

export async function test_a_link_that_takes_no_more_audio_is_left_unless_something_comes() {
  for (const answers of [true, false]) {
    const { session, sockets, log } = live();
    sockets[0].bufferedAmount = 1e6;
    for (let frame = 0; frame < 20; frame += 1) session.pushMicrophone(new Int16Array(320));
    ok(session.microphone.dropped > 0);
    const asked = sockets[0].json("ping").at(-1);
    await later(20);
    if (answers) sockets[0].receive({ type: "pong", t: asked.t });
    await later(3100);
    equal(log.at(-1), answers ? "live" : "reconnecting:1");
    session.stop();
  }
}

export async function test_a_dropped_connection_resumes() {
  const { session, sockets, log, heard } = live();
  sockets[0].audio({ epoch: 0, seq: 4, pts: 0, flags: 1 });
  heard.pts = 100;
  sockets[0].break(1006);
  equal(log.at(-1), "reconnecting:1");
  await later(400);
  sockets[1].open();
  equal(sockets[1].json("hello")[0].resume, { token: "t1", last_seq: 4, played: { epoch: 0, pts: 100 } });
  sockets[1].receive({ ...READY, resumed: true, resume_token: "t2", pts: 480, mic_pts: 640 });
  sockets[1].audio({ epoch: 0, seq: 4, pts: 0, flags: 1 });
  sockets[1].audio({ epoch: 0, seq: 5, pts: 480 });
  equal(log.slice(-2), ["live", "audio:480"]);
  session.pushMicrophone(new Int16Array(320));
  equal(decodeFrame(sockets[1].sent.findLast((m) => typeof m !== "string")).pts, 640);
  equal(session.reconnections, 1);
  session.stop();
}

export async function test_delays_grow_and_a_second_loss_uses_the_new_token() {
  const { session, sockets } = live();
  sockets[0].break();
  await later(300);
  equal(sockets.length, 2);
  sockets[1].break();
  await later(300);
  equal(sockets.length, 2);
  await later(300);
  equal(sockets.length, 3);
  sockets[2].open();
  sockets[2].receive({ ...READY, resumed: true, resume_token: "t2" });
  sockets[2].break();
  session.retryNow();
  sockets[3].open();
  equal(sockets[3].json("hello")[0].resume.token, "t2");
  session.stop();
}

export function test_a_silent_connection_is_left_so_that_it_can_be_resumed() {
  let time = 0;
  const { session, sockets, log } = live({ now: () => time });
  time = 10_001;
  session.keepAlive();
  equal(sockets[0].code, 3001); // 1000 would be goodbye
  equal(log.at(-1), "reconnecting:1");
  session.retryNow();
  sockets[1].open();
  equal(sockets[1].json("hello")[0].resume.token, "t1");
  session.stop();
  equal(sockets[1].code, 1000);
}

export function test_a_session_that_dies_as_soon_as_it_lives_is_retried_ever_more_slowly() {
  const { session, sockets, log } = live();
  for (const attempt of [1, 2, 3]) {
    sockets.at(-1).break(1011);
    equal(log.at(-1), `reconnecting:${attempt}`);
    session.retryNow();
    sockets.at(-1).open();
    sockets.at(-1).receive(READY);
  }
  session.stop();
}

export async function test_a_cut_missed_while_away_flushes() {
  const { session, sockets, log } = live();
  sockets[0].break();
  session.retryNow();
  sockets[1].open();
  sockets[1].receive({ ...READY, resumed: true, epoch: 1 });
  ok(log.includes("flush"));
  session.stop();
}

export function test_a_cut_that_is_told_again_after_a_resume_counts_once() {
  const { session, sockets, log } = live();
  const cut = { type: "cut", old_epoch: 0, new_epoch: 1, heard_pts: 0, heard_text: "", turn: 1 };
  const missed = { ...cut, old_epoch: 1, new_epoch: 2 };
  sockets[0].receive(cut);
  for (const [epoch, told] of [[1, cut], [2, missed]]) {
    sockets.at(-1).break();
    session.retryNow();
    sockets.at(-1).open();
    sockets.at(-1).receive({ ...READY, resumed: true, epoch });
    sockets.at(-1).receive(told);
  }
  equal(log.filter((entry) => entry === "cut").length, 2);
  session.stop();
}

export function test_a_refused_resumption_starts_afresh() {
  const { session, sockets, log } = live();
  sockets[0].audio({ epoch: 0, seq: 0, pts: 0 });
  sockets[0].break();
  session.retryNow();
  sockets[1].open();
  sockets[1].receive({ type: "error", code: "resume_refused", fatal: false });
  sockets[1].receive({ ...READY, resume_token: "t9" });
  sockets[1].audio({ epoch: 0, seq: 0, pts: 0 });
  equal(log.slice(-4), ["error", "fresh", "live", "audio:0"]);
  session.stop();
}

export function test_fatal_errors_and_close_codes_end_with_their_reason() {
  for (const [code, close, reason] of [
    ["capacity", 4429, "capacity"], ["draining", 4503, "draining"], ["unauthorized", 4401, "unauthorized"],
    ["idle", 4408, "idle"], ["internal", 1011, "internal"], ["too_slow", 1011, "too_slow"], [null, 4409, "replaced"], [null, 1000, "finished"],
  ]) {
    const { sockets, log } = live();
    if (code) sockets[0].receive({ type: "error", code, message: "", fatal: true });
    sockets[0].break(close);
    equal(log.at(-1), `ended:${reason}`);
  }
}

export async function test_a_refusal_before_the_upgrade_is_looked_up() {
  const { sockets, log } = newSession({ probe: "capacity" });
  sockets[0].break(1006);
  await later(0);
  equal(log.at(-1), "ended:capacity");
}

export function test_stop_says_bye_and_hears_nothing_more() {
  const { session, sockets, log } = live();
  const { onmessage } = sockets[0];
  session.stop();
  equal(sockets[0].json("bye").length, 1);
  ok(sockets[0].closed);
  equal(sockets[0].onmessage, null);
  ok(onmessage);
  equal(log.at(-1), "ended:stopped");
}

export function test_a_key_that_cannot_travel_is_explained() {
  const { log } = newSession({ apiKey: "two words" });
  equal(log.at(-1), "ended:bad_key");
}
