/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include <apr_atomic.h>

#include "h2x_files.h"

/* So many a connection may have while half of the child's are in use. */
#define LEAST 8

/*
 * Half of what the child may have is divided by the connections that have any.
 * They may have had larger shares before: so what shows that half is in use
 * counts as well, and nobody gets of the last quarter.
 */
static int has_share(const h2x_drive *drive, apr_os_file_t fd)
{
    int half = h2x_child_self->descriptors / 2;
    apr_uint32_t others = apr_atomic_read32(&h2x_child_self->with_files)
                          - (drive->open_files != 0);

    if (fd >= half + half / 2) {
        return 0;
    }
    return drive->open_files < LEAST
           || (fd < half && drive->open_files < half / (int)(others + 1));
}

int h2x_files_keep_locked(h2x_drive *drive, h2x_stream *stream,
                          apr_os_file_t fd)
{
    h2x_lock_check(&drive->lock);
    if (!has_share(drive, fd)) {
        return 0;
    }
    ++stream->job.open_files;
    if (!drive->open_files++) {
        apr_atomic_inc32(&h2x_child_self->with_files);
    }
    return 1;
}

void h2x_files_closed_locked(h2x_drive *drive, h2x_stream *stream)
{
    h2x_lock_check(&drive->lock);
    if (stream->job.open_files) {
        drive->open_files -= stream->job.open_files;
        stream->job.open_files = 0;
        if (!drive->open_files) {
            apr_atomic_dec32(&h2x_child_self->with_files);
        }
    }
}
