#!/bin/bash
# make fuzz: gives each fuzzer of this directory FUZZ_SECONDS of inputs, with
# the engine under AddressSanitizer and UBSan. The exit status is 0 when none
# found anything. FUZZ chooses fuzzers: make fuzz FUZZ="link" FUZZ_SECONDS=600
#
# To add one: write fuzz_NAME.c, or inside_NAME.c when it needs httpd around it
# (see fuzz.h), and, if they help, NAME.dict and a function in seeds.py. All it
# does goes to the build directory: what a fuzzer learnt (corpus/), and the
# inputs that it fails with (found/), which are the first ones of the next run.
# With an nghttp2 that clang built with AddressSanitizer and -fPIC they see into
# that too: make fuzz NGHTTP2_LIBS=/path/libnghttp2.a

set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
python=${PYTHON:-/usr/bin/python3}
cc=${FUZZ_CC:-clang}
seconds=${FUZZ_SECONDS:-60}
dir=${FUZZ_DIR:-fuzz.dir}
read -ra cppflags <<<"${H2X_CPPFLAGS:-}"
read -ra libs <<<"${H2X_LIBS:-}"
# APR's rings find the offset of a member as if there were one at NULL.
# shellcheck disable=SC2054
cflags=(-g -O1 -std=gnu99 -fno-omit-frame-pointer
    -fsanitize=address,undefined -fno-sanitize-recover=undefined
    -fno-sanitize=null,object-size)

fail() {
    echo "make fuzz: $*" >&2
    exit 1
}

names=${FUZZ:-}
if [ -z "$names" ]; then
    for source in "$here"/{fuzz,inside}_*.c; do
        name=$(basename "$source" .c)
        names+=" ${name#*_}"
    done
fi
for name in $names; do
    [ -f "$here/fuzz_$name.c" ] || [ -f "$here/inside_$name.c" ] ||
        fail "there is no fuzz_$name.c or inside_$name.c"
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] ||
    fail "FUZZ_SECONDS is a number from 1, not '$seconds'"
command -v "$cc" >/dev/null ||
    fail "$cc is missing: fuzzers need clang (Debian: clang)"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
echo '*' >"$dir/.gitignore"
objects=$dir/objects
rm -rf "$objects"
mkdir "$objects"

echo 'int LLVMFuzzerTestOneInput(const char *data, long size);
int LLVMFuzzerTestOneInput(const char *data, long size)
{ return !data && size; }' >"$objects/try.c"
"$cc" "${cflags[@]}" -fsanitize=fuzzer -o "$objects/try" "$objects/try.c" \
    2>"$objects/try.log" ||
    fail "$cc lacks what fuzzers are linked with (Debian: libclang-rt-14-dev," \
        "the number being that of clang --version):" \
        "$(head -n 3 "$objects/try.log")"

# --- building -----------------------------------------------------------------

compile() { # object source
    "$cc" "${cflags[@]}" -fPIC -fsanitize=fuzzer-no-link "${cppflags[@]}" \
        -DH2X_DEBUG '-DH2X_VERSION="fuzz"' -c -o "$1" "$2"
}

# All sources, of which a fuzzer links those that it calls, as a unit test does.
echo "Building the sources for fuzzers"
for source in "$top"/{,base/,engine/,request/,session/,wire/}h2x_*.c \
    "$top"/t/unit/{stubs,session}.c \
    "$here"/{client,fuzz,input,wire}.c; do
    compile "$objects/$(basename "$source" .c).o" "$source"
done
ar rcs "$objects/libh2x.a" "$objects"/*.o

runtime() { # name.kind
    "$cc" -print-file-name="libclang_rt.${1%.*}-$(arch).${1##*.}"
}

# The module, the fuzzer and libFuzzer are one; fuzz_NAME runs httpd with it.
build_inside() { # name
    local source module=$dir/inside_$1.so inside=$objects/inside
    mkdir -p "$inside"
    for source in "$top/mod_h2x.c" "$here/inside.c" "$here/inside_$1.c"; do
        compile "$inside/$(basename "$source" .c).o" "$source"
    done
    "$cc" "${cflags[@]}" -shared -shared-libasan -Wl,-Bsymbolic \
        -o "$module" \
        "$inside/mod_h2x.o" "$inside/inside.o" "$inside/inside_$1.o" \
        "$objects"/h2x_*.o "$objects"/{client,input}.o -Wl,--whole-archive \
        "$(runtime fuzzer_no_main.a)" \
        -Wl,--no-whole-archive "${libs[@]}" -lstdc++ -lm
    printf '#!/bin/bash\nPYTHONDONTWRITEBYTECODE=1 exec %q %q %q %q "$@"\n' \
        "$python" "$here/inside.py" "$module" \
        "$(runtime asan.so)" >"$dir/fuzz_$1"
    chmod +x "$dir/fuzz_$1"
}

build() { # name
    if [ -f "$here/inside_$1.c" ]; then
        build_inside "$1"
        return
    fi
    compile "$objects/fuzz_$1.o" "$here/fuzz_$1.c"
    # fuzz.o by name: its apr_palloc() comes before APR's
    "$cc" "${cflags[@]}" -fsanitize=fuzzer -o "$dir/fuzz_$1" \
        "$objects/fuzz_$1.o" "$objects/fuzz.o" "$objects/libh2x.a" \
        "${libs[@]}"
}

# --- running ------------------------------------------------------------------

run() { # name
    local corpus=$dir/corpus/$1 found=$dir/found/$1 seeds=$dir/seeds/$1
    local log=$dir/$1.log options=()

    rm -rf "$seeds"
    mkdir -p "$corpus" "$found" "$seeds"
    chmod 777 "$corpus" "$found" # a child of httpd may be another user
    "$python" "$here/seeds.py" "$1" "$seeds"
    if [ -f "$here/$1.dict" ]; then
        options+=(-dict="$here/$1.dict")
    fi
    echo "fuzz_$1: $seconds seconds, log in $log"
    if "$dir/fuzz_$1" -max_total_time="$seconds" -timeout=60 \
        -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="$found/" "${options[@]}" \
        "$corpus" "$seeds" "$found" >"$log" 2>&1; then
        echo "fuzz_$1: nothing found in" \
            "$(awk '/number_of_executed_units/ { print $2 }' "$log") inputs"
        return
    fi
    grep -E -A 20 'ERROR: |runtime error: |does not hold: ' "$log" | head -n 40
    grep -E '^SUMMARY: |Test unit written' "$log"
    echo "fuzz_$1: FAILED. To see it again: $dir/fuzz_$1 $found/<file>"
    return 1
}

for name in $names; do
    build "$name"
done
status=0
for name in $names; do
    run "$name" || status=1
done
exit $status
