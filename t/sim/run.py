"""make sim: many schedules of the simulation, on all processors.

    make sim                         100,000 schedules
    make sim SCHEDULES=1000000 FROM=1
    make sim-faults                  is it any good? See below

A seed that fails is tried again with fewer clients and actions, and the
smallest that still fails is told, with all that happens in it.

`--faults` builds the engine with a fault planted, by each of faults/*.patch in
turn, and runs schedules until one fails: a fault that none finds fails the run,
and so does a patch that does not apply any more."""

import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILDDIR = os.environ.get("H2X_BUILDDIR", TOP)

#: Schedules that a process runs before it takes the next ones.
PORTION = 1000


def simulate(binary, *args, timeout=550):
    """Returns the exit status, and what it prints."""
    done = subprocess.run([binary, *map(str, args)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=timeout, check=False)
    return done.returncode, done.stdout


def failing_seed(output):
    found = re.search(r"^seed (\d+),", output, re.M)
    return int(found[1]) if found else None


def make_smaller(binary, seed):
    """The fewest clients and actions with which a seed still fails."""
    for clients in range(1, 7):
        for actions in (1, 2, 4, 8, 12, 20):
            args = ["--seed", seed, "--clients", clients, "--actions", actions]
            if simulate(binary, *args)[0]:
                return args
    return ["--seed", seed]


def tell(binary, seed, output):
    print(output)
    args = make_smaller(binary, seed)
    print("sim %s -v" % " ".join(map(str, args)))
    lines = simulate(binary, *args, "-v")[1].splitlines()
    print("\n".join(lines[-100:]))


def run(binary, first, count):
    """Runs schedules in parallel. Returns the first that failed, or None."""
    workers = len(os.sched_getaffinity(0))
    done = 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        starts = range(first, first + count, PORTION)
        jobs = [pool.submit(simulate, binary, "--from", start, "--count",
                            min(PORTION, first + count - start))
                for start in starts]
        for job in jobs:
            status, output = job.result()
            if status:
                for other in jobs:
                    other.cancel()
                return failing_seed(output), output
            done += PORTION
            if done % (20 * PORTION) == 0:
                print("%d schedules" % done, flush=True)
    return None


# --- planted faults ----------------------------------------------------------

def must(*command, cwd):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        sys.exit("sim-faults: %s: %s" % (" ".join(command), done.stdout))


def copy_sources(tree):
    must("make", "-s", "distdir", "distdir=" + tree, cwd=BUILDDIR)
    must("chmod", "-R", "u+w", tree, cwd=BUILDDIR)
    must("./configure", "-q", "--enable-debug", cwd=tree)


def try_fault(tree, patch, count):
    """Returns 0 if no schedule finds it."""
    must("patch", "-s", "-p1", "-i", patch, cwd=tree)
    must("make", "-s", "t/sim/sim", cwd=tree)
    try:
        status, output = simulate(os.path.join(tree, "t", "sim", "sim"),
                                  "--count", count)
    except subprocess.TimeoutExpired:
        status, output = 0, "does not come back"
    must("patch", "-s", "-R", "-p1", "-i", patch, cwd=tree)
    said = [line for line in output.splitlines() if line.startswith("seed")]
    print("%-36s %s" % (os.path.basename(patch)[:-len(".patch")],
                        "NOT FOUND: " + output[:80] if not status
                        else "found: " + said[0][:120] if said
                        else "found: status %d" % status), flush=True)
    return status


def try_faults(count):
    patches = sorted(glob.glob(os.path.join(HERE, "faults", "*.patch")))
    with tempfile.TemporaryDirectory() as directory:
        tree = os.path.join(directory, "tree")
        copy_sources(tree)
        return [os.path.basename(p) for p in patches
                if not try_fault(tree, p, count)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args()
    if args.faults:
        missed = try_faults(args.count)
        sys.exit("sim-faults: not found: " + " ".join(missed)
                 if missed else 0)
    binary = os.path.join(BUILDDIR, "t", "sim", "sim")
    failed = run(binary, args.first, args.count)
    if failed:
        tell(binary, *failed)
        sys.exit(1)
    print("%d schedules, none failed" % args.count)


if __name__ == "__main__":
    main()
