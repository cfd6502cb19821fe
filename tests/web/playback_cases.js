import { equal, ok } from "./check.js";

const RATE = 24000; // of the stream
const FRAME = 960;
const QUANTUM = 128;

let Processor = null;

/** The worklet's processor, outside of an audio thread. */
async function processorAt(rate) {
  globalThis.sampleRate = rate;
  globalThis.currentTime = 0;
  if (!Processor) {
    globalThis.AudioWorkletProcessor = class {
      constructor() { this.port = { postMessage: (message) => this.posted.push(message) }; this.posted = []; }
    };
    globalThis.registerProcessor = (_, made) => { Processor = made; };
    await import("/resampler.js");
    await import("/playback-worklet.js");
  }
  return new Processor({ processorOptions: { rate: RATE } });
}

function frame(number, flags = {}) {
  const pcm = new Int16Array(FRAME).fill(8000).buffer;
  return { type: "audio", epoch: 0, pts: number * FRAME, first: false, last: false, pcm, ...flags };
}

function pass(processor, seconds) {
  const end = currentTime + seconds;
  while (currentTime < end - 1e-9) {
    processor.process([], [[new Float32Array(QUANTUM)]]);
    globalThis.currentTime += QUANTUM / sampleRate;
  }
}

export async function test_every_hole_in_a_reply_is_counted_at_any_rate() {
  for (const rate of [24000, 44100, 48000, 96000]) {
    const processor = await processorAt(rate);
    for (let number = 0; number < 12; number += 2) {
      for (const one of [number, number + 1]) {
        processor.port.onmessage({ data: frame(one, { first: one === 0, last: one === 11 }) });
      }
      pass(processor, 0.4);
    }
    processor.report();
    const { underruns, pts, endPts } = processor.posted.findLast(({ type }) => type === "report");
    equal([rate, underruns, pts, endPts], [rate, 5, 12 * FRAME, 12 * FRAME]); // the end is no hole
  }
}

export async function test_a_report_tells_when_its_position_was_reached() {
  const processor = await processorAt(48000);
  processor.port.onmessage({ data: frame(0, { first: true, last: true }) });
  pass(processor, 2);
  const { pts, playing, time } = processor.posted.findLast(({ type }) => type === "report");
  equal([pts, playing], [FRAME, false]);
  ok(time < 0.1, `${time}: so that what is behind an output's latency is heard in the end`);
}
