/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What fuzzers share that are clients of the httpd that they run in. */
#ifndef H2X_FUZZ_CLIENT_H
#define H2X_FUZZ_CLIENT_H

#include "fuzz.h"

#define CLIENT_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define CLIENT_NO_SETTINGS "\0\0\0\4\0\0\0\0\0"

/** How long a server may take for what it has to do. */
#define CLIENT_PATIENCE_MS 30000

/** Hooks that count httpd's connections; call it when hooks are registered. */
void client_register_hooks(void);

/** Connects to the port that a variable of the environment has. */
int client_join(const char *port);

/** Says that a client speaks HTTP/2, with settings as they are by default. */
void client_greet(int fd);

/** Waits until httpd has no connection any more. */
void client_await_end(void);

#endif /* H2X_FUZZ_CLIENT_H */
