"""Sizes and times that the worker keeps to; the host keeps to some of them, too."""

PROTOCOL = 2  # of the exchange between worker and server

# Sizes, in bytes.
CHUNK = 1 << 20
COPIED = 64 << 10  # what is smaller is copied together with its neighbours
IN_MEMORY = 8 << 20  # a larger blob waits in a temporary file
MAX_HEADER = 8 << 20
MAX_TEXT = 64 << 10  # of an error
MAX_EXCEPTION = 256 << 10  # of the pickle of one
MAX_OUTPUT = 16 << 10  # what is kept of a task's output, if nobody says: its end
MAX_VALUE = 950_000_000  # of a function, arguments or a result: SQLite holds at most 1,000,000,000 bytes in a row
MAX_CALL = 32 << 20  # outcomes sent in one call, unless a single one is larger
MAX_MESSAGES = 64 << 20  # messages that wait for the server; a task that says more waits, too

# Numbers of tasks.
MAX_BATCH = 1000
FETCH_AHEAD = 50  # that a batch should hold, from which on the next is fetched while it runs
FAILING = 5  # tasks in a row that fail, after which those behind them are given back: it may be this host's fault
WORDS = 10  # texts for the user in one call
KEPT_FUNCTIONS = 50  # of calls, that a worker keeps
RECENT_TASKS = 50  # from whose times the next ones are judged
RECENT_REPLIES = 5  # of the server's, of which the soonest counts: others may have come with much, or met a pause

# Times, in seconds.
BATCH_SECONDS = 0.5  # the work that a batch should hold, at least
BATCH_MOST = 10.0  # ... and at most
BATCH_REPLIES = 20  # ... as a multiple of the time in which the server replies
BATCH_STUCK = 1.0  # a batch that takes longer than this gives its unstarted tasks back, or than twice its work
MESSAGE_PAUSE = 0.1  # from one call to the next that tasks have something to say
LISTEN_PAUSE = 0.02  # at most, between two looks at a child that has much to say
TRIM_PAUSE = 0.1  # between two looks at what a task prints
TRIM_PAUSE_BUSY = 0.01  # ... if it prints much
LOOK_PAUSE = 0.001  # between two looks for processes that quick tasks have left
MEASURED = 0.001  # a task that is quicker has as much memory as the one before
SUSPENDED = 3.0  # a longer wait was no wait
CONNECT_TIMEOUT = 20.0  # for a connection; less than schedulers leave between a warning and the kill
HEAD_START = 1.0  # that a better way to the server has
STAGGER = 0.1  # from one address to the next, while several are called
FOUND_AT_ONCE = 0.1  # in which most names have been looked up
BETTER_PAUSE = 300.0  # between two looks for a better way
BETTER_TIMEOUT = 2.0  # for which it is looked for
REPLY_TIMEOUT = 60.0  # ... and for a reply
MAX_RETRY_AFTER = 120
SPARE_PATIENCE = 600.0  # how long a worker that has nothing to do, yet or any more, looks for the server
GONE_PATIENCE = 300.0  # how long its secret may be gone while it does: the request has ended then
LOADING = 300.0  # what loading the function may take beside a task's timeout
KILL_GRACE = 5.0  # between SIGTERM and SIGKILL
STRAGGLE = 0.05  # how long threads and processes that are about to end are waited for
NOTICE = 30.0  # between a warning and the kill, if nobody says
LEAVING_BEAT = 5.0  # between two calls of a worker that is leaving
