import { Resampler } from "/resampler.js";
import { equal, ok } from "./check.js";

const sine = (hertz, rate, seconds) =>
  Float32Array.from({ length: Math.round(rate * seconds) }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));

function run(resampler, input, chunk) {
  const output = [];
  for (let i = 0; i < input.length; i += chunk) output.push(...resampler.push(input.subarray(i, i + chunk)));
  output.push(...resampler.flush());
  return output;
}

const rms = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

export function test_chunked_equals_whole() {
  const input = sine(440, 44100, 0.3);
  const whole = run(new Resampler(44100, 16000), input, input.length);
  const chunked = run(new Resampler(44100, 16000), input, 128);
  equal(chunked.length, whole.length);
  ok(chunked.every((value, i) => value === whole[i]), "chunk borders change samples");
}

export function test_length_and_waveform_survive() {
  for (const [from, to] of [[48000, 16000], [44100, 16000], [24000, 48000], [24000, 44100], [16000, 24000]]) {
    const output = run(new Resampler(from, to), sine(1000, from, 0.5), 128);
    ok(Math.abs(output.length - to * 0.5) <= 1, `${from} to ${to}: ${output.length} samples`);
    const expected = sine(1000, to, 0.5);
    const inner = output.slice(100, -100).map((value, i) => value - expected[i + 100]);
    ok(rms(inner) < 1e-3, `${from} to ${to}: error ${rms(inner)}`);
  }
}

export function test_what_the_lower_rate_cannot_hold_is_removed() {
  const output = run(new Resampler(48000, 16000), sine(11000, 48000, 0.5), 128);
  ok(rms(output.slice(100, -100)) < 1e-3, "aliases");
}

export function test_equal_rates_pass_through() {
  const input = sine(440, 48000, 0.01);
  ok(new Resampler(48000, 48000).push(input) === input);
}
