/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "h2x_queue.h"

void h2x_queue_init(h2x_queue *queue, int running_max)
{
    APR_RING_INIT(&queue->ready, h2x_stream, link);
    APR_RING_INIT(&queue->ended, h2x_stream, link);
    queue->running_max = running_max;
}

/* Does a request go before another? */
static int is_before(const h2x_stream *one, const h2x_stream *other)
{
    return one->priority.urgency < other->priority.urgency
           || (one->priority.urgency == other->priority.urgency
               && one->request.received < other->request.received);
}

static void insert(h2x_queue *queue, h2x_stream *stream)
{
    h2x_stream *last = APR_RING_LAST(&queue->ready);

    while (last != APR_RING_SENTINEL(&queue->ready, h2x_stream, link)
           && is_before(stream, last)) {
        last = APR_RING_PREV(last, link);
    }
    APR_RING_INSERT_AFTER(last, stream, link);
}

void h2x_queue_add(h2x_queue *queue, h2x_stream *stream)
{
    insert(queue, stream);
    ++queue->ready_count;
}

void h2x_queue_move(h2x_queue *queue, h2x_stream *stream)
{
    APR_RING_REMOVE(stream, link);
    insert(queue, stream);
}

void h2x_queue_remove(h2x_queue *queue, h2x_stream *stream)
{
    APR_RING_REMOVE(stream, link);
    --queue->ready_count;
}

void h2x_queue_add_ended(h2x_queue *queue, h2x_stream *stream)
{
    APR_RING_INSERT_TAIL(&queue->ended, stream, h2x_stream, link);
    ++queue->ended_count;
}

int h2x_queue_startable(const h2x_queue *queue)
{
    int room = queue->running_max - queue->running;

    return room < queue->ready_count ? (room > 0 ? room : 0)
                                     : queue->ready_count;
}

void h2x_queue_allow_beside(h2x_queue *queue, int count)
{
    int startable = h2x_queue_startable(queue);

    if (count > startable) {
        count = startable;
    }
    if (queue->beside < count) {
        queue->beside = count;
    }
}

h2x_stream *h2x_queue_pop(h2x_queue *queue)
{
    h2x_stream *stream;

    if (!h2x_queue_startable(queue)) {
        return NULL;
    }
    stream = APR_RING_FIRST(&queue->ready);
    h2x_queue_remove(queue, stream);
    if (queue->beside > queue->ready_count) {
        queue->beside = queue->ready_count; /* it is for these */
    }
    ++queue->running;
    h2x_stream_advance_locked(stream, H2X_STREAM_RUNNING);
    return stream;
}

h2x_stream *h2x_queue_pop_ended(h2x_queue *queue)
{
    h2x_stream *stream;

    if (!queue->ended_count) {
        return NULL;
    }
    stream = APR_RING_FIRST(&queue->ended);
    APR_RING_REMOVE(stream, link);
    --queue->ended_count;
    ++queue->running;
    return stream;
}
