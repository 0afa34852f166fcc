"""What the environment says about a run of the tests; see README.md."""

import os

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

BUILDDIR = os.environ.get("H2X_BUILDDIR", TOP)
MODULE_SO = os.environ.get("H2X_MODULE_SO",
                           os.path.join(BUILDDIR, ".libs", "mod_h2x.so"))
STOCK = os.environ.get("H2X_TEST_STOCK", "") not in ("", "0")
MPM = os.environ.get("H2X_MPM", "event")
SANITIZE = os.environ.get("H2X_SANITIZE", "")
KEEP = os.environ.get("H2X_KEEP", "") not in ("", "0")
TRACE = os.environ.get("H2X_TRACE", "")
LONG = os.environ.get("H2X_LONG", "") not in ("", "0")
# A sanitizer or valgrind slows httpd down: all deadlines are stretched.
PATIENCE = float(os.environ.get("H2X_PATIENCE", "5" if SANITIZE else "1"))
