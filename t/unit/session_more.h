/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What tests of promises and priorities share. */
#ifndef H2X_UNIT_SESSION_MORE_H
#define H2X_UNIT_SESSION_MORE_H

#include "session.h"

/** Asks for a page, which runs. */
h2x_stream *open_page(void);

/** A stream says promises, and a head or NULL. Promises `count` resources,
 * whose paths are /FIRST and so on; or just one. */
h2x_promise *add_promise(h2x_stream *stream, h2x_promise **list,
                         const char *path);
void say_promises(h2x_stream *stream, h2x_promise *promises,
                  const char *text);
void promise_many(h2x_stream *stream, int first, int count, const char *text);
void promise_one(h2x_stream *stream, const char *path, const char *text);

/** What all promises of a stream have in common, if it is not this. */
void set_promising(h2x_stream *stream);

/** A page with one promise, whose request is ready: ready[1]. */
h2x_stream *promise_a_style(void);

/** The place of a stream's first frame of a type, or -1; and how many frames
 * of a type there were. */
int place(int type, int32_t id);
int count_frames(int type);

int was_closed(const h2x_stream *stream);

/** Begins with windows that are in nobody's way. */
void begin_wide(void);

/** Gives the server a PRIORITY_UPDATE for a stream. */
void update(int32_t id, const char *value);

/** Asks with a Priority field, or none. */
int32_t ask_with(const char *priority);

void check_priority(const h2x_stream *stream, int urgency,
                    int is_incremental);

/** The same for the newest that is ready. */
void check_newest(int urgency, int is_incremental);

/** Long enough for several frames. */
#define LEN 100000
#define FRAME 16384

/** All requests that are ready get the same response, of LEN bytes, all at
 * once. */
void respond_to_all(void);

/** The ids of streams in the order in which LEN bytes of them had come. */
const char *order(void);

/** How many streams had begun but were not whole at any one time. */
int at_a_time(void);

#endif /* H2X_UNIT_SESSION_MORE_H */
