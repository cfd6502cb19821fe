/** What the page says when something is wrong: one place for the words. */

export const SOUND = {
  denied: ["The microphone is blocked", "Allow this page to use the microphone in the browser's address bar, then press Start again."],
  missing: ["No microphone found", "Connect a microphone, then press Start again."],
  busy: ["The microphone cannot be opened", "Another program may be using it. Close that program, then press Start again."],
  silent: ["No sound", "The browser could not start its sound output. Connect a loudspeaker or headphones, then press Start again."],
  insecure: ["This page is not secure", "Browsers give sound and microphones only to HTTPS pages and to localhost. Open the page through https://, or start the server with --tls."],
  unsupported: ["This browser cannot do it", "Its support for audio worklets or microphones is missing. A current Chromium, Firefox or Safari will work."],
  unreachable: ["The server cannot be reached", "It may be down, or the network is. Check the connection, then press Start again."],
  paused: ["The sound is paused", "The browser or another program has stopped it, for a call for instance. The agent waits."],
  silenced: ["The microphone is silent", "The system or another program has muted it."],
  lost: ["The microphone is gone", "It was unplugged or taken away. Stop and start again to choose another one; until then you can type."],
};

const ENDED = {
  capacity: ["The server is full", "Every conversation it can hold is taken. Wait a moment, then press Start again."],
  draining: ["The server is stopping", "It finishes running replies and takes no new conversations. Try again in a minute."],
  unauthorized: ["The server wants an API key", "The key is missing or wrong. Enter it in the settings, then press Start again."],
  bad_key: ["This API key cannot be sent", "It contains characters that browsers cannot send. Check it in the settings."],
  bad_url: ["This server address cannot be used", "Check it in the settings. A page opened through https:// can only reach wss:// servers."],
  unreachable: SOUND.unreachable,
  idle: ["The conversation has ended", "Nothing was said for a while, so the server made room for others. Press Start to talk again."],
  replaced: ["The conversation goes on elsewhere", "Another window took it up."],
  too_large: ["The server refused a message", "It was too large. Press Start to begin again."],
  bad_hello: ["The server did not understand this page", "Page and server may be of different versions. Reload the page; if that does not help, check the settings."],
  internal: ["The server had a fault", "The conversation has ended. Press Start to begin again."],
  too_slow: ["The connection was too slow", "Your device or network did not keep up with what the server sent. Press Start to begin again."],
  finished: ["The server ended the conversation", "Press Start to begin a new one."],
};

const REMARKS = {
  overload: ["The server is falling behind", "A little of what you said was lost. Say it again if the answer does not fit."],
  resume_refused: ["A new conversation has begun", "The connection was away too long; the agent no longer knows what was said before."],
  conversation_reset: ["The agent starts afresh", "The conversation outgrew its memory; it no longer knows what was said before."],
  next_time: ["From the next conversation on", "What was emptied stays as it is in this one. Stop and start again for the server's own."],
  step_failed: ["This turn failed", "The server had a fault while answering. Please say it again."],
};

/** The notice for a server message that is not the end: {kind, title, text}. */
export function remark(code, message) {
  const [title, text] = REMARKS[code] ?? ["The server reports a problem", message];
  return { kind: "info", title, text };
}

/** The notice for the end of a conversation, or null when it needs none. */
export function ending(code, message) {
  if (code === "stopped") return null;
  const [title, text] = ENDED[code] ?? ["The conversation has ended", message || "Press Start to begin again."];
  const reason = code === "bad_hello" && message ? `It says: ${message}. ` : "";
  return { kind: "error", title, text: reason + text };
}
