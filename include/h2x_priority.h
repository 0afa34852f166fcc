/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * Priorities as clients and handlers signal them (RFC 9218). Pure.
 */
#ifndef H2X_PRIORITY_H
#define H2X_PRIORITY_H

#include <apr.h>

#define H2X_URGENCY_HIGHEST 0
#define H2X_URGENCY_DEFAULT 3
#define H2X_URGENCY_LOWEST 7

/** The priority of a response among those of its connection. */
typedef struct h2x_priority {
    int urgency;        /* 0 to 7; the lower, the sooner */
    int is_incremental; /* 1: in turn with others; 0: one after the other */
} h2x_priority;

/**
 * Parses the value of a Priority field: a dictionary of structured fields
 * (RFC 8941, section 3.2). A parameter that is missing or invalid keeps its
 * value in *priority; all of them do if the field is malformed (RFC 9218,
 * section 4).
 * @param value may be NULL if len is 0
 * @return 0 when it is malformed
 */
int h2x_priority_parse(h2x_priority *priority, const char *value,
                       apr_size_t len);

#endif /* H2X_PRIORITY_H */
