"""`bin/client.py`: talk to a server from the terminal, with recordings for a voice."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duplex.audio.wav import WavError, write_wav
from duplex.bench.conversation import ClientOptions, ConversationError, converse
from duplex.bench.log import ConversationLog, Event
from duplex.bench.recordings import Recording, check_rate
from duplex.bench.report import event_line, summary, summary_text
from duplex.bench.script import AfterReply, At, Item, Trigger, Typed, Utterance, parse_trigger
from duplex.core.errors import ConfigError

EXIT_FAILED = 1
EXIT_USAGE = 2
FIRST_AT_SEC = 0.5

_EPILOG = """
times for --at: seconds since the session began, after-reply[+SEC] (the default for all but the first),
or during-reply[+SEC], which interrupts. Example:
  bin/client.py --input question.wav --input objection.wav --at during-reply+0.8 --output heard.wav --stereo
"""


class _Say(argparse.Action):
    """Collects --input, --say and --at in the order they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        script: list[tuple[str, str, str | None]] = list(getattr(namespace, "script", None) or [])
        if option_string == "--at":
            if not script:
                parser.error("--at belongs after the --input or --say it times")
            script[-1] = (script[-1][0], script[-1][1], values)
        else:
            script.append((str(option_string), values, None))
        namespace.script = script


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="bin/client.py",
        description="Stream recordings to a server in real time, hear its answers, and measure how long they took.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = options.add_argument
    add("--url", default="ws://127.0.0.1:8765", help="ws:// or wss://, the path defaults to /v1/duplex (%(default)s)")
    add("--input", action=_Say, metavar="WAV", help="say this recording: 8 to 48 kHz, PCM or float; may be repeated")
    add("--say", action=_Say, metavar="TEXT", help="type this instead of speaking; may be repeated")
    add("--at", action=_Say, metavar="WHEN", help="when to say the latest --input or --say; see below")
    add("--output", type=Path, metavar="WAV", help="save what was heard, on the session's clock")
    add("--stereo", action="store_true", help="save the user on the left and the agent on the right")
    add("--json", action="store_true", help="print one JSON object a line, the summary last")
    add("--trace", action="store_true", help="print the model's decision on every 160 ms chunk, too")
    add("--quiet", action="store_true", help="print the summary only")
    add("--repeat", type=_count, default=1, metavar="N", help="hold N conversations, one after the other")
    add("--tail", type=float, default=1.0, metavar="SEC", help="listen on after the last reply (%(default)s)")
    add("--reply-timeout", type=float, default=10.0, metavar="SEC", help="how long to wait for one (%(default)s)")
    add("--limit", type=float, default=600.0, metavar="SEC", help="longest conversation (%(default)s)")
    add("--rate", type=_rate, metavar="HZ", help="microphone rate (that of the first recording)")
    add("--output-rate", type=_rate, default=24000, metavar="HZ", help="loudspeaker rate (%(default)s)")
    add("--instructions", metavar="TEXT", help="system prompt")
    add("--temperature", type=float, help="of text sampling; 0 is greedy")
    add("--top-k", type=int)
    add("--top-p", type=float)
    add("--seed", type=int)
    add("--api-key", metavar="KEY")
    add("--insecure", action="store_true", help="accept any TLS certificate")
    add("--drop-at", type=float, metavar="SEC", help="break the connection then, and resume")
    return options


def build_script(parts: Sequence[tuple[str, str, str | None]]) -> list[Item]:
    """The items of a command line. Raises WavError, ConfigError, OSError."""
    script: list[Item] = []
    for option, value, when in parts:
        default: Trigger = AfterReply() if script else At(FIRST_AT_SEC)
        trigger = default if when is None else parse_trigger(when)
        script.append(Typed(value, trigger) if option == "--say" else Utterance(_recording(Path(value)), trigger))
    return script


def _recording(path: Path) -> Recording:
    recording = Recording.read(path)
    check_rate(recording.rate, path)
    return recording


def _rate(text: str) -> int:
    rate = int(text)
    try:
        check_rate(rate, "a stream")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return rate


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {count}")
    return count


def session_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The session part of hello: what was asked for, nothing else."""
    names = ("temperature", "top_k", "top_p", "seed")
    sampling = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    settings: dict[str, Any] = {"sampling": sampling} if sampling else {}
    if arguments.instructions is not None:
        settings["instructions"] = arguments.instructions
    return settings


def save(log: ConversationLog, path: Path, stereo: bool) -> None:
    """Write what was heard. Raises OSError."""
    write_wav(path, log.stereo() if stereo else log.heard, log.output_rate)


async def run(arguments: argparse.Namespace, script: Sequence[Item], logs: list[ConversationLog]) -> bool:
    """Hold the conversations, printing as they go, and put their logs into `logs`; whether that was all of them.

    The first Ctrl-C hangs up, a second one breaks off. Raises ConversationError, OSError.
    """
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    with contextlib.suppress(NotImplementedError):  # Windows: there the first one breaks off
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)

    def show(event: Event) -> None:
        line = event_line(event, as_json=arguments.json, trace=arguments.trace)
        if line is not None and not arguments.quiet:
            print(line, flush=True)

    options = ClientOptions(
        api_key=arguments.api_key,
        settings=session_settings(arguments),
        input_rate=arguments.rate,
        output_rate=arguments.output_rate,
        tail_sec=arguments.tail,
        reply_timeout_sec=arguments.reply_timeout,
        limit_sec=arguments.limit,
        drop_at_sec=arguments.drop_at,
        verify_tls=not arguments.insecure,
        trace=arguments.trace,
        on_event=show,
        is_over=lambda: stopped,
    )
    for number in range(1, arguments.repeat + 1):
        logs.append(await converse(arguments.url, script, options))
        if arguments.output is not None:
            several = arguments.repeat > 1
            name = f"{arguments.output.stem}-{number}{arguments.output.suffix}" if several else arguments.output.name
            save(logs[-1], arguments.output.with_name(name), arguments.stereo)
        if stopped:
            break
    return not stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client. Exit code 0 when every conversation was held to its end and every item answered."""
    parsed = parser().parse_args(arguments)
    try:
        script = build_script(getattr(parsed, "script", None) or [])
    except (WavError, ConfigError, OSError) as error:
        print(f"client: {error}", file=sys.stderr)
        return EXIT_USAGE
    if parsed.output is not None and not parsed.output.parent.is_dir():
        print(f"client: there is no folder {parsed.output.parent} for --output", file=sys.stderr)
        return EXIT_USAGE
    logs: list[ConversationLog] = []
    whole = False
    try:
        whole = asyncio.run(run(parsed, script, logs))
    except (ConversationError, OSError) as error:
        print(f"client: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    if not logs:
        return EXIT_FAILED
    ended = [log for log in logs if log.close_code != 1000]
    for log in ended:
        print(f"client: the connection ended with {log.close_code} {log.close_reason}".rstrip(), file=sys.stderr)
    report = summary(logs)
    print(json.dumps(report, ensure_ascii=False) if parsed.json else "\n" + summary_text(report))
    return 0 if whole and not ended and not report["unanswered"] else EXIT_FAILED
