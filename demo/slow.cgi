#!/bin/sh
# A part that takes two seconds, as a slow database would make it.
sleep 2
printf 'Content-Type: text/plain\r\n\r\ndone\n'
