"""The script of a job of several hosts: each sends its name to the others over TCP, by name and on one port."""

import json
import os
import socket

me, hosts = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
others = [host for host in hosts if host != me]
with socket.create_server((me, 7777)) as server:
    for other in others:
        while True:
            try:
                with socket.create_connection((other, 7777)) as connection:
                    connection.sendall(me.encode())
                break
            except ConnectionRefusedError:
                pass  # it does not listen yet
    heard = []
    for _ in others:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.makefile().read())
print(me, "of", *hosts, "heard", *sorted(heard))
