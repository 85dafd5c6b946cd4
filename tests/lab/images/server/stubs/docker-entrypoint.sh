#!/bin/sh
# The filler: stands where a database, an object store or a sandbox would. Whatever its command says, it answers 200
# on the HTTP ports that official health checks ask (3000 sandbox and plugin, 9000 object store) and otherwise waits.
exec python3 /usr/local/bin/lab-filler
