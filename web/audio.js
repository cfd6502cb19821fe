/**
 * The page's sound device: one AudioContext with a microphone worklet and a speaker worklet.
 *
 * One context at the hardware's own rate serves both directions: Firefox refuses to connect a microphone to a
 * context of another rate, and echo cancellers work best when both directions share a clock. The worklets
 * resample to and from the wire's rates.
 */

const SCRIPTS = ["resampler.js", "capture-worklet.js", "playback-worklet.js"];

/**
 * Why there is no sound; `code`: denied, missing or busy (the microphone), silent, insecure, unsupported, or
 * unreachable (the server, for a script).
 */
export class SoundError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

const START_LIMIT_MS = 5000; // without a loudspeaker some browsers wait for one for ever
const LOAD_LIMIT_MS = 15_000;

const MICROPHONE_CODES = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

async function openMicrophone() {
  if (!globalThis.isSecureContext) throw new SoundError("insecure");
  if (!navigator.mediaDevices?.getUserMedia) throw new SoundError("unsupported");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (error) {
    throw new SoundError(MICROPHONE_CODES[error.name] ?? "unsupported", error);
  }
}

async function loadWorklets(context) {
  try {
    for (const script of SCRIPTS) await context.audioWorklet.addModule(new URL(script, import.meta.url));
  } catch (error) {
    throw new SoundError("unreachable", error);
  }
}

function before(limitMs, promise, code) {
  const late = (_, reject) => setTimeout(() => reject(new SoundError(code)), limitMs);
  return Promise.race([promise, new Promise(late)]);
}

export class AudioDevice {
  /**
   * Handlers, all optional: `onFrame({pcm, rms, peak, time})` 20 ms of microphone, `onStarted` and
   * `onLevel` as the playback worklet posts them, `onMicrophoneLost()`, `onMicrophoneSilenced(bool)` by the
   * system, `onPaused(bool)`: whether the browser has stopped all sound.
   */
  constructor(handlers = {}) {
    this.handlers = handlers;
    this.context = null;
    this.stream = null;
    this.latest = null; // last playback report
    this.reported = { epoch: 0, pts: 0 };
    this.generation = 0; // rises at reset; reports from before it are dropped
  }

  /** Call from a click: browsers start sound only from a user's gesture. Throws SoundError. */
  async open({ microphone, inputRate, outputRate, frameMs }) {
    this.outputRate = outputRate;
    if (!globalThis.AudioWorkletNode) throw new SoundError(globalThis.isSecureContext ? "unsupported" : "insecure");
    this.context = new AudioContext({ latencyHint: "interactive" });
    const resumed = this.context.resume();
    resumed.catch(() => {}); // closed before it was waited for
    this.context.onstatechange = () => {
      // Phones suspend sound for a call or a locked screen; ask for it back.
      if (["suspended", "interrupted"].includes(this.context?.state)) this.resume();
      this.handlers.onPaused?.(Boolean(this.context) && this.context.state !== "running");
    };
    try {
      this.stream = microphone ? await openMicrophone() : null;
      await before(LOAD_LIMIT_MS, loadWorklets(this.context), "unreachable");
      await before(START_LIMIT_MS, resumed, "silent");
    } catch (error) {
      await this.close();
      throw error;
    }
    this.openCapture(inputRate, (inputRate * frameMs) / 1000);
    this.openPlayback(outputRate);
  }

  openCapture(rate, frameSamples) {
    this.capture = new AudioWorkletNode(this.context, "duplex-capture", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      processorOptions: { rate, frameSamples },
    });
    this.capture.port.onmessage = ({ data }) => this.handlers.onFrame?.(data);
    this.capture.connect(this.context.destination); // silent, but nodes outside the graph are not run
    if (!this.stream) return;
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(this.capture);
    const [track] = this.stream.getAudioTracks();
    track.onended = () => this.handlers.onMicrophoneLost?.();
    track.onmute = () => this.handlers.onMicrophoneSilenced?.(true);
    track.onunmute = () => this.handlers.onMicrophoneSilenced?.(false);
  }

  openPlayback(rate) {
    this.playback = new AudioWorkletNode(this.context, "duplex-playback", {
      numberOfInputs: 0,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      processorOptions: { rate },
    });
    this.playback.connect(this.context.destination);
    this.playback.port.onmessage = ({ data }) => {
      if (data.type === "report") {
        if (data.generation === this.generation) this.latest = data;
      } else if (data.type === "started") this.handlers.onStarted?.(data);
      else if (data.type === "level") this.handlers.onLevel?.(data);
    };
  }

  /** Queues one decoded agent frame: {epoch, pts, first, last, pcm: Int16Array}. */
  play(frame) {
    const pcm = frame.pcm.slice().buffer;
    this.playback?.port.postMessage({ ...frame, type: "audio", pcm }, [pcm]);
  }

  cut() {
    this.playback?.port.postMessage({ type: "cut" });
  }

  /** Starts over at another session's clocks. */
  reset(epoch, pts) {
    this.generation += 1;
    this.latest = null;
    this.reported = { epoch, pts };
    this.playback?.port.postMessage({ type: "reset", epoch, pts, generation: this.generation });
  }

  /** Asks the browser for its sound back; some want a click for that. */
  resume() {
    this.context?.resume().catch(() => {}); // closed meanwhile
  }

  /** Seconds between a sample leaving the worklet and its sound leaving the loudspeaker. */
  get outputLatency() {
    return this.context ? this.context.outputLatency || this.context.baseLatency || 0 : 0;
  }

  get now() {
    return this.context?.currentTime ?? 0;
  }

  /** What has been heard by now; rendered samples are heard one output latency later. */
  heard() {
    const outputMs = Math.round(this.outputLatency * 1000);
    if (!this.latest) return { ...this.reported, queuedMs: 0, underruns: 0, outputMs };
    const { epoch, pts, endPts, time, playing, underruns } = this.latest;
    const sinceRenderedSec = Math.max(0, this.now - time) - this.outputLatency;
    const position = Math.round(pts + sinceRenderedSec * this.outputRate);
    const ceiling = playing ? endPts : pts;
    const floor = epoch === this.reported.epoch ? this.reported.pts : 0;
    this.reported = { epoch, pts: Math.max(floor, Math.min(position, ceiling)) };
    const queued = Math.max(0, endPts - this.reported.pts); // a cut can be behind what was taken for heard
    const queuedMs = Math.round((queued / this.outputRate) * 1000);
    return { ...this.reported, queuedMs, underruns, outputMs };
  }

  set muted(value) {
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !value;
  }

  async close() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = track.onmute = track.onunmute = null;
      track.stop();
    }
    this.capture?.port.postMessage({ type: "close" });
    this.playback?.port.postMessage({ type: "close" });
    this.stream = null;
    this.capture = null;
    this.playback = null;
    this.latest = null;
    const { context } = this;
    this.context = null;
    if (context && context.state !== "closed") await context.close();
  }
}
