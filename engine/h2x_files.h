/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Descriptors of files that wait to be sent: what a connection may have of
 * those of its child.
 */
#ifndef H2X_FILES_H
#define H2X_FILES_H

#include "h2x_core.h"

/**
 * Tells whether a stream may keep one more, and counts it then.
 * @param fd the system gives out the lowest number that is free
 */
int h2x_files_keep_locked(h2x_drive *drive, h2x_stream *stream,
                          apr_os_file_t fd);

/** Those of a stream were closed. */
void h2x_files_closed_locked(h2x_drive *drive, h2x_stream *stream);

#endif /* H2X_FILES_H */
