/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* A module that runs libFuzzer within httpd. FUZZ_ARGS has its arguments, one
 * a line. */

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>

#define ARGS_MAX 64

int LLVMFuzzerRunDriver(int *argc, char ***argv,
                        int (*test)(const uint8_t *data, size_t size));

apr_pool_t *unit_pool;
static apr_pool_t *top;

void fuzz_begin(const uint8_t *data, size_t size)
{
    fuzz_set_input(data, size);
    apr_pool_create(&unit_pool, top);
}

void fuzz_end(void)
{
    apr_pool_destroy(unit_pool);
}

/* The other threads do not stop for the end of the process. */
static void leave(int status, void *unused UNUSED)
{
    _exit(status);
}

static void *APR_THREAD_FUNC run(apr_thread_t *thread UNUSED,
                                 void *unused UNUSED)
{
    static char *args[ARGS_MAX];
    char **argv = args, *last;
    int argc = 0;

    args[argc++] = "fuzz";
    args[argc] = apr_strtok(apr_pstrdup(top, getenv("FUZZ_ARGS")), "\n",
                            &last);
    while (args[argc] && argc < ARGS_MAX - 1) {
        args[++argc] = apr_strtok(NULL, "\n", &last);
    }
    on_exit(leave, NULL);
    exit(LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput));
}

static int post_config(apr_pool_t *p, apr_pool_t *plog UNUSED,
                       apr_pool_t *ptemp UNUSED, server_rec *s UNUSED)
{
    if (!fuzz_is_in_child
        && ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_CONFIG) {
        apr_pool_create(&top, p);
        run(NULL, NULL);
    }
    return OK;
}

static void child_init(apr_pool_t *p UNUSED, server_rec *s UNUSED)
{
    apr_thread_t *thread;

    if (fuzz_is_in_child) {
        apr_pool_create_unmanaged_ex(&top, NULL, NULL);
        FUZZ_CHECK(apr_thread_create(&thread, NULL, run, NULL, top)
                   == APR_SUCCESS);
    }
}

static void register_hooks(apr_pool_t *p UNUSED)
{
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_REALLY_LAST);
}

module AP_MODULE_DECLARE_DATA fuzz_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
