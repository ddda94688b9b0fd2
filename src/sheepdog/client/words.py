"""Words for people: errors, and memory that was not enough."""

import traceback

from .wire.limits import MAX_TEXT

JOB = __name__.rpartition(".")[0] + ".job"


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """Cut the middle out of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - 2 * half, text[-half:])


def explain(error: BaseException, skip: int = 0) -> bytes:
    """Return an exception as text: a one-line summary, then the traceback without its first frames, which are ours."""
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
        summary = "%s: %s" % (name, message) if message else name
    except BaseException:
        summary = name + " (its message cannot be shown)"
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None else None
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == JOB:
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        text = "".join(traceback.format_tb(trace))
    if len(summary) > 500:
        summary = summary[:500] + " ..."
    words = summary + "\n" + shorten(text)
    return words.replace("\0", "\\x00").encode("utf-8", "backslashreplace")  # what follows a NUL is no text


def in_words(size: int) -> str:
    """Return a size of memory for people; 1 GB is what schedulers call 1G."""
    return "%.1f GB" % (size / 2.0**30) if size >= 1 << 30 else "%d MB" % (size >> 20)


def out_of_memory(peak: int, limits: "list[int]") -> str:
    """Return the sentence for a task that ran out of memory."""
    text = "out of memory: its process had %s at most" % in_words(peak)
    return text + ", the limit is %s" % in_words(min(limits)) if limits else text
