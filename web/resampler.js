/**
 * Streaming band-limited resampler for mono Float32 audio.
 *
 * Windowed-sinc interpolation, one row of filter taps for each phase of the reduced ratio. Chunked output
 * equals whole output. Loaded as an ordinary module by tests, and with `audioWorklet.addModule` before the
 * two worklets, which find it on `globalThis`: static imports inside worklets are younger than worklets.
 */

const ZERO_CROSSINGS = 16; // on each side of the sinc's centre
const KAISER_BETA = 8; // about 80 dB of stop-band rejection
const PASSBAND = 0.92; // of the narrower Nyquist; the rest is transition

function greatestCommonDivisor(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

function besselI0(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-10 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function filterBank(up, down, halfTaps) {
  const cutoff = Math.min(1, up / down) * PASSBAND;
  const phases = [];
  for (let phase = 0; phase < up; phase += 1) {
    const taps = new Float32Array(2 * halfTaps);
    let gain = 0;
    for (let k = 0; k < taps.length; k += 1) {
      const t = k - halfTaps + 1 - phase / up; // distance from the output instant, in input samples
      const x = Math.PI * cutoff * t;
      const sinc = t === 0 ? 1 : Math.sin(x) / x;
      const edge = t / halfTaps;
      taps[k] = sinc * (Math.abs(edge) < 1 ? besselI0(KAISER_BETA * Math.sqrt(1 - edge * edge)) : 0);
      gain += taps[k];
    }
    for (let k = 0; k < taps.length; k += 1) taps[k] /= gain;
    phases.push(taps);
  }
  return phases;
}

export class Resampler {
  /** @param {number} inputRate Hz @param {number} outputRate Hz */
  constructor(inputRate, outputRate) {
    const divisor = greatestCommonDivisor(inputRate, outputRate);
    this.up = outputRate / divisor;
    this.down = inputRate / divisor;
    if (this.up === this.down) return;
    this.halfTaps = Math.ceil(ZERO_CROSSINGS / Math.min(1, this.up / this.down));
    this.bank = filterBank(this.up, this.down, this.halfTaps);
    this.history = new Float32Array(this.halfTaps - 1); // silence before the first sample
    this.phase = 0;
    this.position = 0; // index into history of the leftmost tap of the next output sample
  }

  /** Takes input samples, returns every output sample they complete. */
  push(input) {
    if (this.up === this.down) return input;
    const buffer = new Float32Array(this.history.length + input.length);
    buffer.set(this.history);
    buffer.set(input, this.history.length);
    const width = 2 * this.halfTaps;
    const output = new Float32Array(Math.ceil(((buffer.length + 1) * this.up) / this.down) + 1);
    let written = 0;
    let { position, phase } = this;
    while (position + width <= buffer.length) {
      const taps = this.bank[phase];
      let sum = 0;
      for (let k = 0; k < width; k += 1) sum += taps[k] * buffer[position + k];
      output[written] = sum;
      written += 1;
      phase += this.down;
      position += Math.floor(phase / this.up);
      phase %= this.up;
    }
    const consumed = Math.min(position, buffer.length);
    this.history = buffer.slice(consumed);
    this.position = position - consumed;
    this.phase = phase;
    return output.subarray(0, written);
  }

  /** The samples still inside the filter at the end of a stream. */
  flush() {
    return this.up === this.down ? new Float32Array(0) : this.push(new Float32Array(this.halfTaps));
  }
}

globalThis.DuplexResampler = Resampler;
