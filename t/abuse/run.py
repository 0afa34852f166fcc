"""Runs the attacks against mod_h2x, and for comparison against mod_http2 and
nginx, and writes the table between the markers of SECURITY.md and README.md:
`make abuse`.  With arguments: only these servers anew."""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TITLES = {"h2x": "mod_h2x", "stock": "mod_http2", "nginx": "nginx"}
BUILDDIR = os.environ.get("H2X_BUILDDIR", TOP)


def path_of(target):
    return os.path.join(BUILDDIR, "abuse.dir", target)


def attack(target):
    """All rows against one server; the reports are kept."""
    os.makedirs(os.path.dirname(path_of(target)), exist_ok=True)
    with open(path_of(target), "w"):
        pass
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q",
         "--tb=line", HERE], stdout=sys.stderr,
        env=dict(os.environ, H2X_ABUSE=target,
                 H2X_ABUSE_REPORT=path_of(target)))


def reports(target):
    """In the order of the table."""
    with open(path_of(target)) as f:
        rows = [json.loads(line) for line in f]
    return sorted(rows, key=lambda r: r["row"])


def merged(rows):
    """By row and name: what several tests of one have told."""
    found = {}
    for r in rows:
        one = found.setdefault((r["row"], r["name"]), {
            "outcomes": [], "wrong": [], "notes": r["notes"]})
        for key, new in (("outcomes", [r["outcome"]]), ("wrong", r["wrong"])):
            one[key] += [x for x in new if x and x not in one[key]]
    return found


def cell(one):
    """Outcome, and what did not hold but the code."""
    if not one or not (one["outcomes"] or one["wrong"]):
        return ""
    text = ", ".join(one["outcomes"]).replace("ENHANCE_YOUR_CALM", "CALM")
    text = text.replace("GOAWAY ", "")
    wrong = []
    for why in one["wrong"]:
        # without the details, which are for those who look into a test
        why = re.split(r": [<\[]|, after frames|\n", why)[0]
        if " in place of GOAWAY" not in why and why not in wrong + [text]:
            wrong.append(why)
    return (text + " **%s**" % "; ".join(wrong) if wrong else text).strip()


def table(found):
    rows = ["| # | attack | %s | measured |" % " | ".join(
        TITLES[t] for t in found), "|---|---|%s---|" % ("---|" * len(found))]
    first = next(iter(found))
    for key, one in found[first].items():
        rows.append("| %d | %s | %s | %s |" % (
            key[0], key[1],
            " | ".join(cell(found[t].get(key)) for t in found),
            ", ".join(one["notes"])))
    return "\n".join(rows) + "\n"


def put(path, text):
    with open(path, encoding="utf-8") as f:
        old = f.read()
    new, count = re.subn(
        r"(<!-- abuse:start -->\n).*?(<!-- abuse:end -->)",
        lambda m: m[1] + text + m[2], old, flags=re.S)
    if count != 1:
        raise SystemExit("abuse: %s needs <!-- abuse:start --> and "
                         "<!-- abuse:end -->" % path)
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)


def summary(found):
    """For README.md: in how many rows each server held."""
    lines = []
    for target, rows in found.items():
        tried = [r for r in rows.values() if r["outcomes"] or r["wrong"]]
        good = [r for r in tried if not r["wrong"]]
        lines.append("| %s | %d | %d |" % (TITLES[target], len(tried),
                                           len(good)))
    return "| server | attacks tried | all conditions held |\n" \
        "|---|---:|---:|\n" + "\n".join(lines) + "\n"


def write(found):
    put(os.path.join(TOP, "SECURITY.md"), table(found))
    put(os.path.join(TOP, "README.md"), summary(found))


def main():
    for target in sys.argv[1:] or [
            t for t in TITLES if t != "nginx" or shutil.which(
                "nginx", path=os.environ["PATH"] + ":/usr/sbin")]:
        attack(target)
    write({t: merged(reports(t)) for t in TITLES
           if os.path.exists(path_of(t))})


if __name__ == "__main__":
    main()
