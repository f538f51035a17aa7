"""The script of a job with several hosts: each host sends its name to the others over TCP."""

import json
import os
import socket
import time

me, hosts = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
others = [host for host in hosts if host != me]
with socket.create_server((me, 7777)) as server:
    deadline = time.monotonic() + 60
    for other in others:
        while True:
            try:
                with socket.create_connection((other, 7777)) as connection:
                    connection.sendall(me.encode())
                break
            except ConnectionRefusedError:  # the other host does not listen yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    heard = []
    for _ in others:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.makefile().read())
print(me, "of", *hosts, "heard", *sorted(heard))
