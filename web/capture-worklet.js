/**
 * Microphone side of the audio thread: mixes to mono, resamples to the wire's rate and posts 20 ms Int16
 * frames. It also runs with nothing connected (no microphone): silence then keeps the server's clock going.
 *
 * Posts {pcm: ArrayBuffer, rms, peak, time} for each frame; `time` is the context time of its last sample.
 */

const Resampler = globalThis.DuplexResampler;

class CaptureProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate, frameSamples } }) {
    super();
    this.resampler = new Resampler(sampleRate, rate);
    this.frame = new Int16Array(frameSamples);
    this.filled = 0;
    this.energy = 0;
    this.peak = 0;
    this.mono = new Float32Array(128);
    this.running = true;
    this.port.onmessage = () => {
      this.running = false;
    };
  }

  process([channels], [output]) {
    const length = output[0].length; // one render quantum; the output itself stays silent
    if (this.mono.length !== length) this.mono = new Float32Array(length);
    this.mono.fill(0);
    for (const channel of channels) {
      for (let i = 0; i < length; i += 1) this.mono[i] += channel[i] / channels.length;
    }
    for (const sample of this.resampler.push(this.mono)) this.append(sample);
    return this.running;
  }

  append(sample) {
    const clipped = Math.max(-1, Math.min(1, sample));
    this.frame[this.filled] = Math.round(clipped * 32767);
    this.filled += 1;
    this.energy += clipped * clipped;
    this.peak = Math.max(this.peak, Math.abs(clipped));
    if (this.filled < this.frame.length) return;
    const pcm = this.frame.slice().buffer;
    const rms = Math.sqrt(this.energy / this.filled);
    this.port.postMessage({ pcm, rms, peak: this.peak, time: currentTime }, [pcm]);
    this.filled = 0;
    this.energy = 0;
    this.peak = 0;
  }
}

registerProcessor("duplex-capture", CaptureProcessor);
