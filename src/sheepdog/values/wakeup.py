"""What a server and the programs that wait for it say to wake each other: datagrams on this machine's loopback.

    program  -- LOOK: there are tasks ---------------->  the server, at the port in SETTING
             -- LISTEN: wake me, too ---------------->
             <- DONE: there was a commit -------------

A wake-up is a hint. Who misses it looks a little later anyway, and who is woken without cause looks in vain: so it
needs no secret.
"""

HERE = "127.0.0.1"
LOOK, LISTEN, DONE = b"look", b"listen", b"done"
REMEMBERED = 60.0  # seconds after which a listener must have said again that it listens
SETTING = "bell"  # of the database: an older program and a newer one meet there
"""The setting of a database with its server's port. Programs and servers of earlier versions know it by this name."""
