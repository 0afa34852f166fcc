/* Makes a race of each value that the engine sets atomically and others read:
 * what run.sh shows to the checker, to see that it sees. */

#include <apr_atomic.h>

#define apr_atomic_set32(mem, val) (*(mem) = (val))
#define apr_atomic_set64(mem, val) (*(mem) = (val))
