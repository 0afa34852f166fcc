#!/bin/bash
# make check-threads: the engine's code under ThreadSanitizer, in the stock
# httpd, while clients make its threads meet in many ways (see meet.py).
# Says what it found; the exit status is 0 when that is nothing.
#
#     t/engine/threads/run.sh                       both MPMs, about two minutes
#     t/engine/threads/run.sh --seconds 600 --seed 7
#     H2X_MPM=worker t/engine/threads/run.sh        one of them

set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
apxs=${APXS:-apxs}
python=${PYTHON:-/usr/bin/python3}

work=$(mktemp -d "${H2X_TMPDIR:-/tmp}/h2x-threads-build-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# The runtime that is preloaded is gcc's.
command -v gcc >/dev/null || {
    echo "check-threads: needs gcc and its libtsan" >&2
    exit 1
}

query() {
    "$apxs" -q "$1"
}

build() { # target flags...
    local target=$1
    shift
    # shellcheck disable=SC2046
    gcc -fsanitize=thread -g -O1 -fPIC -shared -o "$work/$target" \
        -I"$top/include" $(query EXTRA_CPPFLAGS) \
        -I"$(query INCLUDEDIR)" -I"$(query APR_INCLUDEDIR)" \
        -I"$(query APU_INCLUDEDIR)" -DH2X_DEBUG '-DH2X_VERSION="threads"' "$@"
}

libs=(-lnghttp2 -lssl -lcrypto)
build preload.so "$here/preload.c"
sources=("$top"/*.c "$top"/{base,engine,request,session,wire}/*.c)
build mod_h2x.so "${sources[@]}" "${libs[@]}"
build mod_h2x_race.so -include "$here/race.h" "${sources[@]}" "${libs[@]}"

# It wants its memory where kernels with much randomness do not leave it.
plain=
if setarch -R true 2>/dev/null; then
    plain="setarch -R"
fi

meet() { # module flags...
    local module=$1
    shift
    H2X_SANITIZE=thread H2X_MODULE_SO="$work/$module" \
    TSAN_OPTIONS="suppressions=$here/suppressions:print_suppressions=0:\
history_size=7:second_deadlock_stack=1:atexit_sleep_ms=0:exitcode=0" \
    PYTHONDONTWRITEBYTECODE=1 \
        $plain "$python" "$here/meet.py" --preload "$work/preload.so" "$@"
}

meet mod_h2x_race.so --seconds 5 --expect-reports
status=0
for mpm in ${H2X_MPM:-event worker}; do
    meet mod_h2x.so --mpm "$mpm" "$@" || status=1
done
exit $status
