/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <httpd.h>
#include <http_log.h>
#include <http_main.h>

#include "h2x.h"
#include "h2x_clock.h"
#include "h2x_memory.h"

/* Time between two log lines of a child, in microseconds. */
#define TELL_EVERY (10 * 1000 * 1000)

void h2x_memory_missing(void)
{
    static apr_uint64_t told_at;

    if (h2x_clock_is_time(&told_at, TELL_EVERY)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, APR_ENOMEM, ap_server_conf,
                     "h2x: out of memory: dropping streams or connections");
    }
}
