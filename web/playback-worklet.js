/**
 * Speaker side of the audio thread: a bounded ring of samples at the context's rate, each stretch of it
 * labelled with the epoch and the sample clock (pts) it arrived with.
 *
 * In:  {type: "audio", epoch, pts, first, last, pcm: ArrayBuffer}   one agent frame, Int16
 *      {type: "cut"}                                                drop what is queued, fade out over 12 ms
 *      {type: "reset", epoch, pts, generation}                      a new session: forget everything
 *      {type: "close"}
 * Out: {type: "report", generation, epoch, pts, endPts, underruns, overflows, playing, time}   every 100 ms, and at
 *      once after a cut
 *      {type: "started", epoch, pts, time}                          first sample of an utterance rendered
 *      {type: "level", rms, peak, time}                             every 20 ms
 * `pts` counts stream samples that left for the output device, `endPts` those queued as well; `time` is the context
 * time at which the last of them left.
 */

const Resampler = globalThis.DuplexResampler;

const CAPACITY_SEC = 10; // the server leads by well under a second; more than this is its mistake
const PREBUFFER_SEC = 0.06; // rides out network jitter before an utterance starts and after an underrun
const PREBUFFER_PATIENCE_SEC = 0.12; // a short utterance starts anyway
const FADE_SEC = 0.012;
const REPORT_SEC = 0.1;
const LEVEL_SEC = 0.02;

class PlaybackProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.streamRate = rate;
    this.ring = new Float32Array(Math.ceil(CAPACITY_SEC * sampleRate));
    this.readIndex = 0; // both only grow; the ring position is the remainder
    this.writeIndex = 0;
    this.stretches = []; // {start, pts, endPts, epoch, first, last}, oldest first
    this.resampler = new Resampler(rate, sampleRate);
    this.fade = new Float32Array(0);
    this.playing = false;
    this.waitingSince = null;
    this.heard = { epoch: 0, pts: 0 };
    this.heardTime = 0;
    this.complete = true; // what was played last was the end of an utterance
    this.generation = 0;
    this.underruns = 0;
    this.overflows = 0;
    this.sinceReport = 0;
    this.level = { energy: 0, peak: 0, samples: 0 };
    this.running = true;
    this.port.onmessage = ({ data }) => {
      if (data.type === "audio") this.enqueue(data);
      else if (data.type === "cut") this.cut();
      else if (data.type === "reset") this.reset(data);
      else if (data.type === "close") this.running = false;
    };
  }

  get queued() {
    return this.writeIndex - this.readIndex;
  }

  get endPts() {
    return this.stretches.at(-1)?.endPts ?? this.heard.pts;
  }

  enqueue({ epoch, pts, first, last, pcm }) {
    const newest = this.stretches.at(-1);
    if (first || (newest && (newest.epoch !== epoch || newest.endPts !== pts))) {
      this.resampler = new Resampler(this.streamRate, sampleRate);
    }
    const int16 = new Int16Array(pcm);
    const samples = Float32Array.from(int16, (value) => value / 32768);
    const start = this.writeIndex;
    this.write(this.resampler.push(samples));
    if (last) this.write(this.resampler.flush());
    this.stretches.push({ start, pts, endPts: pts + int16.length, epoch, first, last });
    if (!this.playing && this.waitingSince === null) this.waitingSince = currentTime;
  }

  write(samples) {
    const room = this.ring.length - this.queued;
    if (samples.length > room) this.overflows += 1;
    const count = Math.min(samples.length, room);
    for (let i = 0; i < count; i += 1) this.ring[(this.writeIndex + i) % this.ring.length] = samples[i];
    this.writeIndex += count;
  }

  cut() {
    if (this.playing) {
      const length = Math.min(this.queued, Math.round(FADE_SEC * sampleRate));
      this.fade = Float32Array.from({ length }, (_, i) => {
        const sample = this.ring[(this.readIndex + i) % this.ring.length];
        return sample * (1 - (i + 1) / (length + 1));
      });
    }
    this.readIndex = this.writeIndex;
    this.stretches = [];
    this.playing = false;
    this.waitingSince = null;
    this.report();
  }

  reset({ epoch, pts, generation }) {
    this.generation = generation;
    this.heard = { epoch, pts };
    this.heardTime = 0;
    this.cut();
  }

  process(_inputs, [output]) {
    const channel = output[0];
    this.startWhenReady();
    if (this.playing) this.render(channel);
    this.mixFade(channel);
    for (const other of output.slice(1)) other.set(channel);
    this.measure(channel);
    this.sinceReport += channel.length;
    if (this.sinceReport >= REPORT_SEC * sampleRate) this.report();
    return this.running;
  }

  startWhenReady() {
    if (this.playing || this.queued === 0) return;
    const waited = currentTime - this.waitingSince;
    const complete = this.stretches.at(-1).last;
    if (this.queued < PREBUFFER_SEC * sampleRate && waited < PREBUFFER_PATIENCE_SEC && !complete) return;
    this.playing = true;
    this.waitingSince = null;
  }

  render(channel) {
    const count = Math.min(channel.length, this.queued);
    for (let i = 0; i < count; i += 1) channel[i] = this.ring[(this.readIndex + i) % this.ring.length];
    this.readIndex += count;
    const finished = this.advance();
    if (count === channel.length) return;
    this.playing = false;
    if (!finished) this.starve(channel, count);
  }

  /** Moves `heard` to the read position; true when what was just read ends an utterance. */
  advance() {
    while (this.stretches.length) {
      const stretch = this.stretches[0];
      if (stretch.first) {
        stretch.first = false;
        this.port.postMessage({ type: "started", epoch: stretch.epoch, pts: stretch.pts, time: currentTime });
      }
      const end = this.stretches.length > 1 ? this.stretches[1].start : this.writeIndex;
      const done = this.readIndex >= end;
      const played = Math.round(((this.readIndex - stretch.start) * this.streamRate) / sampleRate);
      const pts = done ? stretch.endPts : Math.min(stretch.endPts, stretch.pts + played);
      this.heard = { epoch: stretch.epoch, pts };
      this.heardTime = currentTime;
      if (!done) return false;
      this.stretches.shift();
      this.complete = stretch.last;
    }
    return this.complete;
  }

  /** The buffer ran dry inside an utterance: decay from the last sample instead of clicking. */
  starve(channel, from) {
    this.underruns += 1;
    let value = from > 0 ? channel[from - 1] : 0;
    for (let i = from; i < channel.length; i += 1) {
      value *= 0.9;
      channel[i] = value;
    }
  }

  mixFade(channel) {
    if (!this.fade.length) return;
    const count = Math.min(channel.length, this.fade.length);
    for (let i = 0; i < count; i += 1) channel[i] += this.fade[i];
    this.fade = this.fade.subarray(count);
  }

  measure(channel) {
    for (const sample of channel) {
      this.level.energy += sample * sample;
      this.level.peak = Math.max(this.level.peak, Math.abs(sample));
    }
    this.level.samples += channel.length;
    if (this.level.samples < LEVEL_SEC * sampleRate) return;
    const { energy, peak, samples } = this.level;
    this.port.postMessage({ type: "level", rms: Math.sqrt(energy / samples), peak, time: currentTime });
    this.level = { energy: 0, peak: 0, samples: 0 };
  }

  report() {
    this.sinceReport = 0;
    this.port.postMessage({
      type: "report",
      generation: this.generation,
      ...this.heard,
      endPts: this.endPts,
      underruns: this.underruns,
      overflows: this.overflows,
      playing: this.playing,
      time: this.heardTime,
    });
  }
}

registerProcessor("duplex-playback", PlaybackProcessor);
