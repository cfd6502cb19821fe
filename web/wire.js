/**
 * The native protocol (docs/protocol.md) without DOM, sockets or clocks: bytes and messages in, frames and
 * messages out. `session.js` drives it from a WebSocket.
 */

export const SUBPROTOCOL = "duplex.v1";
export const VERSION = 1;
export const HEADER_BYTES = 16;
export const KIND_MIC = 1;
export const KIND_AGENT = 2;
export const FLAG_FIRST = 1;
export const FLAG_LAST = 2;
export const FLAG_DISCONT = 4;

export const FRAME_MS = 20;
const CONGESTION_MS = 200; // of microphone audio: what the socket may hold, and what may wait behind it

/** Encodes one audio frame: u8 kind, u8 flags, u16 epoch, u32 seq, u64 pts, then PCM16; all little-endian. */
export function encodeFrame({ kind, flags = 0, epoch = 0, seq, pts }, pcm) {
  const buffer = new ArrayBuffer(HEADER_BYTES + pcm.byteLength);
  const header = new DataView(buffer);
  header.setUint8(0, kind);
  header.setUint8(1, flags);
  header.setUint16(2, epoch, true);
  header.setUint32(4, seq, true);
  header.setUint32(8, pts % 2 ** 32, true);
  header.setUint32(12, Math.floor(pts / 2 ** 32), true);
  new Int16Array(buffer, HEADER_BYTES).set(pcm);
  return buffer;
}

/** Decodes one audio frame, or returns null for what is too short or of odd length. */
export function decodeFrame(buffer) {
  if (buffer.byteLength < HEADER_BYTES || buffer.byteLength % 2) return null;
  const header = new DataView(buffer);
  return {
    kind: header.getUint8(0),
    flags: header.getUint8(1),
    epoch: header.getUint16(2, true),
    seq: header.getUint32(4, true),
    pts: header.getUint32(8, true) + header.getUint32(12, true) * 2 ** 32,
    pcm: new Int16Array(buffer, HEADER_BYTES),
  };
}

/** True when epoch `a` comes before `b` on the 16-bit circle. */
export function epochBefore(a, b) {
  return ((a - b) & 0xffff) > 0x7fff;
}

/** The WebSocket URL for a server given as ws(s)://, http(s)://, host:port or nothing (this page's own). */
export function socketUrl(server, pageUrl) {
  const page = new URL(pageUrl);
  const text = server || page.origin;
  const url = new URL(text.includes("://") ? text : `${page.protocol}//${text}`);
  url.protocol = { "https:": "wss:", "http:": "ws:" }[url.protocol] ?? url.protocol;
  if (url.pathname === "/") url.pathname = "/v1/duplex";
  url.hash = "";
  return url.href;
}

/**
 * Subprotocols to offer. Browsers cannot set headers, so the API key travels as one; a key with characters
 * that a subprotocol cannot hold is an error the page can explain.
 */
export function subprotocols(apiKey) {
  if (!apiKey) return [SUBPROTOCOL];
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(apiKey)) throw new TypeError("api key");
  return [SUBPROTOCOL, `token.${apiKey}`];
}

/**
 * Outgoing microphone audio. Numbers samples, and when the network is slower than speech keeps the newest
 * 200 ms: what it drops shows as a jump in pts and a DISCONT flag on the next frame.
 */
export class MicrophoneQueue {
  constructor(sampleRate, pts = 0) {
    this.pts = pts;
    this.seq = 0;
    this.dropped = 0;
    this.discontinuity = false;
    this.waiting = [];
    this.socketLimitBytes = (CONGESTION_MS / 1000) * sampleRate * 2;
    this.waitingLimit = CONGESTION_MS / FRAME_MS;
  }

  /** Takes one frame of Int16 samples. */
  push(pcm) {
    this.waiting.push({ pts: this.pts, pcm });
    this.pts += pcm.length;
    if (this.waiting.length <= this.waitingLimit) return;
    this.waiting.shift();
    this.dropped += 1;
    this.discontinuity = true;
  }

  /** Encoded frames to send now, given the socket's `bufferedAmount`. */
  take(bufferedBytes) {
    const ready = [];
    let buffered = bufferedBytes;
    while (this.waiting.length && buffered <= this.socketLimitBytes) {
      const { pts, pcm } = this.waiting.shift();
      const flags = (this.seq === 0 ? FLAG_FIRST : 0) | (this.discontinuity ? FLAG_DISCONT : 0);
      const frame = encodeFrame({ kind: KIND_MIC, flags, seq: this.seq, pts }, pcm);
      this.discontinuity = false;
      this.seq = (this.seq + 1) >>> 0;
      buffered += frame.byteLength;
      ready.push(frame);
    }
    return ready;
  }

  /** A resumed session counts on from the last sample the server has. */
  resume(pts) {
    this.waiting = [];
    this.pts = pts;
    this.discontinuity = true;
  }
}

/**
 * Incoming agent audio. Passes each sample of the newest epoch once: frames of older epochs and what a
 * resumed connection sends again are dropped or trimmed. `pts` is one clock without gaps for the whole
 * session, over replies and cuts.
 */
export class AgentStream {
  constructor(epoch = 0, pts = 0) {
    this.epoch = epoch;
    this.nextPts = pts;
    this.lastSeq = -1;
    this.received = 0;
    this.stale = 0;
  }

  /** Takes a decoded frame; returns what to play {epoch, pts, first, last, pcm}, or null. */
  accept(frame) {
    if (frame.kind !== KIND_AGENT) return null;
    if (epochBefore(frame.epoch, this.epoch)) {
      this.stale += 1;
      return null;
    }
    this.epoch = frame.epoch;
    this.received += 1;
    this.lastSeq = frame.seq;
    const overlap = Math.max(0, Math.min(frame.pcm.length, this.nextPts - frame.pts));
    if (overlap > 0 && overlap === frame.pcm.length) return null;
    this.nextPts = frame.pts + frame.pcm.length;
    return {
      epoch: frame.epoch,
      pts: frame.pts + overlap,
      first: Boolean(frame.flags & FLAG_FIRST) && overlap === 0,
      last: Boolean(frame.flags & FLAG_LAST),
      pcm: frame.pcm.subarray(overlap),
    };
  }

  /** After `cut`: frames of older epochs are stale from now on. Returns false if it is no news. */
  cut(newEpoch) {
    if (!epochBefore(this.epoch, newEpoch)) return false;
    this.epoch = newEpoch;
    return true;
  }
}
