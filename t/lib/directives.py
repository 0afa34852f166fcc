"""All directives with the values that they take."""

import pytest

INT_MAX = 2 ** 31 - 1
INT64_MAX = 2 ** 63 - 1

FLAGS = ["H2Direct", "H2ModernTLSOnly", "H2OutputBuffering", "H2CopyFiles",
         "H2Push", "H2EarlyHints", "H2Upgrade", "H2WebSockets",
         "H2ProxyRequests", "H2SerializeHeaders"]
NUMBERS = {     # least, greatest
    "H2MaxSessionStreams": (1, INT_MAX),
    "H2WindowSize": (1024, INT_MAX),
    "H2StreamMaxMemSize": (1024, INT_MAX),
    "H2MinWorkers": (1, INT_MAX),
    "H2MaxWorkers": (1, INT_MAX),
    "H2TLSWarmUpSize": (0, INT64_MAX),
    "H2TLSCoolDownSecs": (0, INT_MAX),
    "H2MaxDataFrameLen": (0, INT_MAX),
    "H2MaxHeaderBlockLen": (0, INT_MAX),
    "H2PushDiarySize": (0, 65536),
    "H2Padding": (0, 8),
    "H2Guard": (0, INT_MAX),
    "H2MaxStreamErrors": (0, INT_MAX),
    "H2MinRate": (0, INT_MAX),
    "H2SessionExtraFiles": (0, INT_MAX),
}
TIMES = ["H2StreamTimeout", "H2MaxWorkerIdleSeconds"]
# of several arguments: see test_directives_push.py and test_origin.py
LISTS = ["H2PushPriority", "H2PushResource", "H2EarlyHint", "H2Origin"]
ONE_VALUE = FLAGS + list(NUMBERS) + TIMES
ALL = ONE_VALUE + LISTS

STRICT = pytest.mark.h2x_only("takes values that it does not mean")
