import {
  AgentStream, FLAG_DISCONT, FLAG_FIRST, FLAG_LAST, KIND_AGENT, KIND_MIC, MicrophoneQueue,
  decodeFrame, encodeFrame, epochBefore, socketUrl, subprotocols,
} from "/wire.js";
import { equal, ok, throws } from "./check.js";

const RATE = 16000;
const frame20ms = () => new Int16Array(RATE / 50).fill(7);
const agentFrame = (fields, samples = 480) =>
  decodeFrame(encodeFrame({ kind: KIND_AGENT, ...fields }, new Int16Array(samples)));

export function test_header_is_sixteen_little_endian_bytes() {
  const bytes = encodeFrame({ kind: KIND_MIC, flags: 5, epoch: 0x1234, seq: 0x01020304, pts: 2 ** 33 + 9 }, Int16Array.of(-2));
  equal([...new Uint8Array(bytes)], [1, 5, 0x34, 0x12, 4, 3, 2, 1, 9, 0, 0, 0, 2, 0, 0, 0, 0xfe, 0xff]);
}

export function test_decode_returns_what_encode_took() {
  const header = { kind: 2, flags: 3, epoch: 65535, seq: 4294967295, pts: 2 ** 52 + 1 };
  const { pcm, ...decoded } = decodeFrame(encodeFrame(header, Int16Array.of(1, -1)));
  equal(decoded, header);
  equal([...pcm], [1, -1]);
}

export function test_decode_refuses_short_and_odd_frames() {
  equal(decodeFrame(new ArrayBuffer(15)), null);
  equal(decodeFrame(new ArrayBuffer(17)), null);
  equal(decodeFrame(new ArrayBuffer(16)).pcm.length, 0);
}

export function test_epochs_compare_on_a_circle() {
  ok(epochBefore(3, 4));
  ok(epochBefore(65535, 0));
  ok(!epochBefore(0, 65535));
  ok(!epochBefore(4, 4));
}

export function test_microphone_numbers_frames_and_samples() {
  const queue = new MicrophoneQueue(RATE);
  queue.push(frame20ms());
  queue.push(frame20ms());
  const headers = queue.take(0).map(decodeFrame).map(({ flags, epoch, seq, pts }) => [flags, epoch, seq, pts]);
  equal(headers, [[FLAG_FIRST, 0, 0, 0], [0, 0, 1, 320]]);
}

export function test_congestion_keeps_the_newest_200_ms_and_says_so() {
  const queue = new MicrophoneQueue(RATE);
  queue.push(frame20ms());
  equal(queue.take(0).length, 1);
  const congested = 0.21 * RATE * 2;
  for (let i = 0; i < 14; i += 1) {
    queue.push(frame20ms());
    equal(queue.take(congested).length, 0);
  }
  equal(queue.dropped, 4);
  const sent = queue.take(0).map(decodeFrame);
  equal(sent.length, 10);
  equal([sent[0].flags, sent[0].seq, sent[0].pts], [FLAG_DISCONT, 1, 5 * 320]);
  equal([sent[1].flags, sent[1].seq, sent[1].pts], [0, 2, 6 * 320]);
}

export function test_waiting_frames_do_not_overfill_the_socket() {
  const queue = new MicrophoneQueue(RATE);
  for (let i = 0; i < 5; i += 1) queue.push(frame20ms());
  equal(queue.take(0.2 * RATE * 2 - 1000).length, 2);
  equal(queue.take(0).length, 3);
}

export function test_resumed_microphone_counts_from_the_servers_sample() {
  const queue = new MicrophoneQueue(RATE);
  queue.push(frame20ms());
  queue.take(0);
  queue.push(frame20ms());
  queue.resume(160);
  queue.push(frame20ms());
  const [only] = queue.take(0).map(decodeFrame);
  equal([only.flags, only.seq, only.pts], [FLAG_DISCONT, 1, 160]);
}

export function test_agent_frames_pass_once() {
  const stream = new AgentStream();
  const first = stream.accept(agentFrame({ flags: FLAG_FIRST, epoch: 0, seq: 0, pts: 0 }));
  equal([first.first, first.last, first.pts, first.pcm.length], [true, false, 0, 480]);
  equal(stream.accept(agentFrame({ epoch: 0, seq: 0, pts: 0 })), null);
  const overlapping = stream.accept(agentFrame({ epoch: 0, seq: 1, pts: 240 }));
  equal([overlapping.pts, overlapping.pcm.length], [480, 240]);
  equal(stream.nextPts, 720);
}

export function test_empty_last_frame_is_kept() {
  const stream = new AgentStream();
  stream.accept(agentFrame({ epoch: 0, seq: 0, pts: 0 }));
  const last = stream.accept(agentFrame({ flags: FLAG_LAST, epoch: 0, seq: 1, pts: 480 }, 0));
  ok(last.last);
}

export function test_frames_of_older_epochs_are_stale_after_a_cut() {
  const stream = new AgentStream(65535, 0);
  ok(stream.cut(0));
  ok(!stream.cut(0), "a second cut to the same epoch is no news");
  equal(stream.accept(agentFrame({ epoch: 65535, seq: 5, pts: 0 })), null);
  equal(stream.stale, 1);
  ok(stream.accept(agentFrame({ epoch: 0, seq: 6, pts: 480 })));
}

export function test_other_kinds_are_ignored() {
  equal(new AgentStream().accept(decodeFrame(encodeFrame({ kind: 9, seq: 0, pts: 0 }, frame20ms()))), null);
}

export function test_socket_urls() {
  equal(socketUrl("", "https://talk.example/x?y#z"), "wss://talk.example/v1/duplex");
  equal(socketUrl("", "http://localhost:8000/"), "ws://localhost:8000/v1/duplex");
  equal(socketUrl("other:9000", "https://talk.example/"), "wss://other:9000/v1/duplex");
  equal(socketUrl("ws://other:9000/proxy/duplex", "http://localhost/"), "ws://other:9000/proxy/duplex");
  throws(() => socketUrl("http://:", "http://localhost/"), TypeError);
}

export function test_api_key_travels_as_a_subprotocol() {
  equal(subprotocols(""), ["duplex.v1"]);
  equal(subprotocols("K-1_a.b"), ["duplex.v1", "token.K-1_a.b"]);
  throws(() => subprotocols("two words"), TypeError);
}
