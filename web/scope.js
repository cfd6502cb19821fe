/**
 * The three lanes that share one time axis: microphone level, agent level, turn probability. Now is at the
 * right edge. Colours come from the style sheet's custom properties, so that dark mode needs no code here.
 */

const BAR_MS = 80; // one bar of a waveform
const PIXELS_PER_SECOND = 64;
const KEEP_MS = 60_000;
const QUIET = 0.02; // below it the resting line says enough
const CALM_REDRAW_MS = 500; // with prefers-reduced-motion: no scrolling, the picture steps
const LOUDEST_RMS = 0.35; // of full scale; speech close to the microphone
const LOUDNESS_EXPONENT = 0.6; // Stevens' power law for sound pressure

/** Perceived loudness of an RMS amplitude on the scale of the lanes, 0 to 1. */
export function loudness(rms) {
  return Math.min(1, (rms / LOUDEST_RMS) ** LOUDNESS_EXPONENT);
}

class Lane {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /** Sizes the bitmap to the element and returns the drawing area in CSS pixels. */
  begin() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = globalThis.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.clearRect(0, 0, width, height);
    return { width, height };
  }

  colour(name) {
    return getComputedStyle(this.canvas).getPropertyValue(name).trim();
  }
}

export class WaveformLane extends Lane {
  constructor(canvas, colourName) {
    super(canvas);
    this.colourName = colourName;
    this.bars = []; // {slot, level}; slot = time / BAR_MS
  }

  /** One measured level at `timeMs`. */
  push(timeMs, rms) {
    const slot = Math.floor(timeMs / BAR_MS);
    const level = loudness(rms);
    const newest = this.bars.at(-1);
    if (newest?.slot === slot) newest.level = Math.max(newest.level, level);
    else this.bars.push({ slot, level });
    while (this.bars.length > KEEP_MS / BAR_MS) this.bars.shift();
  }

  draw(nowMs) {
    const { width, height } = this.begin();
    const { context } = this;
    const step = (BAR_MS / 1000) * PIXELS_PER_SECOND;
    const barWidth = Math.max(2, step - 2);
    context.fillStyle = this.colour("--lane-rest");
    context.fillRect(0, height / 2 - 0.5, width, 1);
    context.fillStyle = this.colour(this.colourName);
    for (let i = this.bars.length - 1; i >= 0; i -= 1) {
      const { slot, level } = this.bars[i];
      const x = width - (nowMs / BAR_MS - slot) * step;
      if (x < -step) break;
      if (level < QUIET) continue;
      const tall = Math.max(2, level * (height - 4));
      context.beginPath();
      context.roundRect(x, (height - tall) / 2, barWidth, tall, barWidth / 2);
      context.fill();
    }
  }
}

export class TurnLane extends Lane {
  constructor(canvas) {
    super(canvas);
    this.points = []; // {timeMs, speech, respond, decision}
  }

  /** One `turn` message: the VAD's speech probability and, in an open turn, P(respond) and the decision. */
  push(timeMs, { speech, probs, decision }) {
    this.points.push({ timeMs, speech, respond: probs ? probs[1] : null, decision });
    while (this.points[0].timeMs < timeMs - KEEP_MS) this.points.shift();
  }

  draw(nowMs) {
    const { width, height } = this.begin();
    const { context } = this;
    const x = (timeMs) => width - ((nowMs - timeMs) / 1000) * PIXELS_PER_SECOND;
    const y = (probability) => 5 + (1 - probability) * (height - 10);
    const shown = this.points.filter(({ timeMs }) => x(timeMs) > -20);
    context.fillStyle = this.colour("--lane-rest");
    context.fillRect(0, y(0), width, 1);
    context.setLineDash([2, 4]);
    context.strokeStyle = this.colour("--lane-rest");
    context.beginPath();
    context.moveTo(0, y(0.5));
    context.lineTo(width, y(0.5));
    context.stroke();
    context.setLineDash([]);
    this.area(shown, x, y);
    this.line(shown, x, y);
    for (const { timeMs, respond, decision } of shown) {
      if (decision !== "respond" && decision !== "ignore") continue;
      context.fillStyle = this.colour(decision === "respond" ? "--lane-respond" : "--lane-ignore");
      context.beginPath();
      context.arc(x(timeMs), y(respond ?? 0), 4, 0, 2 * Math.PI);
      context.fill();
    }
  }

  area(points, x, y) {
    const { context } = this;
    context.fillStyle = this.colour("--lane-speech");
    context.beginPath();
    points.forEach(({ timeMs, speech }, i) => {
      const next = points[i + 1]?.timeMs ?? timeMs + 160;
      context.rect(x(timeMs), y(speech), x(next) - x(timeMs) + 0.5, y(0) - y(speech));
    });
    context.fill();
  }

  line(points, x, y) {
    const { context } = this;
    context.strokeStyle = this.colour("--lane-respond");
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    let drawing = false;
    for (const { timeMs, respond } of points) {
      if (respond === null) drawing = false;
      else if (drawing) context.lineTo(x(timeMs), y(respond));
      else {
        context.moveTo(x(timeMs), y(respond));
        drawing = true;
      }
    }
    context.stroke();
    context.lineWidth = 1;
  }
}

/** Redraws lanes while running; steps instead of scrolling when the user prefers reduced motion. */
export class Scope {
  constructor(lanes, clock = () => performance.now()) {
    this.lanes = lanes;
    this.clock = clock;
    this.running = false;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawnAt = -Infinity;
    new ResizeObserver(() => this.draw()).observe(lanes[0].canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  start() {
    if (this.running) return;
    this.running = true;
    const tick = () => {
      if (!this.running) return;
      if (!this.calm.matches || this.clock() - this.drawnAt >= CALM_REDRAW_MS) this.draw();
      requestAnimationFrame(tick);
    };
    tick();
  }

  stop() {
    this.running = false;
  }

  draw() {
    if (this.running || this.drawnAt < 0) this.drawnAt = this.clock();
    for (const lane of this.lanes) lane.draw(this.drawnAt);
  }
}
